//! Read sequence numbers: what readers see, and what garbage collection must keep for them.
//!
//! `lsm-tree` panics in a reader whose sequence number a collection has passed, so every read takes a [`ReadGuard`]
//! and every flush and compaction asks for the [`Readers::watermark`] first.

use std::collections::BTreeMap;
use std::sync::Arc;

use lsm_tree::SeqNo;
use parking_lot::Mutex;

#[derive(Default)]
struct Inner {
    /// Everything below is complete. The tree's own counter is no such bound: a flush advances it while an entry is half written.
    published: SeqNo,
    /// Open guards by sequence number.
    open: BTreeMap<SeqNo, usize>,
}

/// Hands out read sequence numbers.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Mutex<Inner>>);

impl Readers {
    /// Makes everything below `seqno` visible.
    pub(super) fn publish(&self, seqno: SeqNo) {
        let mut inner = self.0.lock();
        assert!(seqno >= inner.published, "published sequence numbers only grow");
        inner.published = seqno;
    }

    /// A guard on the newest complete state.
    pub(super) fn open(&self) -> ReadGuard {
        let mut inner = self.0.lock();
        let seqno = inner.published;
        *inner.open.entry(seqno).or_default() += 1;
        drop(inner);
        ReadGuard { readers: self.clone(), seqno }
    }

    /// The oldest sequence number that a reader uses or may still get.
    pub(super) fn watermark(&self) -> SeqNo {
        let inner = self.0.lock();
        inner.open.first_key_value().map_or(inner.published, |(seqno, _)| *seqno)
    }
}

/// Keeps one read sequence number alive.
pub(super) struct ReadGuard {
    readers: Readers,
    seqno: SeqNo,
}

impl ReadGuard {
    pub(super) fn seqno(&self) -> SeqNo {
        self.seqno
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        let mut inner = self.readers.0.lock();
        if let Some(count) = inner.open.get_mut(&self.seqno) {
            *count -= 1;
            if *count == 0 {
                inner.open.remove(&self.seqno);
            }
        }
    }
}
