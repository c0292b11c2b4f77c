//! Redrive: dead letters on their way again, to their group or to their topic.
//!
//! Which of them may leave is settled in `apply`, one record for each: a second redrive changes nothing and says so.

use std::collections::HashSet;

use pointsman_model::judge::Verdict;
use pointsman_model::record::{Header, kind};
use pointsman_model::{GroupId, LogIndex, MessageId, Name, Ordinal, QueueId, TopicId, limits};
use pointsman_state_machine::command::{Cause, DeadLetterOp, Durability, Origin, Placement, PublishHead};
use pointsman_state_machine::outcome::{LetterFate, Outcome, Refusal};
use pointsman_state_machine::state::DeadLetter;

use super::{change, find, is_open, key, letter_id, topic_name};
use crate::access::Action;
use crate::batcher::{Request, Ticket};
use crate::broker::Home;
use crate::error::Error;
use crate::lease::head;
use crate::passing::verdicts;
use crate::view::{FilterSpec, Redrive, RedriveStatus, RedriveTo, Redriven};
use crate::{Broker, Call};

/// Dead letters of one entry.
const ENTRY_LETTERS_MAX: usize = 500;

/// A dead letter that was asked for, and what is known of it.
struct Asked {
    id: String,
    letter: Option<DeadLetter>,
    /// Known without asking the log.
    status: Option<RedriveStatus>,
}

impl Broker {
    /// Sends dead letters to their group or topic again.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], a bad filter, a full retry set, a failed write. What an earlier entry of the call
    /// redrove stays so, and the same call says `already-redriven` of it.
    pub async fn redrive(&self, call: &Call, tenant: &str, group: &str, ask: Redrive) -> Result<Redriven, Error> {
        let (home, group) = self.group_id(call, tenant, group, Action::Consume(group))?;
        if ask.ids.as_ref().is_some_and(|ids| ids.len() > limits::SETTLE_ITEMS_MAX) {
            return Err(Error::invalid("/ids", format!("at most {}", limits::SETTLE_ITEMS_MAX)));
        }
        home.shard.port.leadership().ok_or(Error::NoLeader)?;
        let (mut asked, more) = match &ask.ids {
            Some(ids) => (named(&home, group, ids)?, false),
            None => all(&home, group)?,
        };
        if let Some(filter) = &ask.filter {
            self.keep_passing(&home, filter, &mut asked).await?;
        }
        for asked in &mut asked {
            asked.status = known(&home, group, asked);
        }
        if !ask.dry_run {
            for chunk in asked.chunks_mut(ENTRY_LETTERS_MAX) {
                match ask.to {
                    RedriveTo::Group => to_group(call, &home, group, chunk).await?,
                    RedriveTo::Topic => to_topic(call, &home, group, chunk).await?,
                }
            }
        }
        let status = |asked: Asked| (asked.id, asked.status.unwrap_or(RedriveStatus::Redriven));
        Ok(Redriven { results: asked.into_iter().map(status).collect(), more })
    }

    /// Drops the messages that a filter does not pass. One that cannot be judged stays.
    async fn keep_passing(&self, home: &Home, spec: &FilterSpec, asked: &mut Vec<Asked>) -> Result<(), Error> {
        let filter = self.try_filter(home, "redrive", "/filter", spec).await?;
        let judge = self.inner.bench.bind_stream(home.tenant, &filter.trial("redrive")).await;
        let judge = judge.map_err(Error::PluginUnavailable)?;
        let topics: Vec<Option<Name>> =
            asked.iter().map(|asked| asked.letter.as_ref().and_then(|letter| topic_name(home, letter))).collect();
        let subjects = asked.iter().zip(&topics).filter_map(|(asked, topic)| {
            let letter = asked.letter.as_ref()?;
            Some((topic.as_ref()?, letter.record.entry()))
        });
        let subjects: Vec<_> = subjects.collect();
        let said = verdicts(&home.shard.port, &*judge, &subjects).await?;
        let mut said = said.into_iter();
        let mut topics = topics.iter();
        asked.retain(|asked| {
            let judged = asked.letter.is_some() & topics.next().is_some_and(Option::is_some);
            !judged || said.next() != Some(Verdict::Answer(false))
        });
        Ok(())
    }
}

