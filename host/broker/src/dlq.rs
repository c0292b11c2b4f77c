//! Dead letters: listed, read, deleted, and sent on their way again ([`redrive`]).

mod redrive;

use std::time::{Duration, Instant};

use pointsman_model::record::{Header, kind};
use pointsman_model::{
    BindingId, GroupId, LogIndex, MessageId, Name, Ordinal, QueueOffset, ShardId, Timestamp, TopicId, limits,
};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{DeadLetterChange, DeadLetterOp, DecidedBy, Decision, Durability};
use pointsman_state_machine::outcome::{LetterFate, Outcome};
use pointsman_state_machine::state::{DeadLetter, DeadReason, EndedAttempt};

use crate::access::Action;
use crate::batcher::Request;
use crate::broker::Home;
use crate::error::Error;
use crate::lookup::id_of;
use crate::refusal::accepted;
use crate::shard::ShardRuntime;
use crate::view::{AttemptView, DeadLetterView, Page, PageRequest, StoredMessage};
use crate::{Broker, Call};

/// How long the broker's own records may wait to be proposed.
const DEADLINE: Duration = Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);

impl Broker {
    /// The dead letters of a group, in the order their messages were stored.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], a foreign cursor, a failed read.
    pub async fn list_dead_letters(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        page: &PageRequest,
    ) -> Result<Page<DeadLetterView>, Error> {
        let (home, group) = self.group_id(call, tenant, group, Action::Consume(group))?;
        let mut failed = None;
        let page = self.page(&format!("{}/{group}/dlq", home.tenant), page, |last, n| {
            let after = last.and_then(place_of_key);
            open_letters(&home, group, after, n).unwrap_or_else(|error| {
                failed = Some(error);
                Vec::new()
            })
        })?;
        failed.map_or(Ok(page), Err)
    }

    /// One dead letter, by the id of its message.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], [`Error::MessageNotFound`], a failed read.
    pub async fn get_dead_letter(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        id: MessageId,
    ) -> Result<DeadLetterView, Error> {
        let (home, group) = self.group_id(call, tenant, group, Action::Consume(group))?;
        let letter = find(&home, group, id)?.filter(|letter| letter.redriven_at.is_none());
        let view = letter.map(|letter| view(&home, letter)).transpose()?.flatten();
        view.ok_or_else(|| home.shard.absent(|| Error::MessageNotFound))
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], [`Error::MessageNotFound`], a failed write.
    pub async fn delete_dead_letter(&self, call: &Call, tenant: &str, group: &str, id: MessageId) -> Result<(), Error> {
        let (home, group) = self.group_id(call, tenant, group, Action::Consume(group))?;
        let letter = find(&home, group, id)?.filter(|letter| letter.redriven_at.is_none());
        let letter = letter.ok_or_else(|| home.shard.absent(|| Error::MessageNotFound))?;
        let fates = change(&home, group, vec![key(&letter)], DeadLetterOp::Delete, call.deadline).await?;
        match fates.first() {
            Some(LetterFate::Forgotten) => Ok(()),
            _ => Err(Error::MessageNotFound),
        }
    }

    /// A group's id and home, if the caller may do that with it.
    pub(crate) fn group_id(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        action: Action<'_>,
    ) -> Result<(Home, GroupId), Error> {
        let home = self.authorize(call, tenant, action)?;
        let id = home.shard.port.state().group(home.tenant, group).map(|group| group.id);
        let id = id.ok_or_else(|| home.shard.absent(|| Error::GroupNotFound(group.into())))?;
        Ok((home, id))
    }
}

