//! Explain and trace: what happened to a message and why, from what the log left in the state.
//!
//! What judged at publish is in the record, how attempts ended is in the rows of retries and dead letters. A filter's
//! verdict is no record: it is computed again, with the binding as it is now, and says so.

use pointsman_model::judge::{OnFailure, Verdict};
use pointsman_model::queue_entry::{FLAG_TTL, QueueEntry};
use pointsman_model::{BindingId, GroupId, MessageId, Name, QueueId, QueueOffset, Timestamp, TopicId};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{DedupBy, Judged, Ordering, Placement, PublishHead};
use pointsman_state_machine::state::{Binding, EndedAttempt};

use crate::broker::Home;
use crate::dlq::{self, attempt};
use crate::error::Error;
use crate::judging::on_failure_of;
use crate::passing::verdicts;
use crate::ports::ReadError;
use crate::view::{
    AttemptView, Deduplicated, Explained, FilterSaid, JudgedBy, MessageById, Routed, Standing, StoredMessage,
    TraceEvent,
};
use crate::{Broker, Call};

impl Broker {
    /// Why a group did or did not get a message.
    ///
    /// # Errors
    /// [`Error::MessageNotFound`], [`Error::GroupNotFound`], a failed read.
    pub async fn explain(&self, call: &Call, tenant: &str, id: MessageId, group: &str) -> Result<Explained, Error> {
        let found = self.find_message(call, tenant, id).await?;
        let home = self.home(tenant)?;
        let (group_id, generation) = {
            let state = home.shard.port.state();
            let found = state.group(home.tenant, group).map(|group| (group.id, group.generation.0));
            found.ok_or_else(|| home.shard.absent(|| Error::GroupNotFound(group.into())))?
        };
        let topic = found.topic().to_owned();
        let group = group.to_owned();
        let stored = match found {
            MessageById::Stored(stored) => stored,
            MessageById::Scheduled(scheduled) => {
                let head = scheduled.head()?;
                let (routed, dedup) = at_publish(&home.shard.port.state(), &head);
                let standing = Standing { state: "scheduled", ..Standing::default() };
                let (queue, offset, stored_at, filter) = (None, None, None, None);
                let deliver_at = Some(scheduled.deliver_at);
                return Ok(Explained {
                    id,
                    topic,
                    queue,
                    offset,
                    stored_at,
                    deliver_at,
                    routed,
                    dedup,
                    group,
                    generation,
                    filter,
                    standing,
                });
            }
        };
        let (routed, dedup) = at_publish(&home.shard.port.state(), &stored.head()?);
        let (filter, standing) = self.standing(&home, group_id, &stored).await?;
        Ok(Explained {
            id,
            topic,
            queue: Some(stored.record.header.queue),
            offset: Some(stored.offset),
            stored_at: Some(stored.stored_at),
            deliver_at: None,
            routed,
            dedup,
            group,
            generation,
            filter,
            standing,
        })
    }

    /// What happened to a message, in order of time; what has none comes last.
    ///
    /// # Errors
    /// [`Error::MessageNotFound`], a failed read.
    pub async fn trace(&self, call: &Call, tenant: &str, id: MessageId) -> Result<Vec<TraceEvent>, Error> {
        let found = self.find_message(call, tenant, id).await?;
        let home = self.home(tenant)?;
        let stored = match found {
            MessageById::Stored(stored) => stored,
            MessageById::Scheduled(scheduled) => {
                let (routed, _) = at_publish(&home.shard.port.state(), &scheduled.head()?);
                return Ok(published(scheduled.record.header.born, &routed));
            }
        };
        let (routed, _) = at_publish(&home.shard.port.state(), &stored.head()?);
        let mut events = published(stored.stored_at, &routed);
        let topic = stored.record.header.topic;
        let groups: Vec<_> = {
            let state = home.shard.port.state();
            let of_topic = state.groups.values();
            let of_topic = of_topic.filter(|group| group.tenant == home.tenant && group.topic_ids.contains(&topic));
            of_topic.map(|group| (group.id, group.name.to_string())).collect()
        };
        for (id, name) in groups {
            let (_, standing) = self.standing(&home, id, &stored).await?;
            push_group(&mut events, &name, standing);
        }
        // Stable, so that what happened at once stays in its order.
        events.sort_by_key(|event| event.at.map_or(u64::MAX, |at| at.0));
        Ok(events)
    }

