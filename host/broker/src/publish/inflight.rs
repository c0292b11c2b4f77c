//! Idempotency keys under way: proposed or about to be, and not answered yet.
//!
//! A key is held by the call and by the entry its message lies in, whichever ends later: so a caller that went away, or
//! whose time was up, does not make a key look absent whose message may still be stored.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::TopicId;
use pointsman_model::message::NewMessage;
use pointsman_state_machine::command::DedupBy;
use pointsman_state_machine::state::DedupId;

/// How often each key of one topic is under way, by its hash.
#[derive(Default)]
pub(super) struct InFlight(Mutex<HashMap<u128, u32>>);

impl InFlight {
    /// Holds the keys of a call's messages; `None` if none has one.
    pub(super) fn hold(self: &Arc<Self>, topic: TopicId, messages: &[NewMessage]) -> Option<Arc<Hold>> {
        let keys = messages.iter().filter_map(|message| message.idempotency_key.as_deref());
        let hashes: Vec<_> = keys.map(|key| DedupId::new(topic, DedupBy::Producer, key).hash).collect();
        if hashes.is_empty() {
            return None;
        }
        let mut held = self.0.lock();
        for hash in &hashes {
            *held.entry(*hash).or_default() += 1;
        }
        drop(held);
        Some(Arc::new(Hold { of: Arc::clone(self), hashes }))
    }

    /// True while a message with that key is under way.
    pub(super) fn holds(&self, topic: TopicId, key: &str) -> bool {
        self.0.lock().contains_key(&DedupId::new(topic, DedupBy::Producer, key).hash)
    }
}

/// Keys that are under way until this is dropped.
pub(super) struct Hold {
    of: Arc<InFlight>,
    hashes: Vec<u128>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.of.0.lock();
        for hash in &self.hashes {
            let Some(count) = held.get_mut(hash) else { continue };
            *count -= 1;
            if *count == 0 {
                held.remove(hash);
            }
        }
    }
}
