//! What a judge sees of a message: one column a field, in the order of its plan.

use pointsman_model::judge::{Column, Field, Plan};
use pointsman_model::message::NewMessage;
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{Timestamp, hash, limits};
use pointsman_state_machine::command::PublishHead;

/// The fields of one message.
pub(crate) struct Facts<'a> {
    topic: &'a str,
    tag: Option<&'a str>,
    keys: Keys<'a>,
    ordering_key: Option<&'a str>,
    properties: Properties<'a>,
    body: &'a [u8],
    born: Timestamp,
    /// When it was stored, if it is.
    stored: Option<Timestamp>,
    now: Timestamp,
    seed: u64,
    priority: u8,
}

enum Keys<'a> {
    New(&'a [String]),
    Stored(&'a [&'a str]),
}

enum Properties<'a> {
    New(&'a [(String, String)]),
    Stored(&'a [(&'a str, &'a str)]),
}

impl<'a> Facts<'a> {
    /// A message that is about to be stored.
    pub(crate) fn new_message(topic: &'a str, message: &'a NewMessage, born: Timestamp, now: Timestamp) -> Self {
        let seed = hash::hash(&message.body) ^ hash::hash(&born.0.to_le_bytes());
        Self {
            topic,
            tag: message.tag.as_deref(),
            keys: Keys::New(&message.keys),
            ordering_key: message.ordering_key.as_deref(),
            properties: Properties::New(&message.properties),
            body: &message.body,
            born,
            stored: None,
            now,
            seed,
            priority: message.priority,
        }
    }

    /// A stored message. Its store time is its `now`, so that it gets the same answer whenever it is judged.
    pub(crate) fn stored(
        topic: &'a str,
        entry: &QueueEntry,
        head: &'a PublishHead<'a>,
        body: &'a [u8],
        born: Timestamp,
    ) -> Self {
        let mut place = [0; 10];
        place[..8].copy_from_slice(&entry.index.0.to_le_bytes());
        place[8..].copy_from_slice(&entry.ordinal.0.to_le_bytes());
        Self {
            topic,
            tag: head.tag,
            keys: Keys::Stored(&head.keys),
            ordering_key: head.ordering_key,
            properties: Properties::Stored(&head.properties),
            body,
            born,
            stored: Some(entry.stamp),
            now: entry.stamp,
            seed: hash::hash(&place),
            priority: entry.priority,
        }
    }

    fn property(&self, name: &str) -> Option<&str> {
        match &self.properties {
            Properties::New(all) => all.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()),
            Properties::Stored(all) => all.iter().find(|(key, _)| *key == name).map(|(_, value)| *value),
        }
    }

    fn push_keys(&self, column: &mut Column) {
        let mut packed = Vec::new();
        let mut pack = |key: &str| {
            packed.extend_from_slice(&(key.len() as u16).to_le_bytes());
            packed.extend_from_slice(key.as_bytes());
        };
        match &self.keys {
            Keys::New(keys) => keys.iter().for_each(|key| pack(key)),
            Keys::Stored(keys) => keys.iter().for_each(|key| pack(key)),
        }
        column.push((!packed.is_empty()).then_some(&packed));
    }

    fn push(&self, field: &Field, column: &mut Column) {
        let number = |n: u64| n.to_le_bytes();
        match field {
            Field::Topic => column.push(Some(self.topic.as_bytes())),
            Field::Tag => column.push(self.tag.map(str::as_bytes)),
            Field::Keys => self.push_keys(column),
            Field::OrderingKey => column.push(self.ordering_key.map(str::as_bytes)),
            Field::Property(name) => column.push(self.property(name).map(str::as_bytes)),
            Field::Body => column.push(Some(self.body)),
            Field::BodyHash => column.push(Some(&hash::fingerprint(self.body).to_le_bytes())),
            Field::BornAt => column.push(Some(&number(self.born.0))),
            Field::StoredAt => column.push(self.stored.map(|at| number(at.0)).as_ref().map(|bytes| &bytes[..])),
            Field::Now => column.push(Some(&number(self.now.0))),
            Field::Seed => column.push(Some(&number(self.seed))),
            Field::Priority => column.push(Some(&number(self.priority.into()))),
        }
    }
}

/// Columns that grow message by message, up to the bounds of one call.
pub(crate) struct Columns<'a> {
    plan: &'a Plan,
    columns: Vec<Column>,
    n: usize,
    bytes: usize,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self { plan, columns: vec![Column::default(); plan.fields.len()], n: 0, bytes: 0 }
    }

    /// Appends a message.
    pub(crate) fn push(&mut self, facts: &Facts<'_>) {
        self.bytes = 0;
        for (field, column) in self.plan.fields.iter().zip(&mut self.columns) {
            facts.push(field, column);
            self.bytes += column.bytes.len();
        }
        self.n += 1;
    }

    /// True if the call is as long as it may be: the message that passes the bound of bytes is its last.
    pub(crate) fn is_full(&self) -> bool {
        self.n >= limits::JUDGE_MESSAGES_MAX || self.bytes >= limits::JUDGE_COLUMN_BYTES_MAX
    }

    /// The number of messages and their columns.
    pub(crate) fn finish(self) -> (u32, Vec<Column>) {
        (self.n as u32, self.columns)
    }
}

/// True if a plan asks for something that only the record holds.
pub(crate) fn wants_record(plan: &Plan) -> bool {
    plan.fields
        .iter()
        .any(|field| !matches!(field, Field::Topic | Field::StoredAt | Field::Now | Field::Seed | Field::Priority))
}

/// True if a plan asks for the payload.
pub(crate) fn wants_body(plan: &Plan) -> bool {
    plan.fields.iter().any(|field| matches!(field, Field::Body | Field::BodyHash))
}
