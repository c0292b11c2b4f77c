//! Publish: from messages to records of the log.
//!
//! 1. Limits of the call, the tenant's home, the term this node leads in.
//! 2. Where each message goes: [`place`] for what needs no judge, the topic's worker ([`topic`]) where a [`selector`]
//!    is bound. One worker a topic, so judging keeps the order of arrival.
//! 3. The records go into an entry ([`mod@write`]); refused as stale they are decided again.
//! 4. The outcomes become receipts.

mod dedup;
mod inflight;
mod job;
mod place;
mod prepare;
mod receipt;
mod selector;
mod topic;
mod write;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pointsman_model::message::{NewMessage, check_stored_idempotency_key};
use pointsman_model::{Timestamp, limits};
use pointsman_state_machine::command::{DedupBy, Durability, ScheduleRan};
use pointsman_state_machine::outcome::Duplicate;
use pointsman_state_machine::state::Topic;

pub(crate) use topic::TopicRuntime;

use crate::batcher::past_deadline;
use crate::error::Error;
use crate::ports::BoxFuture;
use crate::shard::ShardRuntime;
use crate::view::{Publish, PublishReceipt, PublishState};
use crate::{Action, Broker, Call};
use job::{Decided, Job};
use receipt::Results;

impl Broker {
    /// Publishes messages, in order. One result a message; with `atomic` the first refusal is the answer.
    ///
    /// # Errors
    /// What refuses the call as a whole; what refuses one message is its own result.
    pub async fn publish(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
        publish: Publish,
    ) -> Result<Vec<Result<PublishReceipt, Error>>, Error> {
        let home = self.authorize(call, tenant, Action::Publish(topic))?;
        check_sizes(publish.messages.iter())?;
        let (topic_id, name, durability, judged) = {
            let state = home.shard.port.state();
            let found = state.topic(home.tenant, topic);
            let found = found.ok_or_else(|| home.shard.absent(|| Error::TopicNotFound(topic.into())))?;
            let judged = state.selector(found.id).is_some() || state.dedup(found.id).is_some();
            (found.id, found.name.clone(), found.config.durability, judged)
        };
        if judged {
            self.check_fuel(&home)?;
        }
        let bytes = publish.messages.iter().map(|message| message.body.len()).sum();
        self.charge_publish(&home, publish.messages.len(), bytes)?;
        let dues = dues(&publish, home.shard.port.now(), self.inner.config.time_scale)?;
        let runtime = home.shard.topic(topic_id);
        let hold = runtime.in_flight().hold(topic_id, &publish.messages);
        let job = Arc::new(Job {
            tenant: home.tenant,
            topic: topic_id,
            name,
            messages: publish.messages,
            dues,
            run: None,
            half: false,
            atomic: publish.atomic,
            ack: publish.ack.unwrap_or(durability),
            born: self.inner.clock.wall(),
            deadline: call.deadline,
            hold,
        });
        let results = self.publish_job(&job, &runtime).await?;
        let duplicates = results.iter().flatten().filter(|receipt| receipt.duplicate == Some(true)).count();
        self.inner.duplicates.fetch_add(duplicates as u64, Ordering::Relaxed);
        Ok(results)
    }

    /// Whether the caller may publish to a topic that is there: what a stream of publishes asks once, before it begins.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], a missing scope.
    pub async fn check_publish(&self, call: &Call, tenant: &str, topic: &str) -> Result<(), Error> {
        self.authorize(call, tenant, Action::Publish(topic))?;
        self.topic(tenant, topic).map(|_| ())
    }

    /// Publishes the message of a schedule's run, in one unit with the note that it ran.
    pub(crate) async fn publish_scheduled(
        &self,
        shard: &Arc<ShardRuntime>,
        topic: &Topic,
        message: NewMessage,
        run: ScheduleRan,
        deadline: Instant,
    ) -> Result<(), Error> {
        let job = Arc::new(Job {
            tenant: topic.tenant,
            topic: topic.id,
            name: topic.name.clone(),
            messages: vec![message],
            dues: Vec::new(),
            run: Some(run),
            half: false,
            atomic: true,
            ack: Durability::Quorum,
            born: self.inner.clock.wall(),
            deadline,
            hold: None,
        });
        let results = self.publish_job(&job, &shard.topic(topic.id)).await?;
        results.into_iter().try_for_each(|result| result.map(|_| ()))
    }

    /// What became of a publish with this idempotency key, as of now. What is absent once the publish's own time is up
    /// will never be stored.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], [`Error::NoLeader`], a failed read.
    pub async fn publish_state(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
        key: &str,
    ) -> Result<PublishState, Error> {
        self.authorize(call, tenant, Action::Publish(topic))?;
        let (home, topic) = self.topic(tenant, topic)?;
        let checked = check_stored_idempotency_key(key);
        checked.map_err(|reason| Error::invalid("", format!("idempotency key: {reason}")))?;
        let port = &home.shard.port;
        port.leadership().ok_or(Error::NoLeader)?;
        // First what is under way: what ends in between has its row then.
        let in_flight = home.shard.topic(topic.id).in_flight().holds(topic.id, key);
        Ok(match port.remembered(home.tenant, topic.id, DedupBy::Producer, key)? {
            // Nobody may see a half message; its producer knows more than this.
            Some(before) if before.is_half() => PublishState::InFlight,
            Some(before) => {
                let receipt = receipt::duplicate(&**port, home.tenant, &Duplicate::of(&before))?;
                PublishState::Committed(receipt)
            }
            None if in_flight => PublishState::InFlight,
            None => PublishState::Absent,
        })
    }

