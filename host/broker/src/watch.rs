//! Who waits for messages of a topic, and how they hear of them.
//!
//! One task a shard follows the applied index and compares the ends of those topics that someone waits for. Only
//! waiters of topics that grew are woken, one for each [`Signal`]: a group has one, and a waiter that leaves work behind
//! passes the signal on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pointsman_model::{QueueId, TopicId};
use pointsman_state_machine::State;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use crate::ports::Shard;

/// Wakes one of those that wait on it.
#[derive(Default)]
pub(crate) struct Signal {
    notify: Notify,
    waiting: AtomicUsize,
}

/// Someone waits while this lives.
pub(crate) struct Waiting<'a>(&'a Signal);

impl Signal {
    /// Counts the caller as waiting. What is applied from here on wakes it, so it looks once more before it sleeps.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Wakes one waiter; if none sleeps yet, the next does not.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

impl Waiting<'_> {
    pub(crate) fn notified(&self) -> Notified<'_> {
        self.0.notify.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The topics of one shard that someone may wait for.
#[derive(Default)]
pub(crate) struct Watch {
    topics: Mutex<HashMap<TopicId, Watched>>,
}

#[derive(Default)]
struct Watched {
    /// Messages ever stored, when last looked at.
    messages: u64,
    signals: Vec<Weak<Signal>>,
}

impl Watch {
    /// Wakes `signal` when a message of one of these topics becomes visible, as long as the signal lives.
    pub(crate) fn subscribe(&self, signal: &Arc<Signal>, topics: &[TopicId]) {
        let mut watched = self.topics.lock();
        for topic in topics {
            let signals = &mut watched.entry(*topic).or_default().signals;
            signals.retain(|other| other.strong_count() > 0);
            if !signals.iter().any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(signal))) {
                signals.push(Arc::downgrade(signal));
            }
        }
    }

    /// Stops waking `signal` for these topics.
    pub(crate) fn unsubscribe(&self, signal: &Arc<Signal>, topics: &[TopicId]) {
        let mut watched = self.topics.lock();
        for topic in topics {
            if let Some(of_topic) = watched.get_mut(topic) {
                of_topic.signals.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(signal)));
                if of_topic.signals.is_empty() {
                    watched.remove(topic);
                }
            }
        }
    }

    /// Wakes those whose topics grew.
    fn look(&self, shard: &dyn Shard) {
        let mut watched = self.topics.lock();
        if !watched.values().any(Watched::is_awaited) {
            return;
        }
        let state = shard.state();
        for (topic, watched) in &mut *watched {
            if watched.is_awaited() {
                let messages = messages_of(&state, *topic);
                if messages != watched.messages {
                    watched.messages = messages;
                    watched.signals.iter().filter_map(Weak::upgrade).for_each(|signal| signal.wake());
                }
            }
        }
    }

    /// Follows the applied index until the broker stops.
    pub(crate) async fn run(self: Arc<Self>, shard: Arc<dyn Shard>, stop: CancellationToken) {
        let mut applied = shard.applied();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = applied.changed() => if changed.is_err() { return },
            }
            self.look(&*shard);
        }
    }
}

impl Watched {
    fn is_awaited(&self) -> bool {
        self.signals.iter().any(|signal| signal.upgrade().is_some_and(|signal| signal.is_awaited()))
    }
}

/// Messages ever stored in a topic.
fn messages_of(state: &State, topic: TopicId) -> u64 {
    let places = (topic, QueueId(0))..=(topic, QueueId(u16::MAX));
    state.queues.range(places).map(|(_, ends)| ends.latest).sum()
}