/// The dead letters of these ids, each once.
fn named(home: &Home, group: GroupId, ids: &[String]) -> Result<Vec<Asked>, Error> {
    let mut seen = HashSet::new();
    let once = ids.iter().filter(|id| seen.insert(id.as_str()));
    once.map(|id| {
        let letter = MessageId::parse(id).map(|id| find(home, group, id)).transpose()?.flatten();
        Ok(Asked { id: id.clone(), letter, status: None })
    })
    .collect()
}

/// All dead letters, as many as one call takes, and whether there are more.
fn all(home: &Home, group: GroupId) -> Result<(Vec<Asked>, bool), Error> {
    let port = &home.shard.port;
    let now = port.now();
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let letters = port.dead_letters(group, after, ENTRY_LETTERS_MAX)?;
        let last = letters.len() < ENTRY_LETTERS_MAX;
        for letter in letters {
            let (index, ordinal) = key(&letter);
            after = Some((LogIndex(index), Ordinal(ordinal)));
            if !is_open(&letter, now) {
                continue;
            }
            if found.len() == limits::REDRIVE_MAX {
                return Ok((found, true));
            }
            let id = letter_id(home, port.id(), &letter)?.to_string();
            found.push(Asked { id, letter: Some(letter), status: None });
        }
        if last {
            return Ok((found, false));
        }
    }
}

/// What `apply` would refuse, told before it is asked.
fn known(home: &Home, group: GroupId, asked: &Asked) -> Option<RedriveStatus> {
    let Some(letter) = &asked.letter else { return Some(RedriveStatus::NotFound) };
    if letter.redriven_at.is_some() {
        return Some(RedriveStatus::AlreadyRedriven);
    }
    let state = home.shard.port.state();
    let subscribed = state.groups.get(&group).is_some_and(|group| group.topic_ids.contains(&TopicId(letter.topic)));
    (!subscribed).then_some(RedriveStatus::NotSubscribed)
}

async fn to_group(call: &Call, home: &Home, group: GroupId, asked: &mut [Asked]) -> Result<(), Error> {
    let mut open: Vec<_> = asked.iter_mut().filter(|asked| asked.status.is_none()).collect();
    let letters: Vec<_> = open.iter().filter_map(|asked| asked.letter.as_ref()).map(key).collect();
    if letters.is_empty() {
        return Ok(());
    }
    let fates = change(home, group, letters, DeadLetterOp::Redrive, call.deadline).await?;
    let mut back = Vec::with_capacity(fates.len());
    for (asked, fate) in open.iter_mut().zip(fates) {
        if let (LetterFate::Redriven, Some(letter)) = (fate, &asked.letter) {
            back.push((TopicId(letter.topic), QueueId(letter.queue), letter.offset));
        }
        asked.status = Some(match fate {
            LetterFate::Redriven => RedriveStatus::Redriven,
            LetterFate::AlreadyRedriven => RedriveStatus::AlreadyRedriven,
            LetterFate::NotSubscribed => RedriveStatus::NotSubscribed,
            LetterFate::NotFound | LetterFate::Forgotten => RedriveStatus::NotFound,
            LetterFate::RetrySetFull => {
                return Err(Error::QuotaExceeded("the group's retry set is full".into()));
            }
        });
    }
    home.shard.group(group).came_back(back);
    Ok(())
}

