//! The timer loop of one shard: delayed messages become visible when their time has come.
//!
//! The leader reads what is due, appends it again at the head of the log ([`fire`]) and waits for the outcome before it
//! reads on. `apply` decides: it refuses what is cancelled, due later or visible by then, so a message that two leaders
//! fire is visible once. The loop sleeps until the earliest due time that it knows; [`Timers::expect`] tells it of an
//! earlier one, and it looks at least every [`limits::TIMER_POLL_MS`]. Due times are compared with stamps.

mod fire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_model::{ShardId, Timestamp, limits};
use tokio::sync::Notify;

use crate::ports::Shard;
use crate::shard::ShardParts;
use fire::Fired;

/// Upper bounds of the lateness histogram, ms.
pub const LATE_BUCKETS_MS: [u64; 8] = [1, 5, 10, 50, 100, 500, 1_000, 10_000];

/// The timers of one shard at run time.
#[derive(Default)]
pub(crate) struct Timers {
    /// What the loop sleeps towards.
    next: Mutex<Option<Timestamp>>,
    wake: Notify,
    fired: AtomicU64,
    /// Messages that are due and cannot be read.
    unreadable: AtomicU64,
    late_ms: AtomicU64,
    late: [AtomicU64; LATE_BUCKETS_MS.len() + 1],
}

/// What became of the delayed messages of one shard on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerStats {
    /// The shard.
    pub shard: ShardId,
    /// Messages that wait for a time.
    pub waiting: u64,
    /// Messages that this node made visible.
    pub fired: u64,
    /// How late they were altogether, in stamps, ms.
    pub late_ms: u64,
    /// How many were as late as [`LATE_BUCKETS_MS`] says and more than the bucket before; the last is later than all.
    pub late: [u64; LATE_BUCKETS_MS.len() + 1],
}

impl Timers {
    /// A message waits for this time.
    pub(crate) fn expect(&self, due: Timestamp) {
        let mut next = self.next.lock();
        if next.is_none_or(|next| due < next) {
            *next = Some(due);
            drop(next);
            self.wake.notify_one();
        }
    }

    /// Looks now.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn look(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn stats(&self, shard: &dyn Shard) -> TimerStats {
        TimerStats {
            shard: shard.id(),
            waiting: shard.state().timers.values().sum(),
            fired: self.fired.load(Ordering::Relaxed),
            late_ms: self.late_ms.load(Ordering::Relaxed),
            late: std::array::from_fn(|i| self.late[i].load(Ordering::Relaxed)),
        }
    }

    /// Fires what is due until the broker stops.
    pub(crate) async fn run(self: Arc<Self>, parts: ShardParts) {
        loop {
            let pause = self.fire_due(&parts).await;
            tokio::select! {
                () = parts.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Fires all that is due; returns how long to sleep.
    async fn fire_due(&self, parts: &ShardParts) -> Duration {
        let poll = Duration::from_millis(limits::TIMER_POLL_MS);
        while !parts.stop.is_cancelled() {
            let Some(term) = parts.port.leadership() else { return poll };
            if parts.port.state().timers.is_empty() {
                *self.next.lock() = None;
                return poll;
            }
            match fire::fire(parts, term).await {
                Ok(Fired { late_ms, again, unreadable }) => {
                    late_ms.iter().for_each(|late_ms| self.count(*late_ms));
                    let before = self.unreadable.swap(unreadable.0, Ordering::Relaxed);
                    if let Some(error) = unreadable.1.filter(|_| unreadable.0 > before) {
                        tracing::error!(shard.id = parts.port.id().0, messages = unreadable.0, %error, "delayed messages cannot be read");
                    }
                    match (again, late_ms.is_empty()) {
                        (true, _) => return Duration::from_millis(limits::TIMER_RETRY_MS),
                        // These stay due.
                        (false, true) if unreadable.0 > 0 => return poll,
                        (false, true) => return self.until_next(parts).min(poll),
                        (false, false) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(shard.id = parts.port.id().0, %error, "delayed messages that are due wait on");
                    return Duration::from_millis(limits::TIMER_RETRY_MS);
                }
            }
        }
        poll
    }

    /// How long until the next message is due.
    fn until_next(&self, parts: &ShardParts) -> Duration {
        // Under the lock, so that whoever is applied after the read is heard.
        let mut next = self.next.lock();
        match parts.port.next_timer() {
            Ok(found) => *next = found,
            Err(error) => {
                tracing::warn!(shard.id = parts.port.id().0, %error, "the next timer could not be read");
                return Duration::from_millis(limits::TIMER_RETRY_MS);
            }
        }
        let now = parts.port.now();
        next.map_or(Duration::MAX, |next| Duration::from_millis(next.since_ms(now).max(1)))
    }

    fn count(&self, late_ms: u64) {
        self.fired.fetch_add(1, Ordering::Relaxed);
        self.late_ms.fetch_add(late_ms, Ordering::Relaxed);
        let bucket = LATE_BUCKETS_MS.partition_point(|bound| *bound < late_ms);
        self.late[bucket].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
