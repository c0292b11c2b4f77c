//! Repairs the log of a replica with committed entries of the others.
//!
//! A log that recovery found damaged keeps openraft from starting: the replica neither votes nor leads, and serves what
//! it can verify. Its gaps are filled from whoever has the entries, verified by the storage crate frame by frame and
//! against the frames on both sides, and then it goes on as if nothing had been. A sealed segment found damaged later is
//! written anew while the shard runs.
//!
//! # The end of a log
//!
//! Between two good segments the checksums on both sides say what belongs there. At the end there is no far side, and an
//! entry may be committed by nobody yet. Entries that surely were durable here must come again, and those that were
//! applied here. What is left of the end is given up only when it cannot be committed: a leader of this node's own term or a
//! later one has committed in its term and has no more, or every other voter says that it has no more. Even then the vote gate
//! stays shut until this log is whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pointsman_model::{LogIndex, LogPosition, NodeId};
use pointsman_storage::log::{Frame, Gap, GapEnd, Rebuild};
use tokio::time::Instant;

use crate::Error;
use crate::config::Cluster;
use crate::core::Core;
use crate::questions::{Entries, Question, Standing};
use crate::shard::group::node_of;
use crate::transport::Lane;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// From one attempt to the next.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Attempts between two lines in the log.
const SAY_EVERY: usize = 20;
/// From one reading of all sealed segments to the next.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 3_600);
/// From one sealed segment to the next, at least; and as many times as long as reading it took.
const SCRUB_PAUSE_MIN: Duration = Duration::from_millis(100);
const SCRUB_PAUSE_TIMES: u32 = 4;

/// Repairs one replica's log.
#[derive(Clone)]
pub(crate) struct Repairer {
    core: Arc<Core>,
    cluster: Cluster,
    /// Every other node.
    others: Vec<NodeId>,
    attempts: Arc<AtomicUsize>,
}

impl Repairer {
    pub(crate) fn new(core: Arc<Core>, cluster: Cluster) -> Self {
        let me = node_of(core.id);
        let others = cluster.nodes.keys().copied().filter(|node| *node != me).collect();
        Self { core, cluster, others, attempts: Arc::default() }
    }

    /// Repairs a log that was found damaged before openraft ran, and takes as long as it takes.
    pub(crate) async fn repair_log(&self) {
        while let Err(error) = self.try_repair_log().await {
            if self.core.failure().is_some() {
                return;
            }
            self.say(&error);
            *self.core.repairing.lock() = Some(error.to_string());
            tokio::time::sleep(RETRY_AFTER).await;
        }
        *self.core.repairing.lock() = None;
        tracing::info!(shard.id = self.core.shard.0, "the log is repaired");
    }

    async fn try_repair_log(&self) -> Result<(), Error> {
        let log = self.core.log.clone();
        let gaps = self.blocking(move || if log.damages().is_empty() { Ok(Vec::new()) } else { Ok(log.gaps()?) });
        for gap in gaps.await? {
            let at_end = matches!(gap.end, GapEnd::Log { .. });
            let damage = gap.damage.clone();
            tracing::info!(
                shard.id = self.core.shard.0,
                file.path = %damage.path.display(),
                log.index = damage.first_index.get(),
                reason = damage.reason,
                "entries are fetched from the other nodes"
            );
            let rebuild = self.fill(gap).await?;
            if at_end {
                // Before anything of the end may be missing.
                self.core.gate.shut("the end of its log was lost");
            }
            self.blocking(move || Ok(rebuild.finish()?)).await?;
        }
        let core = Arc::clone(&self.core);
        let reopened =
            self.blocking(move || Ok(if core.log.damages().is_empty() { None } else { Some(core.log.reopen()?) }));
        reopened.await?;
        while let Some(place) = self.core.doubts.first() {
            let repaired = self.repair_place(place).await?;
            self.core.doubts.settle(place, repaired);
        }
        let core = Arc::clone(&self.core);
        self.blocking(move || core.derive_all()).await
    }

    /// Repairs what readers meet from now on, and looks for it where nobody reads.
    pub(crate) async fn watch(self) {
        tokio::join!(self.repair_doubts(), self.scrub());
    }

