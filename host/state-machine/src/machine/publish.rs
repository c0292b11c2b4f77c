//! Publish: a message becomes visible at the end of its queue.

use std::fmt;
use std::marker::PhantomData;

use pointsman_model::queue_entry::{self, QueueEntry};
use pointsman_model::record::{FLAG_SAME_MESSAGE, FRAME_HEADER_BYTES, Header};
use pointsman_model::{Generation, GroupId, LogPosition, Ordinal, QueueId, QueueOffset, TopicId, hash, limits};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::dedup::{Keyed, Seen, UnitKeys};
use super::entry::{Entry, Placed, Stop, decode};
use super::{EntryMeta, KeyAppend, QueueAppend};
use crate::command::{Cause, Dedup, Judged, Origin, Park, Placement, Source, TransactionMeta};
use crate::error::Error;
use crate::outcome::{Outcome, Published, Refusal};
use crate::table;

/// What `apply` keeps of a [`crate::command::PublishHead`], which names the fields.
pub(super) struct Facts {
    tag_hash: u64,
    ordering_key_hash: u64,
    flags: u8,
    keys: KeyHashes,
    source: Option<Source>,
    pub(super) park: Option<Park>,
    pub(super) origin: Option<Origin>,
    /// A message that comes from a stored one has its key already.
    pub(super) dedup: Option<Keyed>,
    /// It carries what a transaction is.
    pub(super) transaction: bool,
    /// It stands for the record that started there.
    pub(super) carried: Option<u64>,
}

/// A message that may be stored, unless its key says that it is.
pub(super) struct Checked {
    pub(super) facts: Facts,
    pub(super) seen: Seen,
}

impl Facts {
    /// Reads the head of a record of `topic` without allocating.
    pub(super) fn read(head: &[u8], topic: TopicId) -> Result<Self, Refusal> {
        let head: Head<'_> = decode(head)?;
        let published_to = head.source.map_or(topic, |source| TopicId(source.topic));
        let dedup = head.dedup.filter(|_| head.origin.is_none());
        Ok(Self {
            dedup: dedup.map(|dedup| Keyed::of(&dedup, published_to)).transpose()?.flatten(),
            tag_hash: hash::tag_hash(head.tag),
            ordering_key_hash: hash::ordering_key_hash(head.ordering_key),
            flags: if head.ttl_ms > 0 { queue_entry::FLAG_TTL } else { 0 },
            keys: head.keys,
            source: head.source,
            park: head.park,
            origin: head.origin,
            transaction: head.transaction.is_some(),
            carried: head.carried,
        })
    }

    /// The entries of this message for queue and key index.
    pub(super) fn append(
        &self,
        meta: &EntryMeta,
        placed: &Placed,
        offset: QueueOffset,
        queue: &mut Vec<QueueAppend>,
        keys: &mut Vec<KeyAppend>,
    ) {
        let (header, ordinal) = (&placed.header, placed.ordinal);
        let entry = QueueEntry {
            position: LogPosition(meta.position.0 + FRAME_HEADER_BYTES + placed.range.start as u64),
            index: meta.index,
            length: placed.range.len() as u32,
            term: meta.term,
            ordinal,
            priority: header.priority,
            flags: self.flags,
            tag_hash: self.tag_hash,
            ordering_key_hash: self.ordering_key_hash,
            stamp: meta.stamp,
        };
        queue.push(QueueAppend { topic: header.topic, queue: header.queue, offset, entry });
        let of_key =
            |key_hash: &u64| KeyAppend { topic: header.topic, key_hash: *key_hash, place: (meta.index, ordinal) };
        keys.extend(self.keys.as_slice().iter().map(of_key));
    }
}

