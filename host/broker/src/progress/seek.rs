//! Seek: a group goes on elsewhere.

use pointsman_model::record::{Header, kind};
use pointsman_model::{MessageId, QueueId, TopicId};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Durability, Expect, Seek, SeekMove};
use pointsman_state_machine::outcome::Outcome;
use pointsman_state_machine::state::{Group, Topic};

use crate::access::Action;
use crate::batcher::Request;
use crate::broker::Home;
use crate::error::Error;
use crate::lookup;
use crate::refusal::accepted;
use crate::view::{SeekRequest, SeekTo, Sought, SoughtQueue};
use crate::{Broker, Call};

/// A queue that is to move.
struct Move {
    topic: TopicId,
    name: String,
    queue: QueueId,
    from: u64,
    to: u64,
}

impl Broker {
    /// Puts a group elsewhere in some or all of its queues. Its leases there end, attempts start at 1 again, dead
    /// letters stay.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], [`Error::MessageNotFound`], a queue or topic that the group does not have, a failed
    /// precondition, a failed write.
    pub async fn seek(&self, call: &Call, tenant: &str, group: &str, ask: SeekRequest) -> Result<Sought, Error> {
        let home = self.authorize(call, tenant, Action::Admin(group))?;
        let found = home.shard.port.state().group(home.tenant, group).cloned();
        let group = found.ok_or_else(|| home.shard.absent(|| Error::GroupNotFound(group.into())))?;
        let at_message = match &ask.to {
            SeekTo::Message(id) => {
                Some(visible(&home, *id)?.ok_or_else(|| home.shard.absent(|| Error::MessageNotFound))?)
            }
            _ => None,
        };
        let moves = moves(&home, &group, &ask, at_message)?;
        let queues = |moves: &[Move]| -> Vec<SoughtQueue> {
            let shown = |m: &Move| SoughtQueue { topic: m.name.clone(), queue: m.queue, from: m.from, to: m.to };
            moves.iter().map(shown).collect()
        };
        if ask.dry_run {
            demand(&ask.expect, group.revision)?;
            return Ok(Sought { revision: group.revision, moves: queues(&moves) });
        }
        let head = Seek {
            group: group.id.0,
            expect: ask.expect,
            moves: moves.iter().map(|m| SeekMove { topic: m.topic.0, queue: m.queue.0, to: m.to }).collect(),
        };
        let term = home.shard.port.leadership().ok_or(Error::NoLeader)?;
        let request = Request { tenant: home.tenant, term, deadline: call.deadline, ack: Durability::Quorum };
        let header = Header { kind: kind::SEEK, tenant: home.tenant, ..Header::default() };
        let batcher = &home.shard.parts.batcher;
        let ticket = batcher.submit(request, 0, |writer| writer.write(&header, &head, &[]))?;
        let answer = batcher.wait(ticket, call.deadline).await?;
        let Outcome::Configured { revision, .. } = accepted(answer.outcomes().first())? else {
            return Err(Error::Internal("a seek without a revision".into()));
        };
        home.shard.group(group.id).look_for_retries();
        Ok(Sought { revision: *revision, moves: queues(&moves) })
    }
}

/// Topic, queue and offset of a message of the tenant.
fn visible(home: &Home, id: MessageId) -> Result<Option<(TopicId, QueueId, u64)>, Error> {
    if id.shard != home.shard.port.id() {
        return Ok(None);
    }
    let found = lookup::find(home, id)?.filter(|found| found.record.header.tenant == home.tenant);
    Ok(found.map(|found| (found.record.header.topic, found.record.header.queue, found.offset.0)))
}

/// The precondition as `apply` checks it.
fn demand(expect: &Expect, revision: u64) -> Result<(), Error> {
    let met = match expect {
        Expect::Anything | Expect::Present => true,
        Expect::Absent => false,
        Expect::Revision(allowed) => allowed.contains(&revision),
    };
    if met { Ok(()) } else { Err(Error::PreconditionFailed) }
}

/// The queues that move, in the order of their ids.
fn moves(
    home: &Home,
    group: &Group,
    ask: &SeekRequest,
    at_message: Option<(TopicId, QueueId, u64)>,
) -> Result<Vec<Move>, Error> {
    let state = home.shard.port.state();
    let topics = topics(&state, group, ask)?;
    let mut moves = Vec::new();
    for topic in &topics {
        for queue in (0..topic.queues()).map(QueueId) {
            if ask.queues.as_ref().is_some_and(|queues| !queues.contains(&queue)) {
                continue;
            }
            let ends = state.ends(topic.id, queue);
            let to = match (&ask.to, at_message) {
                (SeekTo::Earliest, _) => ends.earliest,
                (SeekTo::Latest, _) => ends.latest,
                (SeekTo::Offset(offset), _) => (*offset).clamp(ends.earliest, ends.latest),
                (SeekTo::Time(time), _) => home.shard.port.offset_at(topic.id, queue, *time)?.0,
                (SeekTo::Message(_), Some((of, at, offset))) if (of, at) == (topic.id, queue) => offset,
                (SeekTo::Message(_), _) => continue,
            };
            let from = state.floor(group.id, topic.id, queue).0;
            moves.push(Move { topic: topic.id, name: topic.name.to_string(), queue, from, to });
        }
    }
    if moves.is_empty() {
        let pointer = if at_message.is_some() { "/to/message_id" } else { "/queues" };
        return Err(Error::invalid(pointer, "none of the group's queues"));
    }
    moves.sort_by_key(|m| (m.topic, m.queue));
    Ok(moves)
}

/// The topics that were named, or all of the group.
fn topics<'a>(state: &'a State, group: &Group, ask: &SeekRequest) -> Result<Vec<&'a Topic>, Error> {
    let of_group: Vec<&Topic> = group.topic_ids.iter().filter_map(|id| state.topics.get(id)).collect();
    let named = match &ask.topics {
        None => of_group,
        Some(names) => {
            let find = |(at, name): (usize, &String)| {
                let found = of_group.iter().find(|topic| topic.name.as_str() == name).copied();
                found.ok_or_else(|| Error::invalid(format!("/topics/{at}"), "not a topic of the group"))
            };
            let mut named = names.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?;
            named.sort_by_key(|topic| topic.id);
            named.dedup_by_key(|topic| topic.id);
            named
        }
    };
    for (at, queue) in ask.queues.iter().flatten().enumerate() {
        if named.iter().all(|topic| queue.0 >= topic.queues()) {
            return Err(Error::invalid(format!("/queues/{at}"), "no topic of the seek has that queue"));
        }
    }
    Ok(named)
}