    /// Where a group stands with a visible message, and what its filter says of it.
    async fn standing(
        &self,
        home: &Home,
        group: GroupId,
        message: &StoredMessage,
    ) -> Result<(Option<FilterSaid>, Standing), Error> {
        let (topic, queue, offset) = (message.record.header.topic, message.record.header.queue, message.offset);
        let letter = dlq::find(home, group, message.id)?;
        let mut standing = Standing::default();
        if let Some(letter) = &letter {
            standing.dead_reason = Some(dlq::reason(letter));
            standing.dead_at = Some(Timestamp(letter.dead_at));
            standing.redriven_at = letter.redriven_at.map(Timestamp);
            standing.history = shown(home, &letter.history);
        }
        let subscribed = {
            let state = home.shard.port.state();
            state.groups.get(&group).is_some_and(|group| group.topic_ids.contains(&topic))
        };
        if !subscribed {
            standing.state = "not-subscribed";
            return Ok((None, standing));
        }
        let said = self.filter_says(home, group, message).await?;
        standing.state = self.state_of(home, group, (topic, queue, offset), &said, &mut standing)?;
        if standing.state == "waiting" && is_past_ttl(home, message)? {
            standing.state = "expired";
        }
        if letter.is_some_and(|letter| letter.redriven_at.is_none()) && standing.state == "settled" {
            standing.state = "dead-lettered";
        }
        Ok((Some(said), standing))
    }

    /// What rows and leases say.
    fn state_of(
        &self,
        home: &Home,
        group: GroupId,
        (topic, queue, offset): (TopicId, QueueId, QueueOffset),
        said: &FilterSaid,
        standing: &mut Standing,
    ) -> Result<&'static str, Error> {
        let port = &home.shard.port;
        let (ordered, settled) = {
            let state = port.state();
            let ordered = state.groups.get(&group).is_some_and(|group| group.config.ordering != Ordering::None);
            (ordered, state.cursor(group, topic, queue).is_some_and(|cursor| cursor.is_settled(offset)))
        };
        let row = match ordered {
            true => port.held(group, topic, queue, offset)?.map(|held| {
                let due = held.grant.is_none().then_some(held.due);
                (held.attempt.saturating_sub(held.base), due, held.history)
            }),
            false => port
                .retry(group, topic, queue, offset)?
                .map(|retry| (retry.attempt.saturating_sub(retry.base), Some(retry.due), retry.history)),
        };
        let retrying = row.is_some();
        if let Some((delivery, due, history)) = row {
            standing.attempt = Some(delivery);
            standing.due_at = due.map(Timestamp);
            if !history.is_empty() {
                standing.history = shown(home, &history);
            }
        }
        let lease = match port.leadership() {
            Some(_) => home.shard.group(group).lease_at((topic, queue, offset.0)),
            None => None,
        };
        if let Some(lease) = lease {
            standing.attempt = Some(lease.attempt);
            standing.client_id = lease.client_id;
            standing.delivered_at = Some(lease.delivered_at);
            standing.lease_expires_at = Some(lease.expires_at);
            standing.due_at = None;
            return Ok("leased");
        }
        Ok(match (retrying, settled, said.verdict) {
            (true, ..) => "retrying",
            (false, _, "skip") => "skipped",
            (false, true, _) => "settled",
            (false, false, _) => {
                standing.attempt = Some(1);
                "waiting"
            }
        })
    }

    /// Asks the group's filter again.
    async fn filter_says(&self, home: &Home, group: GroupId, message: &StoredMessage) -> Result<FilterSaid, Error> {
        let port = &home.shard.port;
        let header = &message.record.header;
        let found = {
            let state = port.state();
            let generation = state.groups.get(&group).map_or(0, |group| group.generation.0);
            state.filter(group, header.topic).cloned().map(|binding| (binding, generation))
        };
        let Some((binding, generation)) = found else {
            return Ok(FilterSaid { verdict: "deliver", ..FilterSaid::default() });
        };
        let judged = Some(judged_by(&binding, generation));
        let entry = match entry_of(home, (header.topic, header.queue, message.offset))? {
            Some(entry) => entry,
            None => return Ok(FilterSaid { judged, verdict: "failed", reason: Some("no longer in its queue".into()) }),
        };
        let subject: [(&Name, QueueEntry); 1] = [(&message.topic, entry)];
        let said = match self.inner.bench.judge(port, &binding).await {
            Ok(judge) => verdicts(port, &*judge, &subject).await?.into_iter().next(),
            Err(words) => Some(Verdict::Failed(words)),
        };
        let words = match said {
            Some(Verdict::Answer(true)) => return Ok(FilterSaid { judged, verdict: "deliver", reason: None }),
            Some(Verdict::Answer(false)) => return Ok(FilterSaid { judged, verdict: "skip", reason: None }),
            Some(Verdict::Failed(words)) => words,
            Some(Verdict::Stopped(failure)) => failure.as_str().to_owned(),
            None => "no answer".to_owned(),
        };
        let policy: OnFailure = on_failure_of(binding.config.on_failure);
        Ok(FilterSaid {
            judged,
            verdict: "failed",
            reason: Some(format!("{words}; on_failure is {}", policy.as_str())),
        })
    }
}

