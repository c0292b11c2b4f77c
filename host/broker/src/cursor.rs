//! Cursors that clients hold: of streams (`c1.`) and of lists (`p1.`). `FORMATS.md`, What clients hold.

use bytes::{Buf, BufMut};
use pointsman_model::{LogIndex, Ordinal, ShardId, TenantId, TopicId, hash};

use crate::error::Error;
use crate::signing::{Keys, open};

const SIGNATURE_BYTES: usize = 8;
const STREAM_PREFIX: &str = "c1.";
const LIST_PREFIX: &str = "p1.";
const SCOPE_BYTES: usize = 8;
const PLACE_BYTES: usize = 12;

/// A place in a shard's log: "deliver after".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamCursor {
    pub(crate) shard: ShardId,
    pub(crate) place: (LogIndex, Ordinal),
}

/// What the streams of a topic have in common, and no other topic's: ids are never reused.
pub(crate) fn topic_scope(tenant: TenantId, topic: TopicId) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&tenant.0.to_le_bytes());
    bytes[4..].copy_from_slice(&topic.0.to_le_bytes());
    hash::hash(&bytes)
}

impl StreamCursor {
    /// The text that a client holds.
    pub(crate) fn seal(&self, scope: u64, keys: &Keys) -> Result<String, Error> {
        let mut bytes = Vec::with_capacity(SCOPE_BYTES + PLACE_BYTES + SIGNATURE_BYTES);
        bytes.put_u64_le(scope);
        bytes.put_u16_le(self.shard.0);
        bytes.put_u64_le(self.place.0.0);
        bytes.put_u16_le(self.place.1.0);
        Ok(keys.newest()?.seal::<SIGNATURE_BYTES>(STREAM_PREFIX, bytes))
    }

    /// Reads a cursor of this scope.
    pub(crate) fn open(text: &str, scope: u64, keys: &Keys) -> Result<Self, Error> {
        let bytes = open::<SIGNATURE_BYTES>(text, STREAM_PREFIX, |_| keys.all())
            .filter(|bytes| bytes.len() == SCOPE_BYTES + PLACE_BYTES)
            .ok_or_else(|| Error::InvalidCursor { detail: "not a cursor of this broker".into() })?;
        let mut b = &bytes[..];
        if b.get_u64_le() != scope {
            return Err(Error::InvalidCursor { detail: "a cursor of another topic".into() });
        }
        Ok(Self { shard: ShardId(b.get_u16_le()), place: (LogIndex(b.get_u64_le()), Ordinal(b.get_u16_le())) })
    }
}

/// Seals the last key of a page of a list.
pub(crate) fn seal_list(route: &str, last: &str, keys: &Keys) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(SCOPE_BYTES + last.len() + SIGNATURE_BYTES);
    bytes.put_u64_le(hash::hash(route.as_bytes()));
    bytes.put_slice(last.as_bytes());
    Ok(keys.newest()?.seal::<SIGNATURE_BYTES>(LIST_PREFIX, bytes))
}

/// The last key of the page before, from a cursor of this list.
pub(crate) fn open_list(text: &str, route: &str, keys: &Keys) -> Result<String, Error> {
    let refused = || Error::InvalidCursor { detail: "not a cursor of this list".into() };
    let bytes = open::<SIGNATURE_BYTES>(text, LIST_PREFIX, |_| keys.all()).ok_or_else(refused)?;
    let (scope, last) = bytes.split_first_chunk::<SCOPE_BYTES>().ok_or_else(refused)?;
    if u64::from_le_bytes(*scope) != hash::hash(route.as_bytes()) {
        return Err(refused());
    }
    String::from_utf8(last.to_vec()).map_err(|_| refused())
}