impl ShardRuntime {
    /// Forgets dead letters whose retention is over, a bounded number of each group.
    pub(crate) fn forget_dead_letters(&self) {
        if self.port.leadership().is_none() {
            return;
        }
        let groups: Vec<_> = {
            let state = self.port.state();
            let groups = state.dead.keys().filter_map(|id| state.groups.get(id));
            groups.map(|group| (group.id, group.tenant)).collect()
        };
        let now = self.port.now();
        for (group, tenant) in groups {
            let letters = match self.port.expired_dead_letters(group, now, limits::SETTLE_ITEMS_MAX) {
                Ok(letters) if letters.is_empty() => continue,
                Ok(letters) => letters,
                Err(error) => {
                    tracing::warn!(group.id = %group, %error, "dead letters past their retention are not read");
                    continue;
                }
            };
            let Some(term) = self.port.leadership() else { return };
            let head = DeadLetterChange { group: group.0, letters, op: DeadLetterOp::Expire };
            let header = Header { kind: kind::DEAD_LETTER_CHANGE, tenant, ..Header::default() };
            let deadline = crate::call::now() + DEADLINE;
            let request = Request { tenant, term, deadline, ack: Durability::Quorum };
            let submitted = self.parts.batcher.submit(request, 0, |writer| writer.write(&header, &head, &[]));
            if let Err(error) = submitted {
                // They are found again at the next look.
                tracing::debug!(group.id = %group, %error, "dead letters past their retention stay a while");
            }
        }
    }
}

/// What is done with dead letters, written to the log.
async fn change(
    home: &Home,
    group: GroupId,
    letters: Vec<(u64, u16)>,
    op: DeadLetterOp,
    deadline: Instant,
) -> Result<Vec<LetterFate>, Error> {
    let term = home.shard.port.leadership().ok_or(Error::NoLeader)?;
    let request = Request { tenant: home.tenant, term, deadline, ack: Durability::Quorum };
    let header = Header { kind: kind::DEAD_LETTER_CHANGE, tenant: home.tenant, ..Header::default() };
    let head = DeadLetterChange { group: group.0, letters, op };
    let batcher = &home.shard.parts.batcher;
    let ticket = batcher.submit(request, 0, |writer| writer.write(&header, &head, &[]))?;
    let answer = batcher.wait(ticket, deadline).await?;
    match accepted(answer.outcomes().first())? {
        Outcome::DeadLetters(fates) => Ok(fates.clone()),
        other => Err(Error::Internal(format!("a change of dead letters came to {other:?}"))),
    }
}

/// Dead letters behind a place that were not redriven, at most `n`, each with its key in a page.
fn open_letters(
    home: &Home,
    group: GroupId,
    mut after: Option<(LogIndex, Ordinal)>,
    n: usize,
) -> Result<Vec<(String, DeadLetterView)>, Error> {
    let mut found = Vec::new();
    let now = home.shard.port.now();
    while found.len() < n {
        let letters = home.shard.port.dead_letters(group, after, n)?;
        let last = letters.len() < n;
        for letter in letters {
            let (index, ordinal) = key(&letter);
            after = Some((LogIndex(index), Ordinal(ordinal)));
            if is_open(&letter, now) && found.len() < n {
                found.extend(view(home, letter)?.map(|view| (format!("{index}.{ordinal}"), view)));
            }
        }
        if last {
            break;
        }
    }
    Ok(found)
}

/// True if a dead letter is one still.
fn is_open(letter: &DeadLetter, now: Timestamp) -> bool {
    letter.redriven_at.is_none() && letter.expires > now.0
}

fn place_of_key(text: &str) -> Option<(LogIndex, Ordinal)> {
    let (index, ordinal) = text.split_once('.')?;
    Some((LogIndex(index.parse().ok()?), Ordinal(ordinal.parse().ok()?)))
}

/// Index and ordinal of the record that a dead letter refers to.
fn key(letter: &DeadLetter) -> (u64, u16) {
    (letter.record.place.index, letter.record.place.ordinal)
}

/// The dead letter of a message, redriven or not.
pub(crate) fn find(home: &Home, group: GroupId, id: MessageId) -> Result<Option<DeadLetter>, Error> {
    let port = &home.shard.port;
    if id.shard != port.id() {
        return Ok(None);
    }
    let now = port.now();
    let kept = |letter: &DeadLetter| letter.expires > now.0;
    let own = port.dead_letter(group, id.index, id.ordinal)?;
    if let Some(letter) = own.filter(|letter| letter.record.place.term == id.term.0) {
        return Ok(Some(letter).filter(kept));
    }
    // A message that was parked goes by the id of the record it was parked in.
    let moved = port.moved(home.tenant, id.index, id.ordinal)?;
    let Some(moved) = moved.filter(|moved| moved.parked_term == id.term.0) else { return Ok(None) };
    let letter = port.dead_letter(group, LogIndex(moved.place.index), Ordinal(moved.place.ordinal))?;
    Ok(letter.filter(|letter| letter.record.place == moved.place).filter(kept))
}

