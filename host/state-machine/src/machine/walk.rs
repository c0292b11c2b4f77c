//! Queue and key entries of a segment whose entries are applied already: what rebuilds its sidecars.
//!
//! A function of the segment's bytes and of the two tables that belong to it: the first offset of each queue in the
//! segment, and the publish records that came to nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use pointsman_model::record::kind;
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, TopicId};

use super::entry::placed;
use super::publish::Facts;
use super::{EntryMeta, KeyAppend, QueueAppend, Store};
use crate::error::Error;
use crate::table;

/// A walk of one segment, from its first entry on.
#[derive(Debug)]
pub struct SegmentWalk {
    base: LogPosition,
    refused: BTreeSet<(LogIndex, Ordinal)>,
    next: BTreeMap<(TopicId, QueueId), QueueOffset>,
}

impl SegmentWalk {
    /// Starts at the first entry of the segment with that base.
    ///
    /// # Errors
    /// A failed read or a damaged row.
    pub fn new(store: &dyn Store, base: LogPosition) -> Result<Self, Error> {
        let prefix = table::refused_prefix(base);
        let mut keys = Vec::new();
        store.scan(&prefix, &table::after(&prefix), &mut |key, _| {
            keys.push(key.to_vec());
            true
        })?;
        let refused = keys.iter().map(|key| {
            let mut numbers = table::KeyReader::new(key);
            let (_tenant, _base) = (numbers.u32()?, numbers.u64()?);
            Ok((LogIndex(numbers.u64()?), Ordinal(numbers.u16()?)))
        });
        Ok(Self { base, refused: refused.collect::<Result<_, Error>>()?, next: BTreeMap::new() })
    }

    /// The entries that [`super::Machine::apply`] appended for the next entry of the segment. Every entry of the segment
    /// up to the last one wanted must come, in order, and be applied in what `store` holds.
    ///
    /// # Errors
    /// A failed read, a damaged record, or the state has no row of a queue that a visible record needs.
    pub fn entry(
        &mut self,
        store: &dyn Store,
        meta: &EntryMeta,
        records: &Bytes,
    ) -> Result<(Vec<QueueAppend>, Vec<KeyAppend>), Error> {
        let (mut queue, mut keys) = (Vec::new(), Vec::new());
        for placed in placed(meta, records) {
            let placed = placed?;
            let visible = matches!(placed.header.kind, kind::PUBLISH | kind::PUBLISH_FROM);
            if !visible || self.refused.contains(&(meta.index, placed.ordinal)) {
                continue;
            }
            // Whoever reads this record's head differently than `apply` did has other rows than `apply` wrote.
            let key = || table::refused_key(self.base, meta.index, placed.ordinal);
            let facts =
                Facts::read(placed.head(), placed.header.topic).map_err(|_| Error::MissingRow { key: key() })?;
            let offset = self.take_offset(store, placed.header.topic, placed.header.queue)?;
            facts.append(meta, &placed, offset, &mut queue, &mut keys);
        }
        Ok((queue, keys))
    }

    fn take_offset(&mut self, store: &dyn Store, topic: TopicId, queue: QueueId) -> Result<QueueOffset, Error> {
        let next = match self.next.entry((topic, queue)) {
            std::collections::btree_map::Entry::Occupied(next) => next.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let key = table::segment_queue_key(self.base, topic, queue);
                let Some(value) = store.get(&key)? else {
                    return Err(Error::MissingRow { key });
                };
                place.insert(QueueOffset(table::decode(&key, &value)?))
            }
        };
        let offset = *next;
        *next = offset.next();
        Ok(offset)
    }
}
