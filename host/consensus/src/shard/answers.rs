//! Answers that proposals still wait for.
//!
//! openraft answers once an entry is applied or surely discarded. A leader that has lost its quorum hears neither until
//! it finds a successor, which may be never. Its callers are told then that nobody knows what became of their entries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_broker::ports::{Committed, ProposeError};
use tokio::sync::oneshot;

use crate::leadership::Leadership;

/// How often it is looked whether this node still leads a quorum.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks without one after which nobody waits any longer. A successor that commits what was proposed does so before.
const LOOKS: usize = 3;

/// Where one proposal's outcome goes.
pub(super) type Answer = oneshot::Sender<Result<Committed, ProposeError>>;

/// All that are waited for.
#[derive(Default)]
pub(super) struct Answers {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Answer>>,
}

impl Answers {
    /// Keeps an answer. Returns what it is found by.
    pub(super) fn keep(&self, answer: Answer) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(number, answer);
        number
    }

    /// Answers, unless that was done before.
    pub(super) fn answer(&self, number: u64, outcome: Result<Committed, ProposeError>) {
        let kept = self.waiting.lock().remove(&number);
        if let Some(answer) = kept {
            // A caller that went away needs no answer.
            let _ = answer.send(outcome);
        }
    }

    fn abandon(&self) {
        for answer in std::mem::take(&mut *self.waiting.lock()).into_values() {
            // A caller that went away needs no answer.
            let _ = answer.send(Err(ProposeError::OutcomeUnknown));
        }
    }

    /// Tells those who wait that nobody knows, once this node leads no quorum any more.
    pub(super) async fn watch(&self, leadership: &Leadership) {
        let mut without = 0;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            without = if leadership.leads_a_quorum() { 0 } else { without + 1 };
            if without >= LOOKS {
                self.abandon();
            }
        }
    }
}