/// A dead letter with its message; `None` if its topic is gone.
fn view(home: &Home, letter: DeadLetter) -> Result<Option<DeadLetterView>, Error> {
    let Some(topic) = topic_name(home, &letter) else { return Ok(None) };
    let entry = letter.record.entry();
    let record = home.shard.port.record(&entry)?;
    let id = id_of(home.shard.port.id(), &entry, &record);
    let offset = QueueOffset(letter.offset);
    let message = StoredMessage { id, topic, offset, stored_at: entry.stamp, record };
    let state = home.shard.port.state();
    Ok(Some(DeadLetterView {
        message,
        reason: reason(&letter),
        attempts: letter.attempt.saturating_sub(letter.base),
        dead_at: Timestamp(letter.dead_at),
        expires_at: Timestamp(letter.expires),
        redriven_at: letter.redriven_at.map(Timestamp),
        history: letter.history.iter().map(|ended| attempt(&state, ended)).collect(),
    }))
}

/// Why a message was given up, in one word or the words of who gave it up.
pub(crate) fn reason(letter: &DeadLetter) -> String {
    // A policy that gives no reason of its own leaves the consumer's.
    let consumers = || letter.history.last().and_then(|ended| ended.reason.clone());
    match &letter.reason {
        DeadReason::Exhausted => "attempts-exhausted".into(),
        DeadReason::Consumer(words) => words.clone().unwrap_or_else(|| "dead-lettered".into()),
        DeadReason::Policy(words) => words.clone().or_else(consumers).unwrap_or_else(|| "retry-policy".into()),
    }
}

/// How an attempt ended, with the names of what decided.
pub(crate) fn attempt(state: &State, ended: &EndedAttempt) -> AttemptView {
    let time = |ms: u64| (ms > 0).then_some(Timestamp(ms));
    let (decided_by, judged) = match ended.by {
        DecidedBy::Consumer => ("consumer", None),
        DecidedBy::Table => ("default", None),
        DecidedBy::TimeToLive => ("ttl", None),
        DecidedBy::Policy(judged) => ("policy", Some(judged)),
        DecidedBy::OnFailure(judged) => ("on-failure", Some(judged)),
    };
    let gave_up = matches!(ended.decision, Decision::DeadLetter { .. });
    AttemptView {
        attempt: ended.delivery,
        delivered_at: time(ended.delivered_at),
        ended_at: Timestamp(ended.ended_at),
        outcome: match ended.by {
            _ if ended.expired => "expired",
            DecidedBy::Consumer if gave_up => "dead-letter",
            _ => "nack",
        },
        reason: ended.reason.clone(),
        client_id: ended.client_id.clone(),
        decision: match ended.decision {
            Decision::Again { .. } => "again",
            Decision::DeadLetter { .. } => "dead-letter",
            Decision::Drop => "drop",
        },
        delay_ms: match ended.decision {
            Decision::Again { delay_ms } => Some(delay_ms),
            Decision::DeadLetter { .. } | Decision::Drop => None,
        },
        decided_by,
        binding: judged.and_then(|j| state.bindings.get(&BindingId(j.binding))).map(|b| b.name.to_string()),
        generation: judged.map(|judged| judged.generation),
    }
}

fn topic_name(home: &Home, letter: &DeadLetter) -> Option<Name> {
    home.shard.port.state().topics.get(&TopicId(letter.topic)).map(|topic| topic.name.clone())
}

/// The id of a dead letter's message.
fn letter_id(home: &Home, shard: ShardId, letter: &DeadLetter) -> Result<MessageId, Error> {
    let entry = letter.record.entry();
    Ok(id_of(shard, &entry, &home.shard.port.record_head(&entry)?))
}

#[cfg(test)]
mod tests;