impl Entry<'_> {
    /// All that can refuse a message; `unit` knows the records before it in its unit.
    pub(super) fn check_message(&self, placed: &Placed, unit: &UnitKeys) -> Result<Checked, Stop> {
        let facts = self.check_publish(&placed.header, placed.head())?;
        if placed.header.flags & FLAG_SAME_MESSAGE != 0 && (unit.is_empty() || facts.dedup.is_some()) {
            return Err(
                Refusal::Malformed("another target of no message, or with a dedup key of its own".into()).into()
            );
        }
        self.check_parking(placed, &facts)?;
        let seen = self.dedup_check(placed.header.tenant, facts.dedup.as_ref(), unit)??;
        Ok(Checked { facts, seen })
    }

    fn check_publish(&self, header: &Header, head: &[u8]) -> Result<Facts, Refusal> {
        let facts = Facts::read(head, header.topic)?;
        if facts.carried.is_some() {
            return Err(Refusal::Malformed("a copy that is more than a copy".into()));
        }
        if header.priority > limits::PRIORITY_MAX {
            return Err(Refusal::Malformed(format!("priority {}", header.priority)));
        }
        // A message that comes from a parked one was sent here before; its topic's word then still holds.
        if let Some(source) = facts.source.filter(|_| facts.origin.is_none()) {
            self.check_generation(header, TopicId(source.topic), Generation(source.generation))?;
        }
        let queues = self.check_generation(header, header.topic, header.generation)?;
        if header.queue.0 >= queues {
            return Err(Refusal::QueueNotFound(header.queue));
        }
        Ok(facts)
    }

    /// The queues of a topic of the record's tenant, if the leader decided under its generation.
    pub(super) fn check_generation(
        &self,
        header: &Header,
        topic: TopicId,
        decided: Generation,
    ) -> Result<u16, Refusal> {
        let topic = self.state.topics.get(&topic).filter(|topic| topic.tenant == header.tenant);
        let topic = topic.ok_or_else(|| Refusal::TopicNotFound(String::new()))?;
        if topic.generation == decided { Ok(topic.queues()) } else { Err(Refusal::Stale(topic.generation)) }
    }

    /// Stores a checked message, at the end of its queue or parked, unless it is a duplicate.
    pub(super) fn message(&mut self, placed: &Placed, checked: &Checked) -> Result<Outcome, Error> {
        let Checked { facts, seen } = checked;
        let (tenant, topic) = (placed.header.tenant, placed.header.topic);
        if let Some(before) = self.dedup_before(tenant, seen)? {
            return Ok(self.duplicate(placed, before));
        }
        if let Some(park) = facts.park {
            self.dedup_reserve(tenant, seen, placed.ordinal, topic, None, matches!(park, Park::Half(_)))?;
            return Ok(self.park(placed, park, facts.dedup.map(|keyed| keyed.id)));
        }
        let published = self.publish(placed, facts)?;
        let at = Some((published.queue, published.offset));
        self.dedup_reserve(tenant, seen, placed.ordinal, topic, at, false)?;
        match facts.origin {
            Some(Origin { place, cause: Cause::Timer | Cause::Commit }) => {
                self.moved(tenant, place, &published)?;
            }
            Some(Origin { place, cause: Cause::Redrive(group) }) => self.redriven(tenant, GroupId(group), place)?,
            None => {}
        }
        Ok(Outcome::Published(published))
    }

    /// Appends a checked message to its queue.
    fn publish(&mut self, placed: &Placed, facts: &Facts) -> Result<Published, Error> {
        let (topic, queue) = (placed.header.topic, placed.header.queue);
        let ends = self.state.queues.entry((topic, queue)).or_default();
        let offset = QueueOffset(ends.latest);
        ends.latest += 1;
        ends.bytes += placed.range.len() as u64;
        self.count_stored(placed.header.tenant, placed.range.len() as u64);
        if self.changes.queues.insert((topic, queue)) {
            self.start_in_segment(topic, queue, offset)?;
        }
        facts.append(self.meta, placed, offset, &mut self.changes.queue, &mut self.changes.keys);
        Ok(Published {
            term: self.meta.term,
            index: self.meta.index,
            ordinal: placed.ordinal,
            topic,
            queue,
            offset,
            stored_at: self.now(),
        })
    }

    /// Notes the first offset of a queue in this segment.
    fn start_in_segment(&mut self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Result<(), Error> {
        if self.segment.started.insert((topic, queue)) {
            let key = table::segment_queue_key(self.segment.base, topic, queue);
            // After a restart the cache is empty and the row may be there.
            if self.store.get(&key)?.is_none() {
                self.changes.put(key, table::encode(&offset.0));
                let key = table::queue_segment_key(topic, queue, self.segment.base);
                self.changes.put(key, table::encode(&offset.0));
            }
        }
        Ok(())
    }

    /// Notes that a publish record came to nothing, so that a walk of the segment passes it by.
    pub(super) fn note_refused(&mut self, ordinal: Ordinal) {
        let key = table::refused_key(self.meta.segment_base, self.meta.index, ordinal);
        self.changes.put(key, table::encode(&()));
    }
}

/// [`crate::command::PublishHead`], field by field, with what is not needed passed over.
#[derive(serde::Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    _content_type: Option<&'a str>,
    #[serde(borrow)]
    tag: Option<&'a str>,
    keys: KeyHashes,
    #[serde(borrow)]
    ordering_key: Option<&'a str>,
    #[serde(borrow)]
    _properties: Passed<(&'a str, &'a str)>,
    ttl_ms: u64,
    #[serde(borrow)]
    _trace: Option<&'a str>,
    _placement: Placement,
    _judged: Passed<Judged>,
    source: Option<Source>,
    #[serde(borrow)]
    dedup: Option<Dedup<'a>>,
    park: Option<Park>,
    origin: Option<Origin>,
    #[serde(borrow)]
    transaction: Option<TransactionMeta<'a>>,
    carried: Option<u64>,
}

/// Hashes of the keys, in order.
struct KeyHashes {
    hashes: [u64; limits::KEYS_MAX],
    count: usize,
}

impl KeyHashes {
    fn as_slice(&self) -> &[u64] {
        &self.hashes[..self.count]
    }
}

impl<'de> Deserialize<'de> for KeyHashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = KeyHashes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {} keys", limits::KEYS_MAX)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<KeyHashes, A::Error> {
                let mut keys = KeyHashes { hashes: [0; limits::KEYS_MAX], count: 0 };
                while let Some(key) = seq.next_element::<&str>()? {
                    let Some(place) = keys.hashes.get_mut(keys.count) else {
                        return Err(serde::de::Error::invalid_length(keys.count + 1, &self));
                    };
                    *place = hash::hash(key.as_bytes());
                    keys.count += 1;
                }
                Ok(keys)
            }
        }

        deserializer.deserialize_seq(Keys)
    }
}

/// A list that is checked and not kept.
struct Passed<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Passed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Passed<T>, A::Error> {
                while seq.next_element::<T>()?.is_some() {}
                Ok(Passed(PhantomData))
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}