/// Appends the messages to their topics again. Each is fenced by its topic's generation and tried again where that moved.
async fn to_topic(call: &Call, home: &Home, group: GroupId, asked: &mut [Asked]) -> Result<(), Error> {
    for _ in 0..limits::STALE_RETRIES_MAX {
        let mut open: Vec<_> = asked.iter_mut().filter(|asked| asked.status.is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let letters: Vec<_> = open.iter().filter_map(|asked| asked.letter.as_ref()).collect();
        let outcomes = append_all(call, home, group, &letters).await?;
        for (asked, outcome) in open.iter_mut().zip(outcomes) {
            asked.status = match outcome {
                Outcome::Refused(Refusal::Stale(_)) => None,
                // Somebody was faster, or it was forgotten: a look tells.
                Outcome::Refused(Refusal::SourceClosed) => Some(closed(home, group, asked)?),
                Outcome::Refused(refusal) => return Err(refusal.into()),
                _ => Some(RedriveStatus::Redriven),
            };
        }
    }
    if asked.iter().any(|asked| asked.status.is_none()) {
        return Err(Error::Overloaded("the configuration changes too fast".into()));
    }
    Ok(())
}

fn closed(home: &Home, group: GroupId, asked: &Asked) -> Result<RedriveStatus, Error> {
    let Some(letter) = &asked.letter else { return Ok(RedriveStatus::NotFound) };
    let (index, ordinal) = key(letter);
    let now = home.shard.port.dead_letter(group, LogIndex(index), Ordinal(ordinal))?;
    let again = Asked { id: asked.id.clone(), letter: now, status: None };
    Ok(known(home, group, &again).unwrap_or(RedriveStatus::NotFound))
}

/// Appends messages at the log's head, a bounded number of bytes at a time. Outcomes come back in order.
async fn append_all(call: &Call, home: &Home, group: GroupId, letters: &[&DeadLetter]) -> Result<Vec<Outcome>, Error> {
    let batcher = &home.shard.parts.batcher;
    let mut outcomes = Vec::with_capacity(letters.len());
    let mut rest = letters;
    while !rest.is_empty() {
        let (mut tickets, mut bytes) = (Vec::new(), 0);
        while let Some((letter, later)) = rest.split_first() {
            if bytes >= limits::ENTRY_BYTES_MAX / 4 {
                break;
            }
            rest = later;
            bytes += letter.record.length as usize;
            tickets.push(append(call, home, group, letter)?);
        }
        for ticket in tickets {
            outcomes.push(match ticket {
                Some(ticket) => {
                    let answer = batcher.wait(ticket, call.deadline).await?;
                    let outcome = answer.outcomes().first().cloned();
                    outcome.ok_or_else(|| Error::Internal("an entry without an outcome".into()))?
                }
                None => Outcome::Refused(Refusal::SourceClosed),
            });
        }
    }
    Ok(outcomes)
}

/// One message, as a record at the log's head; `None` if its topic is gone.
fn append(call: &Call, home: &Home, group: GroupId, letter: &DeadLetter) -> Result<Option<Ticket>, Error> {
    let port = &home.shard.port;
    let record = port.record(&letter.record.entry())?;
    let stored = head(&record.head)?;
    let (topic, generation, queue) = {
        let state = port.state();
        let Some(topic) = state.topics.get(&TopicId(letter.topic)) else { return Ok(None) };
        let by_slot = stored.ordering_key.filter(|_| stored.placement == Placement::Slot);
        let queue = by_slot.map_or(QueueId(letter.queue), |key| topic.slots.queue_of(key));
        (topic.id, topic.generation, queue)
    };
    let origin = Some(Origin { place: letter.record.place, cause: Cause::Redrive(group.0) });
    let head =
        PublishHead { source: None, dedup: None, park: None, origin, transaction: None, carried: None, ..stored };
    let tenant = home.tenant;
    let header = Header { kind: kind::PUBLISH_FROM, flags: 0, tenant, topic, queue, generation, ..record.header };
    let term = port.leadership().ok_or(Error::NoLeader)?;
    let request = Request { tenant, term, deadline: call.deadline, ack: Durability::Quorum };
    let batcher = &home.shard.parts.batcher;
    batcher.submit(request, record.body.len(), |writer| writer.write(&header, &head, &record.body)).map(Some)
}
