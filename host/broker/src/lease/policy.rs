//! What comes of attempts that ended badly: the group's retry policy, or the default table.
//!
//! Asked on the leader before anything is proposed, and fenced by the group's generation: `apply` refuses a decision
//! of another one as stale, and it is taken again. The last attempt of a message is not asked about: `apply` makes a
//! dead letter of it.

use std::sync::Arc;

use pointsman_model::judge::{OnFailure, RetryAnswer, RetryQuestion, Verdict};
use pointsman_model::queue_entry::{FLAG_TTL, QueueEntry};
use pointsman_model::{QueueId, QueueOffset, Timestamp, TopicId, limits, retry};
use pointsman_state_machine::command::{AttemptEnd, DecidedBy, Decision, Judged, LeaseRef, SettleItem, SettleOp};
use pointsman_state_machine::state::Binding;

use super::GroupRuntime;
use super::ending::Endings;
use super::scan::head;
use crate::error::Error;
use crate::judging::on_failure_of;
use crate::ports::Judge;

/// An attempt that ended badly, and what its decision needs beside what goes into the log.
pub(super) struct Undecided {
    pub(super) at: At,
    pub(super) entry: QueueEntry,
    /// Attempts before the message was last redriven.
    pub(super) base: u16,
    /// A policy decides; else its consumer did.
    pub(super) asks: bool,
}

/// Which ending of an [`Endings`].
#[derive(Clone, Copy)]
pub(super) enum At {
    Settle(usize),
    Expire(usize),
}

/// The policy of a group, or why it cannot be asked.
struct Policy {
    binding: Binding,
    judge: Result<Arc<dyn Judge>, String>,
}

impl GroupRuntime {
    /// Decides what is left to decide. Decisions of an earlier try are taken again.
    pub(super) async fn decide(&self, endings: &mut Endings) -> Result<(), Error> {
        if endings.undecided.is_empty() {
            return Ok(());
        }
        let policy = self.policy().await;
        let max_retries = self.parts.port.state().groups.get(&self.id).map_or(0, |group| group.config.max_retries);
        for at in 0..endings.undecided.len() {
            let undecided = &endings.undecided[at];
            let (lease, end, expired) = endings.ending(undecided.at);
            let delivery = lease.attempt.saturating_sub(undecided.base);
            let (decision, by) = if self.is_past_ttl(&undecided.entry)? {
                (Decision::Drop, DecidedBy::TimeToLive)
            } else if !undecided.asks {
                continue;
            } else {
                match &policy {
                    Some(policy) if delivery <= max_retries => {
                        let question = self.question(undecided, &lease, end, expired, max_retries)?;
                        self.ask(policy, endings.generation(), question).await
                    }
                    _ => (self.by_table(delivery), DecidedBy::Table),
                }
            };
            let at = endings.undecided[at].at;
            let end = endings.end_mut(at);
            (end.decision, end.by) = (decision, by);
        }
        Ok(())
    }

    /// The group's retry policy.
    async fn policy(&self) -> Option<Policy> {
        let binding = self.parts.port.state().retry(self.id).cloned()?;
        let judge = self.parts.bench.judge(&self.parts.port, &binding).await;
        Some(Policy { binding, judge })
    }

    async fn ask(
        &self,
        policy: &Policy,
        generation: pointsman_model::Generation,
        question: RetryQuestion,
    ) -> (Decision, DecidedBy) {
        let judged = Judged { binding: policy.binding.id.0, generation: generation.0 };
        let delivery = question.attempt;
        let words = match &policy.judge {
            Ok(judge) => match judge.retry(question).await {
                Verdict::Answer(answer) => return (self.decision(answer), DecidedBy::Policy(judged)),
                Verdict::Failed(words) => words,
                Verdict::Stopped(failure) => failure.as_str().to_owned(),
            },
            Err(words) => words.clone(),
        };
        tracing::debug!(group.id = %self.id, binding.name = %policy.binding.name, %words, "a retry policy failed");
        let decision = match on_failure_of(policy.binding.config.on_failure) {
            OnFailure::DeadLetter => {
                let mut reason = format!("retry policy: {words}");
                cut(&mut reason);
                Decision::DeadLetter { reason: Some(reason) }
            }
            _ => self.by_table(delivery),
        };
        (decision, DecidedBy::OnFailure(judged))
    }

