//! One message, seen through the columns of its batch.

use std::cell::RefCell;

use crate::log::stop;
use crate::plan::Field;

/// Bit 31 of an end: the message has no such value.
pub(crate) const ABSENT: u32 = 1 << 31;

/// One field of all messages of a batch, as it came over the wire.
#[derive(Clone, Debug, Default)]
pub struct Column {
    pub(crate) ends: Vec<u32>,
    pub(crate) values: Values,
}

#[derive(Clone, Debug)]
pub(crate) enum Values {
    Text(String),
    Bytes(Vec<u8>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Column {
    /// Takes a column over. Text is checked to be UTF-8 once, here, and not for each message.
    #[must_use]
    pub fn new(field: &Field, ends: Vec<u32>, bytes: Vec<u8>) -> Self {
        let text = matches!(field, Field::Topic | Field::Tag | Field::OrderingKey | Field::Property(_));
        let values = if text {
            String::from_utf8(bytes).map_or_else(|error| Values::Bytes(error.into_bytes()), Values::Text)
        } else {
            Values::Bytes(bytes)
        };
        Self { ends, values }
    }

    fn range(&self, i: usize) -> Option<std::ops::Range<usize>> {
        let end = *self.ends.get(i)?;
        if end & ABSENT != 0 {
            return None;
        }
        let start = if i == 0 { 0 } else { self.ends[i - 1] & !ABSENT };
        Some(start as usize..end as usize)
    }

    fn bytes(&self, i: usize) -> Option<&[u8]> {
        let range = self.range(i)?;
        match &self.values {
            Values::Text(text) => text.as_bytes().get(range),
            Values::Bytes(bytes) => bytes.get(range),
        }
    }

    fn text(&self, i: usize) -> Option<&str> {
        let range = self.range(i)?;
        match &self.values {
            Values::Text(text) => text.get(range),
            Values::Bytes(bytes) => std::str::from_utf8(bytes.get(range)?).ok(),
        }
    }

    fn number(&self, i: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(i)?.try_into().ok()?))
    }
}

/// The messages of one call.
#[derive(Debug)]
pub struct Batch<'a> {
    fields: &'a [Field],
    columns: &'a [Column],
    /// The column of each field that is there once, by [`slot`].
    slots: [Option<&'a Column>; SLOTS],
    failures: RefCell<Vec<(u32, String)>>,
}

impl<'a> Batch<'a> {
    /// The batch of these columns, one for each field.
    #[must_use]
    pub fn new(fields: &'a [Field], columns: &'a [Column]) -> Self {
        let mut slots = [None; SLOTS];
        for (field, column) in fields.iter().zip(columns) {
            if let Some(slot) = slot(field) {
                slots[slot] = Some(column);
            }
        }
        Self { fields, columns, slots, failures: RefCell::default() }
    }

    /// The view of message `index`.
    #[must_use]
    pub fn message(&self, index: usize) -> Message<'_> {
        Message { batch: self, index }
    }

    /// The messages that failed, in rising order.
    #[must_use]
    pub fn into_failures(self) -> Vec<(u32, String)> {
        self.failures.into_inner()
    }

    fn column(&self, wanted: &Field) -> &'a Column {
        match slot(wanted).and_then(|slot| self.slots[slot]) {
            Some(column) => column,
            None => stop("a field was read that the plan does not ask for"),
        }
    }
}

/// Fields that a plan names at most once each, which are all but properties.
const SLOTS: usize = 11;

/// The place of such a field in [`Batch`]; where the field is a constant, so is this.
#[inline(always)]
fn slot(field: &Field) -> Option<usize> {
    Some(match field {
        Field::Property(_) => return None,
        Field::Topic => 0,
        Field::Tag => 1,
        Field::Keys => 2,
        Field::OrderingKey => 3,
        Field::Body => 4,
        Field::BodyHash => 5,
        Field::BornAt => 6,
        Field::StoredAt => 7,
        Field::Now => 8,
        Field::Seed => 9,
        Field::Priority => 10,
    })
}

/// A message to judge. Only the fields of the [`crate::Plan`] can be read.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    batch: &'a Batch<'a>,
    index: usize,
}

impl<'a> Message<'a> {
    /// The name of the topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.batch.column(&Field::Topic).text(self.index).unwrap_or_default()
    }

    /// The tag, if it has one.
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.batch.column(&Field::Tag).text(self.index)
    }

    /// The keys, in the producer's order.
    #[must_use]
    pub fn keys(&self) -> Keys<'a> {
        Keys { rest: self.batch.column(&Field::Keys).bytes(self.index).unwrap_or_default() }
    }

    /// The ordering key, if it has one.
    #[must_use]
    pub fn ordering_key(&self) -> Option<&'a str> {
        self.batch.column(&Field::OrderingKey).text(self.index)
    }

    /// The property of that name, if it has one.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'a str> {
        let asked = |field: &Field| matches!(field, Field::Property(asked) if crate::eq_fast(asked.as_bytes(), name.as_bytes()));
        match self.batch.fields.iter().position(asked) {
            Some(at) => self.batch.columns[at].text(self.index),
            None => stop("a property was read that the plan does not ask for"),
        }
    }

    /// The payload.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.batch.column(&Field::Body).bytes(self.index).unwrap_or_default()
    }

    /// A fingerprint of the payload.
    #[must_use]
    pub fn body_hash(&self) -> u128 {
        let bytes = self.batch.column(&Field::BodyHash).bytes(self.index);
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u128::from_le_bytes)
    }

    /// When the producer's call arrived, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn born_at(&self) -> u64 {
        self.number(&Field::BornAt).unwrap_or_default()
    }

    /// When the message was stored, in milliseconds since 1970 UTC; `None` while it is not.
    #[must_use]
    pub fn stored_at(&self) -> Option<u64> {
        self.number(&Field::StoredAt)
    }

    /// The time that the decision may rely on, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.number(&Field::Now).unwrap_or_default()
    }

    /// Pseudo-random bits of this message, the same whenever it is judged.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.number(&Field::Seed).unwrap_or_default()
    }

    /// The priority, 0 to 9.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.number(&Field::Priority).unwrap_or_default() as u8
    }

    /// Says that this message cannot be judged, and why; it then meets the binding's failure policy. Gives back
    /// a value to return, which does not count: `return message.fail("no amount");`
    pub fn fail<T: Default>(&self, reason: impl Into<String>) -> T {
        let mut failures = self.batch.failures.borrow_mut();
        let index = self.index as u32;
        if failures.last().is_none_or(|(last, _)| *last != index) {
            failures.push((index, reason.into()));
        }
        T::default()
    }

    fn number(&self, field: &Field) -> Option<u64> {
        self.batch.column(field).number(self.index)
    }
}

/// The keys of a message.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        self.rest = rest;
        std::str::from_utf8(key).ok()
    }
}
