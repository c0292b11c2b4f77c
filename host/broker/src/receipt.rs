//! Receipts: what a consumer shows to settle a lease. `FORMATS.md`, What clients hold.

use bytes::{Buf, BufMut};
use pointsman_model::{GroupId, QueueId, QueueOffset, ShardId, TenantId, Term, Timestamp, TopicId};

use crate::signing::{Key, Keys, open};

const PREFIX: &str = "r1.";
const SIGNATURE_BYTES: usize = 16;
const BYTES: usize = 51;

/// What a receipt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) shard: ShardId,
    pub(crate) tenant: TenantId,
    pub(crate) group: GroupId,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) offset: QueueOffset,
    pub(crate) attempt: u16,
    /// The term whose leader gave it.
    pub(crate) term: Term,
    /// The dispatcher that gave it (high half) and its number there (low half).
    pub(crate) session: u64,
    /// When the lease ran out as first given; extensions are the leader's memory.
    pub(crate) expires: Timestamp,
}

impl Receipt {
    /// The text that a consumer holds.
    pub(crate) fn seal(&self, key: &Key) -> String {
        let mut bytes = Vec::with_capacity(BYTES + SIGNATURE_BYTES);
        bytes.put_u8(key.id);
        bytes.put_u16_le(self.shard.0);
        bytes.put_u32_le(self.tenant.0);
        bytes.put_u32_le(self.group.0);
        bytes.put_u32_le(self.topic.0);
        bytes.put_u16_le(self.queue.0);
        bytes.put_u64_le(self.offset.0);
        bytes.put_u16_le(self.attempt);
        bytes.put_u64_le(self.term.0);
        bytes.put_u64_le(self.session);
        bytes.put_u64_le(self.expires.0);
        key.seal::<SIGNATURE_BYTES>(PREFIX, bytes)
    }

    /// Reads a receipt that this cluster made; `None` for anything else.
    pub(crate) fn open(text: &str, keys: &Keys) -> Option<Self> {
        let of_first_byte = |bytes: &[u8]| bytes.first().and_then(|id| keys.get(*id)).into_iter().collect();
        let bytes = open::<SIGNATURE_BYTES>(text, PREFIX, of_first_byte)?;
        if bytes.len() != BYTES {
            return None;
        }
        let mut b = &bytes[1..];
        Some(Self {
            shard: ShardId(b.get_u16_le()),
            tenant: TenantId(b.get_u32_le()),
            group: GroupId(b.get_u32_le()),
            topic: TopicId(b.get_u32_le()),
            queue: QueueId(b.get_u16_le()),
            offset: QueueOffset(b.get_u64_le()),
            attempt: b.get_u16_le(),
            term: Term(b.get_u64_le()),
            session: b.get_u64_le(),
            expires: Timestamp(b.get_u64_le()),
        })
    }
}
