//! Producers that retry on another node, with the same key, until they are told that it is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_client::{PublishOptions, Tenant};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::TOPIC;

/// Producers, each with one publish at a time.
const PRODUCERS: usize = 8;
/// Pause before a publish is tried on the next node.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// How long one message is retried.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// What became of the messages, by name: `producer/number`.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Done, as some node said.
    pub(super) acknowledged: BTreeSet<String>,
    /// Nobody said.
    pub(super) unknown: BTreeSet<String>,
    /// Tries beyond the first.
    pub(super) retried: u64,
}

/// Producers at work.
pub(super) struct Load {
    producers: JoinSet<()>,
    stop: watch::Sender<bool>,
    shared: Arc<Shared>,
}

struct Shared {
    published: Mutex<Published>,
    /// When the latest-begun publish that was acknowledged began, and when its answer came.
    newest: watch::Sender<Option<(Instant, Instant)>>,
}

impl Load {
    /// Starts the producers; each begins on another node.
    pub(super) fn start(nodes: Vec<Tenant>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared { published: Mutex::default(), newest: watch::Sender::new(None) });
        let nodes: Arc<[Tenant]> = nodes.into();
        let mut producers = JoinSet::new();
        for producer in 0..PRODUCERS {
            producers.spawn(produce(producer, Arc::clone(&nodes), Arc::clone(&shared), stopped.clone()));
        }
        Self { producers, stop, shared }
    }

    /// When the first publish was answered that had begun after a moment; `None` if that takes too long.
    pub(super) async fn first_begun_after(&self, moment: Instant, within: Duration) -> Option<Instant> {
        let mut newest = self.shared.newest.subscribe();
        let found = newest.wait_for(|newest| newest.is_some_and(|(begun, _)| begun > moment));
        let found = tokio::time::timeout(within, found).await.ok()?.ok()?;
        found.map(|(_, answered)| answered)
    }

    /// Lets every producer come to the end of its message, and says what became of all.
    pub(super) async fn stop(mut self) -> Published {
        self.stop.send_replace(true);
        while self.producers.join_next().await.is_some() {}
        std::mem::take(&mut self.shared.published.lock())
    }
}

/// Producer and number of a name.
pub(super) fn parts(name: &str) -> Option<(&str, u64)> {
    let (producer, number) = name.split_once('/')?;
    Some((producer, number.parse().ok()?))
}

async fn produce(producer: usize, nodes: Arc<[Tenant]>, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let mut node = producer % nodes.len();
    for number in 0_u64.. {
        if *stop.borrow() {
            return;
        }
        let name = format!("{producer}/{number}");
        let options = PublishOptions {
            keys: vec![name.clone()],
            ordering_key: Some(producer.to_string()),
            idempotency_key: Some(name.clone()),
            ..PublishOptions::default()
        };
        let begun = Instant::now();
        let done = loop {
            match nodes[node].publish(TOPIC, Bytes::from(name.clone()), &options).await {
                Ok(_) => break true,
                Err(_) if begun.elapsed() >= RETRY_FOR => break false,
                Err(_) => {}
            }
            shared.published.lock().retried += 1;
            node = (node + 1) % nodes.len();
            tokio::time::sleep(RETRY_AFTER).await;
        };
        if done {
            shared.published.lock().acknowledged.insert(name);
            let now = Instant::now();
            shared.newest.send_if_modified(|newest| {
                let newer = newest.is_none_or(|(known, _)| begun > known);
                if newer {
                    *newest = Some((begun, now));
                }
                newer
            });
        } else {
            shared.published.lock().unknown.insert(name);
            // What comes behind it would overtake it.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_producer_and_number() {
        assert_eq!(parts("7/120"), Some(("7", 120)));
        assert_eq!(parts("7"), None);
        assert_eq!(parts("7/x"), None);
    }
}
