//! The rules of a shard once more, as simply as they can be said: lists, sets, and a search for everything.
//!
//! One tenant, built-in plugins. Written from `DESIGN.md` §5 and `API.md`, not from the code beside it.

mod delivery;

use std::collections::{BTreeMap, BTreeSet};

use pointsman_model::{Generation, QueueId, QueueOffset, Timestamp};

use super::*;
use crate::command::{DeadLetterOp, Place, Slot};
use crate::outcome::{Duplicate, LetterFate, Refusal, Settlement};

/// What someone asks for. Names are letters, so that they meet.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Topic { name: char, queues: Option<u16>, setting: u64, expect: Expect },
    DropTopic { name: char },
    Group { name: char, config: GroupAsk, expect: Expect },
    DropGroup { name: char },
    Bind { name: char, ask: BindAsk },
    Unbind { name: char },
    Publish { topic: char, queue: u16, stale: bool, continues: bool, key: Option<KeyAsk> },
    Ack { group: char, leases: Vec<LeaseAsk> },
    Again { group: char, lease: LeaseAsk, expired: bool, delay_ms: u64 },
    Skip { group: char, topic: char, queue: u16, stale: bool, ranges: Vec<(u64, u64)> },
    Seek { group: char, topic: char, queue: u16, to: u64, expect: Expect },
    Letters { group: char, letters: Vec<(char, u16, u64)>, op: DeadLetterOp },
}

/// Topics with the expression of their filter, where each new one starts, and some other setting.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupAsk {
    pub(super) topics: Vec<(char, Option<u8>)>,
    pub(super) from: From,
    pub(super) setting: u64,
    pub(super) max_retries: u16,
}

