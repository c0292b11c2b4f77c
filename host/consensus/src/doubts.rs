//! Damage that readers met, for the one who repairs it.
//!
//! A reader that met bytes which do not verify hands nobody any of them, says where, and may wait until the place is
//! whole again. On a node alone nobody listens: there is nothing to repair it from.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_model::LogPosition;
use tokio::sync::{Notify, watch};

/// Places known at once; a log with more of them is found out one after another.
const PLACES_MAX: usize = 64;

/// Places of the log that do not verify.
#[derive(Debug)]
pub(crate) struct Doubts {
    places: Mutex<BTreeSet<LogPosition>>,
    added: Notify,
    settled: watch::Sender<()>,
    heard: AtomicBool,
    repaired: AtomicU64,
}

impl Default for Doubts {
    fn default() -> Self {
        Self {
            places: Mutex::default(),
            added: Notify::new(),
            settled: watch::Sender::new(()),
            heard: AtomicBool::new(false),
            repaired: AtomicU64::new(0),
        }
    }
}

impl Doubts {
    /// Someone will repair what is reported.
    pub(crate) fn listen(&self) {
        self.heard.store(true, Ordering::Release);
    }

    /// True where there are others to repair from.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Acquire)
    }

    /// Bytes at this place do not verify. False if nobody can do anything about it.
    pub(crate) fn report(&self, place: LogPosition) -> bool {
        if !self.is_heard() {
            return false;
        }
        let mut places = self.places.lock();
        let added = places.len() < PLACES_MAX && places.insert(place);
        drop(places);
        if added {
            self.added.notify_one();
        }
        true
    }

    /// Reports what an error of the log says. False if it is not about damage, or nobody listens.
    pub(crate) fn report_error(&self, error: &pointsman_storage::Error) -> Option<LogPosition> {
        match error {
            pointsman_storage::Error::Damaged { position, .. } if self.report(*position) => Some(*position),
            _ => None,
        }
    }

    /// A place to look at, if there is one.
    pub(crate) fn first(&self) -> Option<LogPosition> {
        self.places.lock().first().copied()
    }

    /// The next place to look at; it stays until it is [settled](Self::settle).
    pub(crate) async fn next(&self) -> LogPosition {
        loop {
            let added = self.added.notified();
            match self.first() {
                Some(place) => return place,
                None => added.await,
            }
        }
    }

    /// A place was dealt with.
    pub(crate) fn settle(&self, place: LogPosition, repaired: bool) {
        self.places.lock().remove(&place);
        self.repaired.fetch_add(u64::from(repaired), Ordering::Relaxed);
        self.settled.send_replace(());
    }

    /// Waits until a place that was reported is dealt with; false if that takes longer than `within`.
    pub(crate) async fn wait(&self, place: LogPosition, within: Duration) -> bool {
        let mut settled = self.settled.subscribe();
        let done = async {
            while self.places.lock().contains(&place) {
                if settled.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(within, done).await.is_ok()
    }

    /// Places that wait to be repaired, and segments that were.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (self.places.lock().len(), self.repaired.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_waits_until_it_is_settled() {
        let doubts = Doubts::default();
        assert!(!doubts.report(LogPosition(8)), "nobody listens");
        doubts.listen();
        assert!(doubts.report(LogPosition(8)) && doubts.report(LogPosition(8)));
        assert_eq!(doubts.next().await, LogPosition(8));
        assert!(!doubts.wait(LogPosition(8), Duration::from_secs(1)).await);
        let (waited, ()) = tokio::join!(doubts.wait(LogPosition(8), Duration::from_secs(1)), async {
            doubts.settle(LogPosition(8), true);
        });
        assert!(waited && doubts.wait(LogPosition(99), Duration::ZERO).await);
        assert_eq!(doubts.counts(), (0, 1));
    }
}