    async fn publish_job(
        &self,
        job: &Arc<Job>,
        runtime: &Arc<TopicRuntime>,
    ) -> Result<Vec<Result<PublishReceipt, Error>>, Error> {
        let mut results = Results::new(job);
        for _ in 0..=limits::STALE_RETRIES_MAX {
            if crate::call::now() >= job.deadline {
                return Err(past_deadline());
            }
            let decided = runtime.decide(job, results.pending()).await?;
            results.settled_before(runtime.shard(), &decided)?;
            if job.ack == Durability::Quorum {
                self.collect(runtime, job, decided, &mut results).await?;
            } else {
                self.collect_early(runtime, job, decided, &mut results).await?;
            }
            if results.is_done() {
                return Ok(results.finish());
            }
        }
        // Refused as stale again and again: its configuration changes faster than it can be judged.
        results.give_up()
    }

    /// Waits until the records are applied.
    async fn collect(
        &self,
        runtime: &TopicRuntime,
        job: &Job,
        decided: Decided,
        results: &mut Results<'_>,
    ) -> Result<(), Error> {
        for (range, ticket) in decided.tickets {
            let answer = runtime.batcher().wait(ticket, job.deadline).await;
            let placed = &decided.placed[range];
            let applied = results.apply(runtime.shard(), placed, answer);
            if let Some(due) = placed.iter().filter_map(|placed| job.due(placed.message)).min() {
                runtime.timers().expect(due);
            }
            applied?;
        }
        Ok(())
    }

    /// Waits until the log has the records, as weakly as was asked for, and lets a task see to the rest.
    async fn collect_early(
        &self,
        runtime: &Arc<TopicRuntime>,
        job: &Arc<Job>,
        mut decided: Decided,
        results: &mut Results<'_>,
    ) -> Result<(), Error> {
        for (range, ticket) in &mut decided.tickets {
            let Some(early) = ticket.early.take() else { continue };
            let heard = tokio::time::timeout_at(job.deadline.into(), early).await;
            let heard = heard.map_or(Err(Error::OutcomeUnknown), |heard| heard.unwrap_or(Err(Error::OutcomeUnknown)));
            results.apply_early(runtime.shard(), &decided.placed[range.clone()], heard)?;
        }
        self.inner.tasks.spawn(self.clone().follow(Arc::clone(runtime), Arc::clone(job), decided));
        Ok(())
    }

    /// Sees what became of records that were answered early. What was stale by then is stored after all, under an id
    /// that its producer does not know: a weak ack must not lose messages because a binding was switched.
    /// Boxed, for it may publish again.
    fn follow(self, runtime: Arc<TopicRuntime>, job: Arc<Job>, decided: Decided) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut results = Results::new(&job);
            let refused = results.settled_before(runtime.shard(), &decided);
            if let Err(error) = refused.and(self.collect(&runtime, &job, decided, &mut results).await) {
                tracing::warn!(topic.name = %job.name, %error, "a publish answered early was not stored");
                return;
            }
            let stale = results.pending();
            if !stale.is_empty() {
                let again = Arc::new(job.again(&stale, Durability::Quorum));
                let stored = self.publish_job(&again, &runtime).await;
                let stored = stored.map_or(0, |results| results.iter().filter(|result| result.is_ok()).count());
                tracing::warn!(topic.name = %job.name, stale = stale.len(), stored, "a publish answered early was stale");
            }
        })
    }
}

/// When each message is due; empty if all of them are at once.
fn dues(publish: &Publish, now: Timestamp, time_scale: f64) -> Result<Vec<Option<Timestamp>>, Error> {
    if publish.messages.iter().all(|message| message.delay.is_none()) {
        return Ok(Vec::new());
    }
    let due = |(i, message): (usize, &NewMessage)| {
        let Some(delay) = message.delay else { return Ok(None) };
        delay
            .due(now, time_scale)
            .map_err(|error| Error::invalid(format!("/messages/{i}/{}", delay.field()), error.to_string()))
    };
    publish.messages.iter().enumerate().map(due).collect()
}

/// The limits of one call.
fn check_sizes<'a>(messages: impl Iterator<Item = &'a NewMessage>) -> Result<(), Error> {
    let (mut count, mut bytes) = (0, 0);
    for message in messages {
        count += 1;
        bytes += message.body.len();
    }
    if count == 0 {
        return Err(Error::invalid("/messages", "at least one message"));
    }
    if count > limits::BATCH_MESSAGES_MAX {
        return Err(Error::BatchTooLarge(format!("at most {} messages", limits::BATCH_MESSAGES_MAX)));
    }
    // A single message has the topic's limit and its own code.
    if bytes > limits::BATCH_BYTES_MAX && count > 1 {
        return Err(Error::BatchTooLarge(format!("at most {} bytes of payload", limits::BATCH_BYTES_MAX)));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