    async fn repair_doubts(&self) {
        loop {
            let place = self.core.doubts.next().await;
            match self.repair_place(place).await {
                Ok(repaired) => self.core.doubts.settle(place, repaired),
                Err(error) => {
                    self.say(&error);
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
            if self.core.failure().is_some() {
                return;
            }
        }
    }

    /// Repairs the sealed segment around a place; false if there is nothing to repair.
    async fn repair_place(&self, place: LogPosition) -> Result<bool, Error> {
        let segments = self.core.log.segments();
        let Some(segment) = segments.into_iter().rfind(|segment| segment.base <= place && place < segment.end) else {
            return Ok(false);
        };
        if !segment.sealed {
            self.core.fail(format!("the log is damaged at position {place}, in a segment that is still written"));
            return Ok(false);
        }
        let log = self.core.log.clone();
        let gap = self.blocking(move || match log.verify_sealed(segment.base) {
            Ok(()) => Ok(None),
            Err(error @ pointsman_storage::Error::Io { .. }) => Err(error.into()),
            Err(_) => Ok(Some(log.gap_of_sealed(segment.base, "a reader met bytes that do not verify")?)),
        });
        let Some(gap) = gap.await? else { return Ok(false) };
        let rebuild = self.fill(gap).await?;
        let log = self.core.log.clone();
        self.blocking(move || Ok(log.replace_sealed(rebuild)?)).await?;
        tracing::info!(shard.id = self.core.shard.0, log.position = segment.base.get(), "a segment is repaired");
        Ok(true)
    }

    /// Reads sealed segments that nobody may read for years, once a day and first after the start.
    async fn scrub(&self) {
        loop {
            for segment in self.core.log.segments().into_iter().filter(|segment| segment.sealed) {
                let (log, start) = (self.core.log.clone(), Instant::now());
                let read = self.blocking(move || Ok(log.verify_sealed(segment.base)?)).await;
                if let Err(error) = read {
                    tracing::error!(shard.id = self.core.shard.0, %error, "a sealed segment does not verify");
                    self.core.doubts.report(segment.base);
                }
                tokio::time::sleep((SCRUB_PAUSE_TIMES * start.elapsed()).max(SCRUB_PAUSE_MIN)).await;
            }
            tokio::time::sleep(SCRUB_EVERY).await;
        }
    }

    /// Fetches what is missing.
    async fn fill(&self, gap: Gap) -> Result<Rebuild, Error> {
        let log = self.core.log.clone();
        let mut rebuild = self.blocking(move || Ok(log.rebuild(gap)?)).await?;
        let mut said = BTreeMap::new();
        // Another one first each time: entries of one that does not verify end the attempt.
        let first = self.attempts.fetch_add(1, Ordering::Relaxed) % self.others.len().max(1);
        while !self.is_done(&rebuild, &said) {
            let before = rebuild.next();
            for at in 0..self.others.len() {
                let node = self.others[(first + at) % self.others.len()];
                let Ok(Entries { standing, frames }) = self.entries(node, before).await else {
                    said.remove(&node);
                    continue;
                };
                said.insert(node, standing);
                if !frames.is_empty() {
                    rebuild = self.push(rebuild, frames).await?;
                    break;
                }
            }
            if rebuild.next() == before && !self.is_done(&rebuild, &said) {
                return Err(Error::NoEntries { index: before, asked: self.others.len(), answered: said.len() });
            }
        }
        Ok(rebuild)
    }

    /// Whether nothing more has to come; see the module's documentation for the end of a log.
    fn is_done(&self, rebuild: &Rebuild, said: &BTreeMap<NodeId, Standing>) -> bool {
        if matches!(rebuild.gap().end, GapEnd::Segment { .. }) {
            return rebuild.is_filled();
        }
        let next = rebuild.next();
        if self.core.applied_index().is_some_and(|applied| applied >= next) {
            return false;
        }
        let voted = self.core.vote.lock().load().map_or(0, |vote| vote.term.0);
        let has_no_more = |standing: &Standing| standing.applied.is_none_or(|applied| applied < next.0);
        let leader = |standing: &&Standing| standing.leads.is_some_and(|term| term >= voted);
        rebuild.is_filled()
            || said.values().find(leader).is_some_and(has_no_more)
            || (said.len() == self.others.len() && said.values().all(has_no_more))
    }

    async fn entries(&self, node: NodeId, first: LogIndex) -> Result<Entries, Error> {
        let question = Question::Entries { first: first.0 }.encode()?;
        let shard = self.core.shard;
        let answer = self.cluster.transport.call(node, Lane::Bulk, shard, question, ANSWER_WITHIN).await;
        Entries::decode(&answer.map_err(|error| Error::Raft(error.to_string()))?)
    }

    async fn push(&self, mut rebuild: Rebuild, frames: Vec<Frame>) -> Result<Rebuild, Error> {
        let between = matches!(rebuild.gap().end, GapEnd::Segment { .. });
        let pushed = self.blocking(move || {
            for frame in &frames {
                if between && rebuild.is_filled() {
                    break;
                }
                rebuild.push(frame)?;
            }
            Ok(rebuild)
        });
        pushed.await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.core.background.run(work).await.unwrap_or(Err(Error::Malformed("a repair panicked")))
    }

    fn say(&self, error: &Error) {
        if self.attempts.load(Ordering::Relaxed) % SAY_EVERY == 1 {
            tracing::warn!(shard.id = self.core.shard.0, %error, "the log is not repaired yet");
        }
    }
}