    fn decision(&self, answer: RetryAnswer) -> Decision {
        match answer {
            RetryAnswer::Again { delay_ms, scaled } => {
                let delay_ms = if scaled { (delay_ms as f64 * self.parts.time_scale).round() as u64 } else { delay_ms };
                Decision::Again { delay_ms: delay_ms.min(limits::DELAY_MS_MAX) }
            }
            RetryAnswer::DeadLetter { mut reason } => {
                reason.iter_mut().for_each(cut);
                Decision::DeadLetter { reason }
            }
            RetryAnswer::Drop => Decision::Drop,
        }
    }

    fn by_table(&self, delivery: u16) -> Decision {
        Decision::Again { delay_ms: retry::delay_ms(delivery, self.parts.time_scale) }
    }

    /// True if the message's time to live is over: it is neither delivered again nor dead-lettered.
    fn is_past_ttl(&self, entry: &QueueEntry) -> Result<bool, Error> {
        if entry.flags & FLAG_TTL == 0 {
            return Ok(false);
        }
        let record = self.parts.port.record_head(entry)?;
        let ttl_ms = head(&record.head)?.ttl_ms;
        Ok(ttl_ms > 0 && entry.stamp.plus_ms(ttl_ms) <= self.parts.port.now())
    }

    fn question(
        &self,
        undecided: &Undecided,
        lease: &LeaseRef,
        end: &AttemptEnd,
        expired: bool,
        max_retries: u16,
    ) -> Result<RetryQuestion, Error> {
        let port = &self.parts.port;
        let record = port.record(&undecided.entry)?;
        let message = head(&record.head)?;
        let (topic, queue, offset) = (TopicId(lease.topic), QueueId(lease.queue), QueueOffset(lease.offset));
        let first = match lease.attempt {
            1 => None,
            _ => port.retry(self.id, topic, queue, offset)?.and_then(|row| row.history.into_iter().next()),
        };
        let time = |ms: u64| (ms > 0).then_some(Timestamp(ms));
        let (topic, group) = {
            let state = port.state();
            let topic = state.topics.get(&topic).map(|topic| topic.name.to_string());
            (topic, state.groups.get(&self.id).map(|group| group.name.to_string()))
        };
        let own = |text: &str| text.to_owned();
        Ok(RetryQuestion {
            topic: topic.unwrap_or_default(),
            group: group.unwrap_or_default(),
            attempt: lease.attempt.saturating_sub(undecided.base),
            max_retries,
            tag: message.tag.map(own),
            keys: message.keys.iter().map(|key| own(key)).collect(),
            ordering_key: message.ordering_key.map(own),
            properties: message.properties.iter().map(|(name, value)| (own(name), own(value))).collect(),
            priority: record.header.priority,
            body_bytes: u32::try_from(record.body.len()).unwrap_or(u32::MAX),
            stored_at: undecided.entry.stamp,
            first_delivered_at: time(first.map_or(end.delivered_at, |first| first.delivered_at)),
            delivered_at: time(end.delivered_at),
            now: port.now(),
            expired,
            reason: end.reason.clone(),
            client_id: end.client_id.clone(),
        })
    }
}

impl Endings {
    /// An ending, and whether the lease ran out.
    fn ending(&self, at: At) -> (LeaseRef, &AttemptEnd, bool) {
        match at {
            At::Settle(at) => match &self.settle[at] {
                SettleItem { lease, op: SettleOp::Nack(end) } => (*lease, end, false),
                item => unreachable!("{:?} leaves nothing to decide", item.op),
            },
            At::Expire(at) => (self.expire[at].0, &self.expire[at].1, true),
        }
    }

    fn end_mut(&mut self, at: At) -> &mut AttemptEnd {
        match at {
            At::Settle(at) => match &mut self.settle[at].op {
                SettleOp::Nack(end) => end,
                op => unreachable!("{op:?} leaves nothing to decide"),
            },
            At::Expire(at) => &mut self.expire[at].1,
        }
    }
}

/// Cuts a reason to its limit.
fn cut(reason: &mut String) {
    let mut end = limits::REASON_BYTES_MAX.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
}