/// How long dead letters are kept, ms.
pub(super) const DLQ_RETENTION_MS: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum From {
    Latest,
    Earliest,
    Offset(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct BindAsk {
    pub(super) slot: Slot,
    pub(super) topic: Option<char>,
    pub(super) group: Option<char>,
    pub(super) setting: u8,
}

/// A dedup key: its name, who named it, and which payload it comes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct KeyAsk {
    pub(super) name: char,
    pub(super) by_plugin: bool,
    pub(super) payload: u8,
}

impl KeyAsk {
    fn is(self, other: Self) -> bool {
        (self.name, self.by_plugin) == (other.name, other.by_plugin)
    }

    fn contradicts(self, other: Self) -> bool {
        !self.by_plugin && self.payload != other.payload
    }
}

/// How long every key is remembered.
pub(super) const WINDOW_MS: u64 = 40;

/// Topic, queue, offset, attempt.
pub(super) type LeaseAsk = (char, u16, u64, u16);

/// What must come of it.
#[derive(Debug)]
pub(super) enum Expected {
    Exactly(Outcome),
    Configured { created: bool, unchanged: bool },
    Malformed,
}

#[derive(Debug)]
pub(super) struct RTopic {
    pub(super) name: char,
    pub(super) id: u32,
    setting: u64,
    pub(super) generation: u32,
    /// End of each queue.
    pub(super) ends: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct RGroup {
    pub(super) name: char,
    pub(super) id: u32,
    config: GroupAsk,
    pub(super) generation: u32,
    pub(super) topics: Vec<u32>,
    pub(super) settled: BTreeSet<(u32, u16, u64)>,
    pub(super) retries: BTreeMap<(u32, u16, u64), RRetry>,
    pub(super) dead: BTreeMap<(u32, u16, u64), RDead>,
}

#[derive(Debug, Default)]
pub(super) struct RRetry {
    pub(super) attempt: u16,
    pub(super) base: u16,
    pub(super) due: u64,
    /// Attempt, whether it ran out.
    pub(super) history: Vec<(u16, bool)>,
}

#[derive(Debug)]
pub(super) struct RDead {
    pub(super) attempt: u16,
    pub(super) expires: u64,
    pub(super) redriven: bool,
    pub(super) history: Vec<(u16, bool)>,
}

/// Index and ordinal of the record that a message of the model lies in, as far as its leader says.
pub(super) fn record_of((topic, queue, offset): (u32, u16, u64)) -> (u64, u16) {
    (u64::from(topic) << 32 | u64::from(queue) << 16 | offset, queue)
}

#[derive(Debug)]
pub(super) struct RBinding {
    pub(super) name: String,
    pub(super) slot: Slot,
    pub(super) topic: Option<u32>,
    pub(super) group: Option<u32>,
    ask: BindAsk,
    pub(super) generation: u32,
    shorthand: bool,
}

#[derive(Default)]
pub(super) struct Reference {
    pub(super) topics: Vec<RTopic>,
    pub(super) groups: Vec<RGroup>,
    pub(super) bindings: Vec<RBinding>,
    topic_ids: u32,
    group_ids: u32,
    /// Topic, key, until when, and the message: every one there ever was, the newest last.
    keys: Vec<(u32, KeyAsk, u64, Duplicate)>,
    /// The place and stamp of the record that is applied.
    pub(super) at: (LogIndex, u16, Timestamp),
}

/// An id that nothing has.
pub(super) const NOBODY: u32 = 999;

impl Reference {
    pub(super) fn topic(&self, name: char) -> Option<&RTopic> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    pub(super) fn group(&self, name: char) -> Option<&RGroup> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Applies acts of which all but the last go on as one unit; a lone act is no unit.
    pub(super) fn apply(&mut self, acts: &[(u16, Act)], closed: bool) -> Vec<Expected> {
        if let ([(ordinal, act)], true) = (acts, closed) {
            self.at.1 = *ordinal;
            return vec![self.one(act)];
        }
        let mut keys = Vec::new();
        let mut refusals: Vec<_> = acts.iter().map(|(_, act)| self.refusal_in_unit(act, &mut keys)).collect();
        if !closed {
            refusals.pop();
            refusals.push(Some(Expected::Malformed));
        }
        let whole = refusals.iter().all(Option::is_none);
        let part = |(refusal, (ordinal, act)): (Option<Expected>, &(u16, Act))| match refusal {
            Some(refusal) => refusal,
            None if !whole => refused(Refusal::UnitRefused),
            None => {
                self.at.1 = *ordinal;
                self.one(act)
            }
        };
        refusals.into_iter().zip(acts).map(part).collect()
    }

    /// `keys` are those that earlier acts of the unit bring.
    fn refusal_in_unit(&self, act: &Act, keys: &mut Vec<(char, KeyAsk)>) -> Option<Expected> {
        let Act::Publish { topic, queue, stale, key, .. } = act else { return Some(Expected::Malformed) };
        if let Some(refusal) = self.publish_refusal(*topic, *queue, *stale) {
            return Some(refused(refusal));
        }
        let key = (*key)?;
        let stored = self.remembered(*topic, key);
        let brought = keys.iter().find(|(of, other)| of == topic && other.is(key)).map(|(_, other)| *other);
        match brought.or(stored.map(|(other, _)| other)) {
            Some(other) if key.contradicts(other) => Some(refused(Refusal::IdempotencyMismatch)),
            Some(_) => None,
            None => {
                keys.push((*topic, key));
                None
            }
        }
    }

    /// The message that a topic remembers under a key, with the payload it came with.
    fn remembered(&self, topic: char, key: KeyAsk) -> Option<(KeyAsk, Duplicate)> {
        let id = self.topic(topic)?.id;
        let live =
            |(of, other, until, _): &&(u32, KeyAsk, u64, Duplicate)| *of == id && other.is(key) && self.at.2.0 < *until;
        self.keys.iter().rev().find(live).map(|(_, other, _, message)| (*other, *message))
    }

    fn one(&mut self, act: &Act) -> Expected {
        match act {
            Act::Topic { name, queues, setting, expect } => self.put_topic(*name, *queues, *setting, expect),
            Act::DropTopic { name } => self.drop_topic(*name),
            Act::Group { name, config, expect } => self.put_group(*name, config, expect),
            Act::DropGroup { name } => self.drop_group(*name),
            Act::Bind { name, ask } => self.bind(*name, ask),
            Act::Unbind { name } => self.unbind(*name),
            Act::Publish { topic, queue, stale, key, .. } => self.publish(*topic, *queue, *stale, *key),
            Act::Ack { group, leases } => {
                let ended = leases.iter().map(|lease| self.end(*group, lease, None)).collect::<Option<Vec<_>>>();
                ended.map_or(refused(Refusal::GroupNotFound), |all| Expected::Exactly(Outcome::Settled(all)))
            }
            Act::Again { group, lease, expired, delay_ms } => {
                let ended = self.end(*group, lease, Some((*expired, *delay_ms)));
                ended.map_or(refused(Refusal::GroupNotFound), |one| Expected::Exactly(Outcome::Settled(vec![one])))
            }
            Act::Skip { group, topic, queue, stale, ranges } => self.skip(*group, *topic, *queue, *stale, ranges),
            Act::Seek { group, topic, queue, to, expect } => self.seek(*group, *topic, *queue, *to, expect),
            Act::Letters { group, letters, op } => self.letters(*group, letters, *op),
        }
    }

    fn put_topic(&mut self, name: char, queues: Option<u16>, setting: u64, expect: &Expect) -> Expected {
        let held = self.topics.iter_mut().find(|topic| topic.name == name);
        if !meets(expect, held.is_some()) {
            return refused(Refusal::PreconditionFailed);
        }
        let Some(topic) = held else {
            self.topic_ids += 1;
            let ends = vec![0; usize::from(queues.unwrap_or(4))];
            self.topics.push(RTopic { name, id: self.topic_ids, setting, generation: 1, ends });
            return Expected::Configured { created: true, unchanged: false };
        };
        let had = topic.ends.len() as u16;
        let queues = queues.unwrap_or(had);
        if queues < had {
            return refused(Refusal::FewerQueues(had));
        }
        if (queues, setting) == (had, topic.setting) {
            return Expected::Configured { created: false, unchanged: true };
        }
        topic.setting = setting;
        topic.ends.resize(usize::from(queues), 0);
        topic.generation += 1;
        Expected::Configured { created: false, unchanged: false }
    }

    fn drop_topic(&mut self, name: char) -> Expected {
        let Some(id) = self.topic(name).map(|topic| topic.id) else {
            return refused(Refusal::TopicNotFound(name.into()));
        };
        let groups = self.groups.iter().filter(|group| group.topics.contains(&id)).map(|group| group.name.into());
        let bindings = self.bindings.iter().filter(|b| b.topic == Some(id) && !b.shorthand).map(|b| b.name.clone());
        let users: Vec<String> = groups.chain(bindings).collect();
        if !users.is_empty() {
            return refused(Refusal::InUse(users));
        }
        self.topics.retain(|topic| topic.id != id);
        Expected::Exactly(Outcome::Deleted)
    }

    fn put_group(&mut self, name: char, config: &GroupAsk, expect: &Expect) -> Expected {
        let held = self.group(name).map(|group| group.id);
        if !meets(expect, held.is_some()) {
            return refused(Refusal::PreconditionFailed);
        }
        let mut topics = Vec::new();
        for (topic, _) in &config.topics {
            match self.topic(*topic) {
                None => return refused(Refusal::TopicNotFound((*topic).into())),
                Some(topic) if topics.contains(&topic.id) => return Expected::Malformed,
                Some(topic) => topics.push(topic.id),
            }
        }
        if let Some(group) = self.group(name) {
            if group.config == *config {
                return Expected::Configured { created: false, unchanged: true };
            }
            let named = self.bindings.iter().filter(|b| b.group == Some(group.id) && !b.shorthand);
            let lost = named.clone().filter(|b| b.topic.is_some_and(|topic| !topics.contains(&topic)));
            let lost: Vec<_> = lost.map(|b| b.name.clone()).collect();
            if !lost.is_empty() {
                return refused(Refusal::InUse(lost));
            }
            let mut filtered = topics.iter().zip(&config.topics).filter(|(_, (_, filter))| filter.is_some());
            let beside = filtered.find_map(|(id, _)| named.clone().find(|b| b.topic == Some(*id)));
            if let Some(beside) = beside {
                return refused(Refusal::InUse(vec![beside.name.clone()]));
            }
        }
        self.write_group(name, config, topics);
        Expected::Configured { created: held.is_none(), unchanged: false }
    }

    fn write_group(&mut self, name: char, config: &GroupAsk, topics: Vec<u32>) {
        if self.group(name).is_none() {
            self.group_ids += 1;
            self.groups.push(RGroup {
                name,
                id: self.group_ids,
                config: config.clone(),
                generation: 0,
                topics: Vec::new(),
                settled: BTreeSet::new(),
                retries: BTreeMap::new(),
                dead: BTreeMap::new(),
            });
        }
        let group = self.groups.iter_mut().find(|group| group.name == name).unwrap();
        group.settled.retain(|(topic, ..)| topics.contains(topic));
        group.retries.retain(|(topic, ..), _| topics.contains(topic));
        for topic in self.topics.iter().filter(|t| topics.contains(&t.id) && !group.topics.contains(&t.id)) {
            for (queue, end) in topic.ends.iter().enumerate() {
                let start = match config.from {
                    From::Latest => *end,
                    From::Earliest => 0,
                    From::Offset(offset) => offset.min(*end),
                };
                group.settled.extend((0..start).map(|offset| (topic.id, queue as u16, offset)));
            }
        }
        group.config = config.clone();
        group.generation += 1;
        let (id, generation) = (group.id, group.generation);
        let mut wanted = Vec::new();
        for ((topic_name, filter), topic) in config.topics.iter().zip(&topics) {
            let Some(setting) = *filter else { continue };
            let ask = BindAsk { slot: Slot::Filter, topic: Some(*topic_name), group: Some(name), setting };
            wanted.push((*topic, ask, format!("{name}:{topic_name}")));
        }
        self.groups.iter_mut().find(|group| group.name == name).unwrap().topics = topics;
        self.bindings.retain(|b| {
            !b.shorthand || b.group != Some(id) || wanted.iter().any(|(topic, ..)| b.topic == Some(*topic))
        });
        for (topic, ask, name) in wanted {
            match self.bindings.iter_mut().find(|b| b.name == name) {
                Some(binding) if binding.ask == ask => {}
                Some(binding) => (binding.ask, binding.generation) = (ask, generation),
                None => {
                    let (topic, group) = (Some(topic), Some(id));
                    let shorthand =
                        RBinding { name, slot: Slot::Filter, topic, group, ask, generation, shorthand: true };
                    self.bindings.push(shorthand);
                }
            }
        }
    }

    fn drop_group(&mut self, name: char) -> Expected {
        let Some(id) = self.group(name).map(|group| group.id) else { return refused(Refusal::GroupNotFound) };
        self.groups.retain(|group| group.id != id);
        self.bindings.retain(|binding| binding.group != Some(id));
        Expected::Exactly(Outcome::Deleted)
    }

    fn bind(&mut self, name: char, ask: &BindAsk) -> Expected {
        let topic = match ask.topic.map(|name| (name, self.topic(name))) {
            Some((name, None)) => return refused(Refusal::TopicNotFound(name.into())),
            Some((_, Some(topic))) => Some(topic.id),
            None => None,
        };
        let fits = match ask.slot {
            Slot::Selector | Slot::Dedup | Slot::CheckBack => topic.is_some() && ask.group.is_none(),
            Slot::Retry => topic.is_none() && ask.group.is_some(),
            Slot::Filter => ask.group.is_some(),
        };
        if !fits {
            return Expected::Malformed;
        }
        let group = match ask.group.map(|name| self.group(name)) {
            None => None,
            Some(None) => return refused(Refusal::GroupNotFound),
            Some(Some(group)) if topic.is_some_and(|topic| !group.topics.contains(&topic)) => {
                return refused(Refusal::TopicNotFound(ask.topic.unwrap().into()));
            }
            Some(Some(group)) => Some(group.id),
        };
        let name = String::from(name);
        let same_place = |b: &&RBinding| b.slot == ask.slot && b.topic == topic && b.group == group;
        if let Some(holder) = self.bindings.iter().find(|b| same_place(b) && b.name != name) {
            return refused(Refusal::InUse(vec![holder.name.clone()]));
        }
        let old = self.bindings.iter().position(|b| b.name == name);
        if old.is_some_and(|old| self.bindings[old].ask == *ask) {
            return Expected::Configured { created: false, unchanged: true };
        }
        let place = old.unwrap_or(self.bindings.len());
        if let Some(old) = old {
            let old = self.bindings.remove(old);
            let (was, is) = ((old.topic, old.group), (topic, group));
            if judged(was) != judged(is) {
                self.bump(was);
            }
        }
        let generation = self.bump((topic, group));
        let (slot, ask, shorthand) = (ask.slot, ask.clone(), false);
        self.bindings.insert(place, RBinding { name, slot, topic, group, ask, generation, shorthand });
        Expected::Configured { created: old.is_none(), unchanged: false }
    }

    fn unbind(&mut self, name: char) -> Expected {
        let Some(at) = self.bindings.iter().position(|b| b.name == String::from(name)) else {
            return refused(Refusal::BindingNotFound);
        };
        let old = self.bindings.remove(at);
        self.bump((old.topic, old.group));
        Expected::Exactly(Outcome::Deleted)
    }

    fn bump(&mut self, (topic, group): (Option<u32>, Option<u32>)) -> u32 {
        let generation = if group.is_none() {
            &mut self.topics.iter_mut().find(|t| Some(t.id) == topic).unwrap().generation
        } else {
            &mut self.groups.iter_mut().find(|g| Some(g.id) == group).unwrap().generation
        };
        *generation += 1;
        *generation
    }

    fn publish_refusal(&self, topic: char, queue: u16, stale: bool) -> Option<Refusal> {
        match self.topic(topic) {
            None => Some(Refusal::TopicNotFound(String::new())),
            Some(topic) if stale => Some(Refusal::Stale(Generation(topic.generation))),
            Some(topic) if usize::from(queue) >= topic.ends.len() => Some(Refusal::QueueNotFound(QueueId(queue))),
            Some(_) => None,
        }
    }

    fn publish(&mut self, topic: char, queue: u16, stale: bool, key: Option<KeyAsk>) -> Expected {
        if let Some(refusal) = self.publish_refusal(topic, queue, stale) {
            return refused(refusal);
        }
        match key.and_then(|key| Some((key, self.remembered(topic, key)?))) {
            Some((key, (other, _))) if key.contradicts(other) => return refused(Refusal::IdempotencyMismatch),
            Some((_, (_, message))) => return Expected::Exactly(Outcome::Duplicate(message)),
            None => {}
        }
        let (index, ordinal, stored_at) = self.at;
        let topic = self.topics.iter_mut().find(|t| t.name == topic).unwrap();
        topic.ends[usize::from(queue)] += 1;
        if let Some(key) = key {
            let at = Some((QueueId(queue), QueueOffset(topic.ends[usize::from(queue)] - 1)));
            let place = Place { term: 3, index: index.0, ordinal };
            let message = Duplicate { place, topic: TopicId(topic.id), at, stored_at };
            self.keys.push((topic.id, key, stored_at.0 + WINDOW_MS, message));
        }
        Expected::Exactly(Outcome::Published(crate::outcome::Published {
            term: Term(3),
            index,
            ordinal: Ordinal(ordinal),
            topic: TopicId(topic.id),
            queue: QueueId(queue),
            offset: QueueOffset(topic.ends[usize::from(queue)] - 1),
            stored_at,
        }))
    }
}

/// What a binding judges for: its group, else its topic.
fn judged((topic, group): (Option<u32>, Option<u32>)) -> (bool, Option<u32>) {
    (group.is_none(), group.or(topic))
}

fn meets(expect: &Expect, present: bool) -> bool {
    match expect {
        Expect::Absent => !present,
        Expect::Present => present,
        _ => true,
    }
}

fn refused(refusal: Refusal) -> Expected {
    Expected::Exactly(Outcome::Refused(refusal))
}