/// What was decided when a message was published.
fn at_publish(state: &State, head: &PublishHead<'_>) -> (Routed, Option<Deduplicated>) {
    let by = match head.placement {
        Placement::Explicit => "explicit",
        Placement::Slot => "slot",
        Placement::Selector => "selector",
        Placement::Fallback => "fallback",
        Placement::RoundRobin => "round-robin",
    };
    let source = head.source.and_then(|source| state.topics.get(&TopicId(source.topic)));
    let judged = head.judged.iter().map(|judged| judged_then(state, *judged)).collect();
    let dedup = head.dedup.as_ref().map(|dedup| Deduplicated {
        key: dedup.key.to_owned(),
        by: match dedup.by {
            DedupBy::Producer => "producer",
            DedupBy::Plugin => "plugin",
        },
        window_ms: dedup.window_ms,
    });
    (Routed { by, source: source.map(|topic| topic.name.to_string()), judged }, dedup)
}

/// A binding as it was under a generation: its plugin is known if it was not written since.
fn judged_then(state: &State, judged: Judged) -> JudgedBy {
    match state.bindings.get(&BindingId(judged.binding)) {
        Some(binding) if binding.generation.0 <= judged.generation => judged_by(binding, judged.generation),
        Some(binding) => {
            JudgedBy { binding: Some(binding.name.to_string()), generation: judged.generation, ..JudgedBy::default() }
        }
        None => JudgedBy { generation: judged.generation, ..JudgedBy::default() },
    }
}

fn judged_by(binding: &Binding, generation: u32) -> JudgedBy {
    JudgedBy {
        binding: Some(binding.name.to_string()),
        generation,
        plugin: Some(binding.config.plugin.clone()),
        version: Some(binding.config.version.clone()),
        digest: Some(binding.digest),
    }
}

fn entry_of(home: &Home, (topic, queue, offset): (TopicId, QueueId, QueueOffset)) -> Result<Option<QueueEntry>, Error> {
    match home.shard.port.queue(topic, queue, offset, 1) {
        Ok(entries) => Ok(entries.into_iter().next()),
        Err(ReadError::Expired { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_past_ttl(home: &Home, message: &StoredMessage) -> Result<bool, Error> {
    let header = &message.record.header;
    let entry = entry_of(home, (header.topic, header.queue, message.offset))?;
    if entry.is_none_or(|entry| entry.flags & FLAG_TTL == 0) {
        return Ok(false);
    }
    let expires = message.expires_at(&message.head()?);
    Ok(expires.is_some_and(|expires| expires <= home.shard.port.now()))
}

fn shown(home: &Home, history: &[EndedAttempt]) -> Vec<AttemptView> {
    let state = home.shard.port.state();
    history.iter().map(|ended| attempt(&state, ended)).collect()
}

/// The first events of every message.
fn published(at: Timestamp, routed: &Routed) -> Vec<TraceEvent> {
    let judged = routed.judged.first();
    vec![
        TraceEvent { at: Some(at), event: "published", ..TraceEvent::default() },
        TraceEvent {
            at: Some(at),
            event: "routed",
            decision: Some(routed.by.to_owned()),
            binding: judged.and_then(|judged| judged.binding.clone()),
            generation: judged.map(|judged| judged.generation),
            ..TraceEvent::default()
        },
    ]
}

/// What happened to a message in one group.
fn push_group(events: &mut Vec<TraceEvent>, group: &str, standing: Standing) {
    let of_group = || TraceEvent { group: Some(group.to_owned()), ..TraceEvent::default() };
    for ended in standing.history {
        let of_attempt =
            || TraceEvent { attempt: Some(ended.attempt), client_id: ended.client_id.clone(), ..of_group() };
        events.push(TraceEvent { at: ended.delivered_at, event: "delivered", ..of_attempt() });
        events.push(TraceEvent {
            at: Some(ended.ended_at),
            event: if ended.outcome == "expired" { "expired" } else { "nacked" },
            reason: ended.reason.clone(),
            decision: Some(ended.decision.to_owned()),
            delay_ms: ended.delay_ms,
            binding: ended.binding.clone(),
            generation: ended.generation,
            ..of_attempt()
        });
    }
    if standing.dead_at.is_some() {
        events.push(TraceEvent {
            at: standing.dead_at,
            event: "dead-lettered",
            reason: standing.dead_reason,
            ..of_group()
        });
    }
    if standing.redriven_at.is_some() {
        events.push(TraceEvent { at: standing.redriven_at, event: "redriven", ..of_group() });
    }
    match standing.state {
        "leased" => events.push(TraceEvent {
            at: standing.delivered_at,
            event: "delivered",
            attempt: standing.attempt,
            client_id: standing.client_id,
            ..of_group()
        }),
        "settled" | "skipped" | "expired" => events.push(TraceEvent { event: standing.state, ..of_group() }),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
