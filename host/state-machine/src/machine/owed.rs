//! What is owed: messages that are not in the reach of their queues, and must stay readable all the same.
//!
//! A parked message and a dead letter that was not redriven refer to a record by its position. Table 45 has these rows by
//! position, so that one look tells whether a stretch of the log is needed. A message that waits for another attempt is
//! found by its queue's offset, and is looked for there.
//!
//! A *carried* message is a copy of such a record at the log's head: every row that refers to the record refers to the
//! copy from then on. It is a compare-and-set on the position, so a copy that comes twice, or late, comes to nothing.

use pointsman_model::record::{FRAME_HEADER_BYTES, kind};
use pointsman_model::{GroupId, LogPosition, TenantId, limits};

use super::entry::{Entry, Placed, Stop, decode};
use super::{Machine, Store};
use crate::command::PublishHead;
use crate::error::Error;
use crate::outcome::{Outcome, Refusal};
use crate::state::{DeadLetter, Owed, OwedBy, Parked};
use crate::table::{self, KeyReader};

impl Machine {
    /// Records below a position that are owed, at most `max`, the oldest first. One comes as often as rows refer to it.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn owed(&self, store: &dyn Store, below: LogPosition, max: usize) -> Result<Vec<Owed>, Error> {
        let mut found = Vec::new();
        let mut failed = None;
        store.scan(&table::owed_from(LogPosition(0)), &table::owed_from(below), &mut |key, value| {
            match owed(key, value) {
                Ok(owed) => found.push(owed),
                Err(error) => failed = Some(error),
            }
            failed.is_none() && found.len() < max
        })?;
        found.truncate(max);
        failed.map_or(Ok(found), Err)
    }
}

/// A row of table 45.
fn owed(key: &[u8], value: &[u8]) -> Result<Owed, Error> {
    let mut numbers = KeyReader::new(key);
    let _shard = numbers.u32()?;
    let (position, tenant) = (LogPosition(numbers.u64()?), TenantId(numbers.u32()?));
    let (by, length) = table::decode(key, value)?;
    Ok(Owed { position, length, tenant, by })
}

impl Entry<'_> {
    /// A row refers to a record.
    pub(super) fn owe(&mut self, tenant: TenantId, position: u64, length: u32, by: OwedBy) {
        let (kind, group) = by.kind();
        self.changes.put(table::owed_key(LogPosition(position), tenant, kind, group), table::encode(&(by, length)));
    }

    /// It does so no longer.
    pub(super) fn forgive(&mut self, tenant: TenantId, position: u64, by: OwedBy) {
        let (kind, group) = by.kind();
        self.changes.delete(table::owed_key(LogPosition(position), tenant, kind, group));
    }

    /// Where the record stood that this one stands for, if it is a copy.
    pub(super) fn carried(placed: &Placed) -> Result<Option<u64>, Refusal> {
        if placed.header.kind != kind::PUBLISH_PARKED {
            return Ok(None);
        }
        decode::<PublishHead<'_>>(placed.head()).map(|head| head.carried)
    }

    /// Makes all that refers to a record refer to its copy.
    pub(super) fn carry(&mut self, placed: &Placed, from: u64) -> Result<Outcome, Stop> {
        let tenant = placed.header.tenant;
        let to = self.meta.position.0 + FRAME_HEADER_BYTES + placed.range.start as u64;
        let length = placed.range.len() as u32;
        if from >= to {
            return Err(Refusal::Malformed("a copy that comes before what it stands for".into()).into());
        }
        let prefix = table::owed_prefix(LogPosition(from), tenant);
        let rows = self.changes.first(self.store, &prefix, &table::after(&prefix), limits::CARRY_REFERRERS_MAX)?;
        if rows.is_empty() {
            return Err(Refusal::SourceClosed.into());
        }
        let count = rows.len() as u32;
        for (key, value) in rows {
            let Owed { by, .. } = owed(&key, &value)?;
            self.changes.delete(key);
            self.point_to(tenant, by, to, length)?;
            self.owe(tenant, to, length, by);
        }
        Ok(Outcome::Carried(count))
    }

    fn point_to(&mut self, tenant: TenantId, by: OwedBy, position: u64, length: u32) -> Result<(), Error> {
        match by {
            OwedBy::Parked(index, ordinal) => {
                let key = table::parked_key(tenant, index, ordinal);
                let value =
                    self.changes.get(self.store, &key)?.ok_or_else(|| Error::MissingRow { key: key.clone() })?;
                let parked: Parked = table::decode(&key, &value)?;
                self.changes.put(key, table::encode(&Parked { position, length, ..parked }));
            }
            OwedBy::DeadLetter(group, index, ordinal) => {
                let key = table::dead_letter_key(tenant, GroupId(group), (index, ordinal));
                let value =
                    self.changes.get(self.store, &key)?.ok_or_else(|| Error::MissingRow { key: key.clone() })?;
                let mut letter: DeadLetter = table::decode(&key, &value)?;
                (letter.record.position, letter.record.length) = (position, length);
                self.changes.put(key, table::encode(&letter));
            }
        }
        Ok(())
    }
}
