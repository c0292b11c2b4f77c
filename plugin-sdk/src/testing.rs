//! Messages for a plugin's own tests, run natively by `cargo test`. Retry policies and check-backs need none of this: an
//! [`crate::Attempt`] and a [`crate::Half`] are made by hand.
//!
//! ```
//! use pointsman_plugin::testing::{Sample, accepts};
//! # use pointsman_plugin::{Filter, Message, Plan};
//! # struct Paid;
//! # impl Filter for Paid {
//! #     fn new(_: &[u8]) -> Result<Self, String> { Ok(Self) }
//! #     fn plan(&self) -> Plan { Plan::new().tag() }
//! #     fn accept(&self, message: &Message<'_>) -> bool { message.tag() == Some("paid") }
//! # }
//! let filter = Paid::new(b"{}").expect("a good config");
//! assert_eq!(accepts(&filter, &Sample::new().tag("paid")), Ok(true));
//! assert_eq!(accepts(&filter, &Sample::new()), Ok(false));
//! ```

use std::time::Duration;

use crate::message::{ABSENT, Column};
use crate::plan::{Field, Plan};
use crate::{Context, Dedup, Filter, Key, Selector};

/// A message made for a test. What is not set is absent, 0 or empty.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    topic: String,
    tag: Option<String>,
    keys: Vec<u8>,
    ordering_key: Option<String>,
    properties: Vec<(String, String)>,
    body: Vec<u8>,
    body_hash: u128,
    time_ms: u64,
    seed: u64,
    priority: u8,
}

impl Sample {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the topic's name.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets the tag.
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Adds a key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.keys.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.keys.extend_from_slice(key.as_bytes());
        self
    }

    /// Sets the ordering key.
    #[must_use]
    pub fn ordering_key(mut self, key: &str) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the payload's fingerprint; the broker computes it, a test states it.
    #[must_use]
    pub fn body_hash(mut self, hash: u128) -> Self {
        self.body_hash = hash;
        self
    }

    /// Sets the times: born, stored and now.
    #[must_use]
    pub fn time_ms(mut self, time_ms: u64) -> Self {
        self.time_ms = time_ms;
        self
    }

    /// Sets the pseudo-random bits.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    fn value(&self, field: &Field) -> Option<Vec<u8>> {
        let text = |text: &Option<String>| text.as_ref().map(|text| text.clone().into_bytes());
        match field {
            Field::Topic => Some(self.topic.clone().into_bytes()),
            Field::Tag => text(&self.tag),
            Field::Keys => Some(self.keys.clone()),
            Field::OrderingKey => text(&self.ordering_key),
            Field::Property(name) => {
                self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone().into_bytes())
            }
            Field::Body => Some(self.body.clone()),
            Field::BodyHash => Some(self.body_hash.to_le_bytes().into()),
            Field::BornAt | Field::StoredAt | Field::Now => Some(self.time_ms.to_le_bytes().into()),
            Field::Seed => Some(self.seed.to_le_bytes().into()),
            Field::Priority => Some(u64::from(self.priority).to_le_bytes().into()),
        }
    }

    fn columns(samples: &[&Self], plan: &Plan) -> Vec<Column> {
        let column = |field: &Field| {
            let (mut ends, mut bytes) = (Vec::new(), Vec::new());
            for sample in samples {
                let value = sample.value(field);
                let absent = if value.is_some() { 0 } else { ABSENT };
                bytes.extend(value.unwrap_or_default());
                ends.push(bytes.len() as u32 | absent);
            }
            Column::new(field, ends, bytes)
        };
        plan.fields.iter().map(column).collect()
    }
}

/// What a filter says of a message.
///
/// # Errors
/// The reason, where the filter failed the message.
pub fn accepts<F: Filter>(filter: &F, sample: &Sample) -> Result<bool, String> {
    let plan = filter.plan();
    let (accepted, failures) = crate::filter::evaluate(filter, &plan, 1, &Sample::columns(&[sample], &plan));
    match failures.into_iter().next() {
        Some((_, reason)) => Err(reason),
        None => Ok(accepted == [1]),
    }
}

/// Where a selector sends a message of a topic with `queues` queues: pairs of destination and queue.
///
/// # Errors
/// The reason, where the selector failed the message.
pub fn selects<S: Selector>(selector: &S, sample: &Sample, queues: u16) -> Result<Vec<(u16, u16)>, String> {
    let plan = selector.plan();
    let stats = (0..queues).map(|queue| crate::QueueStat { queue, messages: 0 });
    let context = Context { attempt_limit: 17, queues: stats.collect() };
    let columns = Sample::columns(&[sample], &plan);
    let (_, targets, failures) = crate::selector::evaluate(selector, &plan, &context, 1, &columns);
    match failures.into_iter().next() {
        Some((_, reason)) => Err(reason),
        None => Ok(targets.into_iter().map(|target| ((target >> 16) as u16, target as u16)).collect()),
    }
}

/// The key that a dedup names for a message.
///
/// # Errors
/// The reason, where the dedup failed the message.
pub fn keys<D: Dedup>(dedup: &D, sample: &Sample) -> Result<Option<Key>, String> {
    let plan = dedup.plan();
    let columns = Sample::columns(&[sample], &plan);
    let (ends, bytes, times, failures) = crate::dedup::evaluate(dedup, &plan, 1, &columns);
    if let Some((_, reason)) = failures.into_iter().next() {
        return Err(reason);
    }
    let key = || Key::new(String::from_utf8_lossy(&bytes)).remembered_for(Duration::from_millis(times[0].into()));
    Ok((ends[0] & ABSENT == 0).then(key))
}

#[cfg(test)]
mod tests;
