//! `interface types`: what all kinds have in common.

use pointsman_model::{judge, limits};
use wasmtime::component::{ComponentType, Lift, Lower};

/// `variant field`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Field {
    #[component(name = "topic")]
    Topic,
    #[component(name = "tag")]
    Tag,
    #[component(name = "keys")]
    Keys,
    #[component(name = "ordering-key")]
    OrderingKey,
    #[component(name = "property")]
    Property(String),
    #[component(name = "body")]
    Body,
    #[component(name = "body-hash")]
    BodyHash,
    #[component(name = "born-at")]
    BornAt,
    #[component(name = "stored-at")]
    StoredAt,
    #[component(name = "now")]
    Now,
    #[component(name = "seed")]
    Seed,
    #[component(name = "priority")]
    Priority,
}

/// `record plan`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Plan {
    fields: Vec<Field>,
    tags: Option<Vec<String>>,
    destinations: Vec<String>,
}

/// `record column`.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Column {
    pub(crate) ends: Vec<u32>,
    pub(crate) bytes: Vec<u8>,
}

/// `record queue-stat`.
#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct QueueStat {
    queue: u16,
    messages: u64,
}

/// `record ctx`.
#[derive(Clone, Debug, Default, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Ctx {
    #[component(name = "attempt-limit")]
    attempt_limit: u16,
    queues: Vec<QueueStat>,
}

impl From<&judge::Context> for Ctx {
    fn from(context: &judge::Context) -> Self {
        let queues = context.queues.iter().map(|stat| QueueStat { queue: stat.queue.0, messages: stat.messages });
        Self { attempt_limit: context.attempt_limit, queues: queues.collect() }
    }
}

impl Column {
    /// The values of messages `from..to`, as a column of their own.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Self {
        let at = |i: usize| {
            if i == 0 { 0 } else { self.ends[i - 1] & !judge::ABSENT }
        };
        let (start, end) = (at(from), at(to));
        let ends = self.ends[from..to].iter().map(|end| end - start).collect();
        Self { ends, bytes: self.bytes[start as usize..end as usize].to_vec() }
    }
}

impl Plan {
    /// Checks the plan against the contract's limits.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn check(self, kind: judge::Kind) -> Result<judge::Plan, String> {
        let fields: Vec<judge::Field> = self.fields.into_iter().map(Into::into).collect();
        if fields.len() > limits::PLUGIN_FIELDS_MAX {
            return Err(format!("the plan asks for {} fields, at most {}", fields.len(), limits::PLUGIN_FIELDS_MAX));
        }
        if let Some(field) =
            fields.iter().enumerate().find_map(|(i, field)| fields[..i].contains(field).then_some(field))
        {
            return Err(format!("the plan asks for {field:?} twice"));
        }
        let allowed = |field: &judge::Field| match kind {
            judge::Kind::Retry => false,
            judge::Kind::CheckBack => *field == judge::Field::Body,
            _ => true,
        };
        if let Some(field) = fields.iter().find(|field| !allowed(field)) {
            return Err(format!("the plan of a {kind} does not ask for {field:?}"));
        }
        let tags = self.tags.as_ref().map_or(0, Vec::len);
        if tags > limits::PLUGIN_TAGS_MAX {
            return Err(format!("the plan hints {tags} tags, at most {}", limits::PLUGIN_TAGS_MAX));
        }
        if tags > 0 && kind != judge::Kind::Filter {
            return Err(format!("a {kind} hints no tags"));
        }
        if self.destinations.len() > limits::PLUGIN_DESTINATIONS_MAX {
            let (count, max) = (self.destinations.len(), limits::PLUGIN_DESTINATIONS_MAX);
            return Err(format!("the plan names {count} destinations, at most {max}"));
        }
        if !self.destinations.is_empty() && kind != judge::Kind::Selector {
            return Err(format!("a {kind} has no destinations"));
        }
        Ok(judge::Plan { fields, tags: self.tags, destinations: self.destinations })
    }
}

impl From<Field> for judge::Field {
    fn from(field: Field) -> Self {
        match field {
            Field::Topic => Self::Topic,
            Field::Tag => Self::Tag,
            Field::Keys => Self::Keys,
            Field::OrderingKey => Self::OrderingKey,
            Field::Property(name) => Self::Property(name),
            Field::Body => Self::Body,
            Field::BodyHash => Self::BodyHash,
            Field::BornAt => Self::BornAt,
            Field::StoredAt => Self::StoredAt,
            Field::Now => Self::Now,
            Field::Seed => Self::Seed,
            Field::Priority => Self::Priority,
        }
    }
}

/// A plugin's words, cut to what we keep of them.
pub(crate) fn cut(mut words: String) -> String {
    if let Some((at, _)) = words.char_indices().nth(limits::PLUGIN_WORDS_CHARS_MAX) {
        words.truncate(at);
    }
    words
}
