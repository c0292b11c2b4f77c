//! Idempotency keys under way: proposed or about to be, and not answered yet. And those that were so lately.
//!
//! A key is held by the call and by the entry its message lies in, whichever ends later: so a caller that went away, or
//! whose time was up, does not make a key look absent whose message may still be stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pointsman_model::TopicId;
use pointsman_model::message::NewMessage;
use pointsman_state_machine::command::DedupBy;
use pointsman_state_machine::state::DedupId;

/// Keys that are remembered as having been under way lately; a newer one takes the place of an older.
const RECENT_KEYS: usize = 16 << 10;

/// The keys of one topic by their hashes.
#[derive(Default)]
pub(super) struct InFlight {
    /// How often each is under way.
    held: Mutex<HashMap<u128, u32>>,
    /// Made with the first key.
    recent: OnceLock<Box<[AtomicU64]>>,
}

impl InFlight {
    /// Holds the keys of a call's messages; `None` if none has one.
    pub(super) fn hold(self: &Arc<Self>, topic: TopicId, messages: &[NewMessage]) -> Option<Arc<Hold>> {
        let keys = messages.iter().filter_map(|message| message.idempotency_key.as_deref());
        let hashes: Vec<_> = keys.map(|key| DedupId::new(topic, DedupBy::Producer, key).hash).collect();
        if hashes.is_empty() {
            return None;
        }
        let mut held = self.held.lock();
        for hash in &hashes {
            *held.entry(*hash).or_default() += 1;
        }
        drop(held);
        Some(Arc::new(Hold { of: Arc::clone(self), hashes }))
    }

    /// True while a message with that key is under way.
    pub(super) fn holds(&self, topic: TopicId, key: &str) -> bool {
        self.held.lock().contains_key(&DedupId::new(topic, DedupBy::Producer, key).hash)
    }

    /// True if a message with that key was under way lately: only then a look into the table is likely to find it.
    pub(super) fn was_held(&self, topic: TopicId, key: &str) -> bool {
        let (place, tag) = place_of(DedupId::new(topic, DedupBy::Producer, key).hash);
        self.recent.get().is_some_and(|recent| recent[place].load(Ordering::Relaxed) == tag)
    }

    fn note(&self, hash: u128) {
        let recent = self.recent.get_or_init(|| (0..RECENT_KEYS).map(|_| AtomicU64::new(0)).collect());
        let (place, tag) = place_of(hash);
        recent[place].store(tag, Ordering::Relaxed);
    }
}

/// Where a hash is noted, and as what.
fn place_of(hash: u128) -> (usize, u64) {
    (hash as usize % RECENT_KEYS, (hash >> 64) as u64)
}

/// Keys that are under way until this is dropped.
pub(super) struct Hold {
    of: Arc<InFlight>,
    hashes: Vec<u128>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.of.held.lock();
        for hash in &self.hashes {
            self.of.note(*hash);
            let Some(count) = held.get_mut(hash) else { continue };
            *count -= 1;
            if *count == 0 {
                held.remove(hash);
            }
        }
    }
}
