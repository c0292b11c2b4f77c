//! Lag: what a group has before it, by count and by age.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_model::judge::Verdict;
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{GroupId, Name, QueueId, QueueOffset, Timestamp, TopicId, limits};
use pointsman_state_machine::command::Ordering;
use pointsman_state_machine::state::{Binding, Cursor, Retry};

use crate::access::Action;
use crate::broker::Home;
use crate::error::Error;
use crate::passing::verdicts;
use crate::ports::ReadError;
use crate::view::{Lag, QueueLag};
use crate::{Broker, Call};

/// Entries read at a time.
const STEP: u64 = 1_024;

/// One queue as it was when the call looked.
struct Look {
    topic: TopicId,
    name: Name,
    queue: QueueId,
    cursor: Cursor,
    earliest: u64,
    latest: u64,
    filter: Option<Arc<Binding>>,
    /// The group keeps an order: what waits for an attempt is held and not settled.
    ordered: bool,
}

/// What lies unsettled in a queue.
#[derive(Default)]
struct Unsettled {
    messages: u64,
    oldest: Option<Timestamp>,
    exact: bool,
}

impl Broker {
    /// What a group has before it in each of its queues, in order of topic and queue.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], [`Error::NoLeader`], a failed read.
    pub async fn lag(&self, call: &Call, tenant: &str, group: &str) -> Result<Lag, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, runtime) = self.group(tenant, group)?;
        let mut inflight: HashMap<(String, QueueId), u64> = HashMap::new();
        for lease in runtime.inflight()? {
            *inflight.entry((lease.topic, lease.queue)).or_default() += 1;
        }
        let (looks, paused) = looks(&home, runtime.id());
        let now = home.shard.port.now();
        let share = limits::LAG_JUDGED_MAX / looks.len().max(1);
        let mut queues = Vec::with_capacity(looks.len());
        for look in looks {
            let unsettled = self.unsettled(&home, &look, share as u64).await?;
            let (retrying, oldest, all) = retrying(&home, runtime.id(), &look)?;
            let oldest = [unsettled.oldest, oldest].into_iter().flatten().min();
            queues.push(QueueLag {
                messages: unsettled.messages + retrying.apart,
                age_ms: oldest.map(|at| now.since_ms(at)),
                inflight: inflight.get(&(look.name.to_string(), look.queue)).copied().unwrap_or(0),
                retrying: retrying.rows,
                exact: unsettled.exact && all,
                topic: look.name.to_string(),
                queue: look.queue,
            });
        }
        queues.sort_by(|a, b| (&a.topic, a.queue).cmp(&(&b.topic, b.queue)));
        Ok(Lag { queues, paused })
    }

    /// Counts what is not settled and passes; past `bound` offsets all count.
    async fn unsettled(&self, home: &Home, look: &Look, bound: u64) -> Result<Unsettled, Error> {
        let from = look.cursor.next_unsettled(QueueOffset(look.earliest.max(look.cursor.floor().0))).0;
        let all = look.cursor.unsettled(QueueOffset(look.latest));
        // What retention took is not before the group any more.
        let gone = look.earliest.saturating_sub(look.cursor.floor().0);
        let all = all.saturating_sub(gone);
        let judge = match &look.filter {
            Some(binding) => Some(self.inner.bench.judge(&home.shard.port, binding).await),
            None => None,
        };
        let judge = match judge {
            Some(Ok(judge)) => judge,
            // Without a filter all pass; one that cannot run says nothing.
            other => {
                let oldest = entries(home, look, from, 1)?.first().map(|entry| entry.stamp);
                let oldest = oldest.filter(|_| all > 0);
                return Ok(Unsettled { messages: all, oldest, exact: other.is_none() });
            }
        };
        let mut found = Unsettled::default();
        let (mut at, mut judged) = (from, 0);
        while at < look.latest && judged < bound {
            let read = entries(home, look, at, STEP.min(look.latest - at))?;
            if read.is_empty() {
                break;
            }
            let next = at + read.len() as u64;
            let open = (at..).zip(&read).filter(|(offset, _)| !look.cursor.is_settled(QueueOffset(*offset)));
            let open: Vec<_> = open.map(|(_, entry)| (&look.name, *entry)).collect();
            judged += open.len() as u64;
            let said = verdicts(&home.shard.port, &*judge, &open).await?;
            for ((_, entry), verdict) in open.iter().zip(said) {
                if verdict != Verdict::Answer(false) {
                    found.messages += 1;
                    found.oldest.get_or_insert(entry.stamp);
                }
            }
            at = next;
        }
        let rest = all.saturating_sub(judged);
        found.messages += rest;
        found.exact = rest == 0;
        Ok(found)
    }
}

