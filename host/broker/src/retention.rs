//! The retention loop of one shard: what is over goes from its queues, and old segments from the log.
//!
//! Only the leader decides, in three steps that each wait for the one before. Messages past their topic's retention
//! ([`expired`]) leave their queues by a `trim` record, at once and for every reader. Segments that no queue starts in
//! are given up by the next one. What is owed in them (delayed, half, dead letters) keeps them, until it is little: then
//! it is [carried](carry) to the log's head. `apply` checks all of it again; files go on each replica by itself.
//!
//! Times are compared with stamps, so a shard that nobody writes to trims too.

mod carry;
mod expired;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pointsman_model::record::{Header, kind};
use pointsman_model::{LogPosition, ShardId, TenantId, Term, limits};
use pointsman_state_machine::command::{Durability, Trim};
use pointsman_state_machine::outcome::{Blocker, Outcome, Trimmed};
use tokio::sync::Notify;

use crate::batcher::Request;
use crate::error::Error;
use crate::ports::Shard;
use crate::refusal::accepted;
use crate::shard::ShardParts;
use expired::{Expired, Known};

/// Whose the records of the shard itself are.
const NO_TENANT: TenantId = TenantId(0);

/// Retention of one shard at run time.
pub(crate) struct Retention {
    /// Longest retention a topic may have.
    retention_ms_max: u64,
    wake: Notify,
    /// When the first message of each queue was stored. One look at a time holds it.
    known: tokio::sync::Mutex<Known>,
    messages: AtomicU64,
    carried: AtomicU64,
    pinned_bytes: AtomicU64,
}

/// What retention did in one shard, on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionStats {
    /// The shard.
    pub shard: ShardId,
    /// Messages that this node took from their queues.
    pub messages: u64,
    /// Messages that it carried to the log's head.
    pub carried: u64,
    /// Bytes of the log that no queue reaches, and that cannot go: something in them is owed. 0 where another node leads.
    pub pinned_bytes: u64,
}

/// What the old end of the log is needed for.
#[derive(Debug, Default)]
struct Reach {
    /// Segments that start below may go.
    free: Option<LogPosition>,
    /// Nothing but what is owed needs those that start below.
    owed: Option<LogPosition>,
}

impl Retention {
    pub(crate) fn new(retention_ms_max: u64) -> Self {
        Self {
            retention_ms_max,
            wake: Notify::new(),
            known: tokio::sync::Mutex::default(),
            messages: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            pinned_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn stats(&self, shard: &dyn Shard) -> RetentionStats {
        RetentionStats {
            shard: shard.id(),
            messages: self.messages.load(Ordering::Relaxed),
            carried: self.carried.load(Ordering::Relaxed),
            pinned_bytes: self.pinned_bytes.load(Ordering::Relaxed),
        }
    }

    /// Looks now and then until the broker stops.
    pub(crate) async fn run(self: Arc<Self>, parts: ShardParts) {
        // A scale for tests makes looks more frequent, never rarer.
        let poll = Duration::from_millis(limits::RETENTION_POLL_MS).mul_f64(parts.time_scale.clamp(0.01, 1.0));
        loop {
            let pause = match self.look(&parts).await {
                Ok(true) => poll.min(Duration::from_millis(limits::RETENTION_AGAIN_MS)),
                Ok(false) => poll,
                Err(error) => {
                    tracing::warn!(shard.id = parts.port.id().0, %error, "retention has to wait");
                    poll
                }
            };
            tokio::select! {
                () = parts.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes what is over, and gives up what nothing needs; true if there is more to do soon.
    pub(crate) async fn look(&self, parts: &ShardParts) -> Result<bool, Error> {
        let Some(term) = parts.port.leadership() else {
            self.pinned_bytes.store(0, Ordering::Relaxed);
            return Ok(false);
        };
        let mut known = self.known.lock().await;
        let reach = reach(&*parts.port)?;
        self.note_pinned(&*parts.port, &reach);
        let Expired { steps, messages, more } = known.expired(&*parts.port, self.retention_ms_max).await?;
        let left = parts.port.state().released.left;
        let moved = !steps.is_empty();
        let mut again = more;
        if moved || left || reach.free.is_some() {
            let trim = Trim { queues: steps, base: reach.free.map(|base| base.0) };
            let outcome = propose(parts, term, &trim).await?;
            self.messages.fetch_add(if moved { messages } else { 0 }, Ordering::Relaxed);
            // What goes from the queues now may free a segment the next time.
            again |= outcome.left || moved || reach.free.is_some();
        } else if let Some(below) = reach.owed {
            let carried = carry::carry(parts, term, below).await?;
            self.carried.fetch_add(carried, Ordering::Relaxed);
            again |= carried > 0;
        }
        Ok(again)
    }

    fn note_pinned(&self, port: &dyn Shard, reach: &Reach) {
        let first = port.state().segments.first_key_value().map_or(0, |(base, _)| base.0);
        let dead = reach.owed.max(reach.free).map_or(0, |base| base.0.saturating_sub(first));
        let free = reach.free.map_or(0, |base| base.0.saturating_sub(first));
        self.pinned_bytes.store(dead - free, Ordering::Relaxed);
    }
}

/// How far the old end of the log is needed, and what for.
fn reach(port: &dyn Shard) -> Result<Reach, Error> {
    let bases: Vec<LogPosition> =
        port.state().segments.keys().skip(1).take(limits::TRIM_SEGMENTS_MAX).copied().collect();
    let mut reach = Reach::default();
    for base in bases {
        match port.blocker(base)? {
            None => reach.free = Some(base),
            Some(Blocker::Owed(_)) => reach.owed = Some(base),
            Some(_) => break,
        }
    }
    Ok(reach)
}

async fn propose(parts: &ShardParts, term: Term, trim: &Trim) -> Result<Trimmed, Error> {
    let deadline = crate::call::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
    let request = Request { tenant: NO_TENANT, term, deadline, ack: Durability::Quorum };
    let header = Header { kind: kind::TRIM, tenant: NO_TENANT, ..Header::default() };
    let ticket = parts.batcher.submit(request, 0, |writer| writer.write(&header, trim, &[]))?;
    let answer = parts.batcher.wait(ticket, deadline).await?;
    match accepted(answer.outcomes().first())? {
        Outcome::Trimmed(trimmed) => Ok(*trimmed),
        other => Err(Error::Internal(format!("a trim came to {other:?}"))),
    }
}
