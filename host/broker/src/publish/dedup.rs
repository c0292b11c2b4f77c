//! Under which key a message is stored once: its producer's, or the one that the topic's plugin names.
//!
//! `apply` decides what is a duplicate. A look at its table before the proposal spares the log what is surely one.

use std::sync::Arc;

use pointsman_model::judge::{DedupKey, Failure, OnFailure, Verdict};
use pointsman_model::{hash, limits};
use pointsman_state_machine::command::{DedupBy, Judged};
use pointsman_state_machine::outcome::Duplicate;
use pointsman_state_machine::state::Binding;

use super::job::{Job, Key, Placed, Spots};
use super::topic::{Moment, TopicRuntime};
use crate::columns::{Columns, Facts};
use crate::error::Error;
use crate::judging::on_failure_of;

/// What a dedup plugin said of one message; `Err` if it cannot run.
pub(super) type Named = Result<Verdict<Option<DedupKey>>, String>;

/// True if the plugin names the key: the producer's word comes first.
pub(super) fn is_asked(job: &Job, i: usize) -> bool {
    job.messages[i].idempotency_key.is_none()
}

impl TopicRuntime {
    /// Asks the dedup plugin about every message that brings no key, in order: one call for as many as fit.
    pub(super) async fn name_keys(&self, binding: &Binding, messages: &[(&Arc<Job>, usize)]) -> Vec<Named> {
        let needy: Vec<_> = messages.iter().filter(|(job, i)| is_asked(job, *i)).collect();
        let judge = match self.parts.bench.judge(&self.parts.port, binding).await {
            Ok(judge) => judge,
            Err(words) => return needy.iter().map(|_| Err(words.clone())).collect(),
        };
        let now = self.parts.port.now();
        let mut named = Vec::with_capacity(needy.len());
        let mut rest = &needy[..];
        while !rest.is_empty() {
            let mut columns = Columns::new(judge.plan());
            let mut taken = 0;
            while taken < rest.len() && !columns.is_full() {
                let (job, i) = rest[taken];
                columns.push(&Facts::new_message(job.name.as_str(), &job.messages[*i], job.born, now));
                taken += 1;
            }
            let (n, columns) = columns.finish();
            let mut verdicts = judge.dedup(n, columns).await;
            verdicts.resize_with(taken, || Verdict::Stopped(Failure::Output));
            named.extend(verdicts.into_iter().map(Ok));
            rest = &rest[taken..];
        }
        named
    }

    /// Messages of a job whose producer's key is remembered: those go no further. The rest is left in `which`. Only keys
    /// that were under way lately are looked up: a read for each new key would cost more than the log that repeats take.
    /// Halves all go on: what a transaction holds is said by its own unit.
    pub(super) fn known(&self, job: &Job, which: &mut Vec<usize>) -> Result<Vec<Placed>, Error> {
        let mut known = Vec::new();
        let leads = self.parts.port.leadership().is_some();
        if job.half || job.hold.is_none() || !leads || !self.has_window() || !self.remembers() {
            return Ok(known);
        }
        let mut failed = None;
        which.retain(|i| {
            let Some(key) = job.messages[*i].idempotency_key.as_deref() else { return true };
            if !self.in_flight().was_held(self.id, key) {
                return true;
            }
            match self.stored(job, *i, DedupBy::Producer, key) {
                Ok(Some(spots)) => known.push(Placed { spots, ..Placed::by_none(*i) }),
                Ok(None) => return true,
                Err(error) => failed = Some(error),
            }
            false
        });
        failed.map_or(Ok(known), Err)
    }

    /// Marks messages whose key, as their plugin named it, is remembered.
    pub(super) fn look(&self, job: &Job, placed: &mut [Placed]) -> Result<(), Error> {
        if job.half || !self.remembers() {
            return Ok(());
        }
        for placed in placed.iter_mut().filter(|placed| placed.spots.is_ok()) {
            if let Key::Plugin { key, .. } = &placed.key
                && let Some(spots) = self.stored(job, placed.message, DedupBy::Plugin, key)?
            {
                placed.spots = spots;
            }
        }
        Ok(())
    }

    /// True if the topic keeps producers' keys.
    fn has_window(&self) -> bool {
        self.parts.port.state().topics.get(&self.id).is_some_and(|topic| topic.config.dedup_window_ms > 0)
    }

    fn remembers(&self) -> bool {
        self.parts.port.state().dedup_keys.get(&self.id).is_some_and(|keys| *keys > 0)
    }

    /// What comes of a message whose key is remembered.
    fn stored(&self, job: &Job, i: usize, by: DedupBy, key: &str) -> Result<Option<Result<Spots, Error>>, Error> {
        let Some(before) = self.parts.port.remembered(job.tenant, self.id, by, key)? else { return Ok(None) };
        let same = by == DedupBy::Plugin || before.fingerprint() == hash::fingerprint(&job.messages[i].body);
        Ok(Some(if same { Ok(Spots::Stored(Duplicate::of(&before))) } else { Err(Error::IdempotencyMismatch) }))
    }
}

/// Gives a message the key that its topic's plugin named, or what its binding does without an answer.
pub(super) fn keyed_by(moment: &Moment, window_ms: u64, mut placed: Placed, named: Named) -> Placed {
    let Some(binding) = &moment.dedup else { return placed };
    placed.named_by = Some(Judged { binding: binding.id.0, generation: moment.generation.0 });
    let (words, unavailable) = match named {
        Ok(Verdict::Answer(None)) => return placed,
        Ok(Verdict::Answer(Some(DedupKey { key, ttl_ms }))) => {
            if (1..=limits::IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
                let window_ms = ttl_ms.map_or(window_ms, u64::from).min(limits::DEDUP_WINDOW_MS_MAX);
                placed.key = if window_ms > 0 { Key::Plugin { key, window_ms } } else { Key::None };
                return placed;
            }
            (format!("a key of {} bytes", key.len()), false)
        }
        Ok(Verdict::Failed(words)) => (words, false),
        Ok(Verdict::Stopped(failure)) => (format!("stopped: {}", failure.as_str()), false),
        Err(words) => (words, true),
    };
    if on_failure_of(binding.config.on_failure) == OnFailure::Refuse && placed.spots.is_ok() {
        let words = format!("`{}`: {words}", binding.name);
        placed.spots = Err(if unavailable { Error::PluginUnavailable(words) } else { Error::PluginRejected(words) });
    }
    placed
}

#[cfg(test)]
mod tests;