/// The queues of a group, and whether it is paused.
fn looks(home: &Home, id: GroupId) -> (Vec<Look>, bool) {
    let state = home.shard.port.state();
    let Some(group) = state.groups.get(&id) else { return (Vec::new(), false) };
    let mut looks = Vec::new();
    for topic in group.topic_ids.iter().filter_map(|id| state.topics.get(id)) {
        let filter = state.filter(id, topic.id).cloned().map(Arc::new);
        for queue in (0..topic.queues()).map(QueueId) {
            let ends = state.ends(topic.id, queue);
            looks.push(Look {
                topic: topic.id,
                name: topic.name.clone(),
                queue,
                cursor: state.cursor(id, topic.id, queue).cloned().unwrap_or_default(),
                earliest: ends.earliest,
                latest: ends.latest,
                filter: filter.clone(),
                ordered: group.config.ordering != Ordering::None,
            });
        }
    }
    (looks, group.paused)
}

/// Rows of the retry set in a queue.
struct Retrying {
    rows: u64,
    /// Of those, the ones that the cursor counts as settled.
    apart: u64,
}

fn retrying(home: &Home, group: GroupId, look: &Look) -> Result<(Retrying, Option<Timestamp>, bool), Error> {
    let port = &home.shard.port;
    let rows = match look.ordered {
        false => port.retries(group, look.topic, look.queue, limits::LAG_RETRIES_MAX)?.into_iter().map(row).collect(),
        true => held(home, group, look)?,
    };
    // Those that an ordered group never settled are before its cursor like any other.
    let apart = |(offset, _): &&(u64, Option<Timestamp>)| look.cursor.is_settled(QueueOffset(*offset));
    let oldest = match rows.iter().find(|row| apart(row)) {
        Some((_, Some(stored_at))) => Some(*stored_at),
        Some((offset, None)) => entries(home, look, *offset, 1)?.first().map(|entry| entry.stamp),
        None => None,
    };
    let retrying = Retrying { rows: rows.len() as u64, apart: rows.iter().filter(apart).count() as u64 };
    Ok((retrying, oldest, rows.len() < limits::LAG_RETRIES_MAX))
}

/// Offset of a row, and when its message was stored if the row knows.
fn row(row: Retry) -> (u64, Option<Timestamp>) {
    (row.offset, row.record.map(|record| Timestamp(record.stored_at)))
}

/// Held rows of a queue that wait for an attempt after their first.
fn held(home: &Home, group: GroupId, look: &Look) -> Result<Vec<(u64, Option<Timestamp>)>, Error> {
    let mut found = Vec::new();
    let before = match look.queue {
        QueueId(0) => (TopicId(look.topic.0.saturating_sub(1)), QueueId(u16::MAX), QueueOffset(u64::MAX)),
        QueueId(queue) => (look.topic, QueueId(queue - 1), QueueOffset(u64::MAX)),
    };
    for held in home.shard.port.held_after(group, Some(before), limits::LAG_RETRIES_MAX)? {
        if (held.topic, held.queue) != (look.topic.0, look.queue.0) {
            break;
        }
        if held.grant.is_none() && held.attempt > 1 {
            found.push((held.offset, held.record.map(|record| Timestamp(record.stored_at))));
        }
    }
    Ok(found)
}

/// Entries of a queue; none of what retention took meanwhile.
fn entries(home: &Home, look: &Look, from: u64, n: u64) -> Result<Vec<QueueEntry>, Error> {
    match home.shard.port.queue(look.topic, look.queue, QueueOffset(from), n as usize) {
        Ok(entries) => Ok(entries),
        Err(ReadError::Expired { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
