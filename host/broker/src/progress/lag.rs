//! Lag: what a group has before it, by count and by age.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_model::judge::Verdict;
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{GroupId, Name, QueueId, QueueOffset, Timestamp, TopicId, limits};
use pointsman_state_machine::state::{Binding, Cursor};

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
    let rows = port.retries(group, look.topic, look.queue, limits::LAG_RETRIES_MAX)?;
    let oldest = match rows.first() {
        Some(row) => match row.record {
            Some(record) => Some(Timestamp(record.stored_at)),
            None => entries(home, look, row.offset, 1)?.first().map(|entry| entry.stamp),
        },
        None => None,
    };
    let n = rows.len() as u64;
    Ok((Retrying { rows: n, apart: n }, oldest, rows.len() < limits::LAG_RETRIES_MAX))
}

/// Entries of a queue; none of what retention took meanwhile.
fn entries(home: &Home, look: &Look, from: u64, n: u64) -> Result<Vec<QueueEntry>, Error> {
    match home.shard.port.queue(look.topic, look.queue, QueueOffset(from), n as usize) {
        Ok(entries) => Ok(entries),
        Err(ReadError::Expired { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
