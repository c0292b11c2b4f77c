//! Messages that are parked, and how they become visible: by their time, or by their transaction's commit.
//!
//! A parked message has a row in table 21, and one in table 22 while it waits for a time. Becoming visible is a new
//! record at the log's head that names the parked one: it takes these rows and leaves one in table 23, so that the id
//! of the parked record goes on naming the message.

use std::collections::BTreeSet;

use pointsman_model::record::{FRAME_HEADER_BYTES, Header, kind};
use pointsman_model::{GroupId, TenantId, Timestamp, TopicId};

use super::entry::{Entry, Placed, Stop};
use super::publish::{Checked, Facts};
use crate::command::{Cause, Origin, Park, Place, TimerChange, TimerOp};
use crate::error::Error;
use crate::outcome::{Outcome, ParkedAt, Published, Refusal};
use crate::state::{DedupId, Moved, OwedBy, Parked};
use crate::table;

impl Entry<'_> {
    /// Refuses what a record of its kind must not carry, and a message whose source is closed.
    pub(super) fn check_parking(&self, placed: &Placed, facts: &Facts) -> Result<(), Stop> {
        if facts.transaction && !matches!(facts.park, Some(Park::Half(_))) {
            return Err(Refusal::Malformed("a transaction of no half".into()).into());
        }
        match (placed.header.kind, facts.park, facts.origin) {
            (kind::PUBLISH, None, None) => Ok(()),
            (kind::PUBLISH_PARKED, Some(Park::Until(_)), None) => Ok(()),
            (kind::PUBLISH_PARKED, Some(Park::Half(first)), None) if first <= placed.ordinal.0 => Ok(()),
            (kind::PUBLISH_FROM, None, Some(origin)) => self.check_source(&placed.header, &origin),
            _ => {
                Err(Refusal::Malformed("a message that is parked or repeated otherwise than its kind says".into())
                    .into())
            }
        }
    }

    /// The record that a message comes from must still wait for just this.
    fn check_source(&self, header: &Header, origin: &Origin) -> Result<(), Stop> {
        let open = match origin.cause {
            Cause::Timer => {
                let parked = self.parked(header.tenant, origin.place)?;
                let due = parked.and_then(|parked| (parked.topic == header.topic.0).then(|| parked.deliver_at()));
                due.flatten().is_some_and(|due| due <= self.now())
            }
            Cause::Commit => {
                let parked = self.parked(header.tenant, origin.place)?;
                parked.is_some_and(|parked| parked.topic == header.topic.0 && matches!(parked.park, Park::Half(_)))
            }
            Cause::Redrive(group) => self.is_open(header, GroupId(group), origin.place)?,
        };
        if open { Ok(()) } else { Err(Refusal::SourceClosed.into()) }
    }

    /// Stores a checked message without making it visible.
    pub(super) fn park(&mut self, placed: &Placed, park: Park, dedup: Option<DedupId>) -> Outcome {
        let (header, meta) = (&placed.header, self.meta);
        let place = Place { term: meta.term.0, index: meta.index.0, ordinal: placed.ordinal.0 };
        let parked = Parked {
            place,
            topic: header.topic.0,
            queue: header.queue.0,
            park,
            parked_at: self.now().0,
            position: meta.position.0 + FRAME_HEADER_BYTES + placed.range.start as u64,
            length: placed.range.len() as u32,
            dedup,
        };
        self.put_parked(header.tenant, &parked);
        self.put_timer(header.tenant, &parked);
        Outcome::Parked(ParkedAt {
            place,
            topic: header.topic,
            queue: header.queue,
            stored_at: self.now(),
            deliver_at: parked.deliver_at(),
        })
    }

    /// Notes that a parked message is visible: its rows go, and its id leads to where it is now.
    pub(super) fn moved(&mut self, tenant: TenantId, from: Place, to: &Published) -> Result<(), Error> {
        if let Some(parked) = self.parked(tenant, from)? {
            self.remove_parked(tenant, &parked);
            if let Some(id) = parked.dedup {
                self.dedup_settle(tenant, id, from, to.topic, Some((to.queue, to.offset)))?;
            }
        }
        let moved = Moved {
            parked_term: from.term,
            place: Place { term: to.term.0, index: to.index.0, ordinal: to.ordinal.0 },
            topic: to.topic.0,
            queue: to.queue.0,
            offset: to.offset.0,
        };
        self.changes.put(table::moved_key(tenant, from.index, from.ordinal), table::encode(&moved));
        let key = table::moved_of_segment_key(self.meta.segment_base, tenant, from.index, from.ordinal);
        self.changes.put(key, table::encode(&()));
        Ok(())
    }

    pub(super) fn timer_change(&mut self, header: &Header, change: &TimerChange) -> Result<Outcome, Stop> {
        let (tenant, place) = (header.tenant, change.place);
        let waiting = self.parked(tenant, place)?.filter(|parked| parked.deliver_at().is_some());
        let Some(parked) = waiting else {
            return Err(self.no_timer(tenant, place)?.into());
        };
        let deliver_at = match change.op {
            TimerOp::Cancel => {
                self.discard_parked(tenant, &parked)?;
                None
            }
            TimerOp::Due(due) => {
                self.wait_until(tenant, parked, Timestamp(due))?;
                Some(Timestamp(due))
            }
        };
        Ok(Outcome::TimerChanged { deliver_at })
    }

    /// Why a message waits for no time: it is visible already, or never was to be.
    fn no_timer(&self, tenant: TenantId, place: Place) -> Result<Refusal, Error> {
        let key = table::moved_key(tenant, place.index, place.ordinal);
        let moved: Option<Moved> =
            self.changes.get(self.store, &key)?.map(|value| table::decode(&key, &value)).transpose()?;
        let delivered = moved.is_some_and(|moved| moved.parked_term == place.term);
        Ok(if delivered { Refusal::AlreadyDelivered } else { Refusal::NotScheduled })
    }

    /// Forgets what is parked in a topic that goes. One slow entry if it is much: the rows of the tenant are all read.
    pub(super) fn drop_parked(&mut self, tenant: TenantId, topic: TopicId) -> Result<(), Error> {
        for (key, value) in self.changes.scan(self.store, &table::parked_prefix(tenant))? {
            let parked: Parked = table::decode(&key, &value)?;
            if parked.topic == topic.0 {
                self.discard_parked(tenant, &parked)?;
            }
        }
        Ok(())
    }

    /// The row of a parked message, as this entry has left it.
    pub(super) fn parked(&self, tenant: TenantId, place: Place) -> Result<Option<Parked>, Error> {
        let key = table::parked_key(tenant, place.index, place.ordinal);
        let value = self.changes.get(self.store, &key)?;
        let parked: Option<Parked> = value.map(|value| table::decode(&key, &value)).transpose()?;
        Ok(parked.filter(|parked| parked.place == place))
    }

    /// Makes a parked message wait for a time, whatever it waited for before.
    pub(super) fn wait_until(&mut self, tenant: TenantId, parked: Parked, due: Timestamp) -> Result<(), Error> {
        if let (Park::Half(_), Some(id)) = (parked.park, parked.dedup) {
            self.dedup_settle(tenant, id, parked.place, TopicId(parked.topic), None)?;
        }
        self.remove_timer(tenant, &parked);
        let parked = Parked { park: Park::Until(due.0), ..parked };
        self.put_parked(tenant, &parked);
        self.put_timer(tenant, &parked);
        Ok(())
    }

    /// A parked message never becomes visible: its rows go, and its dedup key is free.
    pub(super) fn discard_parked(&mut self, tenant: TenantId, parked: &Parked) -> Result<(), Error> {
        self.remove_parked(tenant, parked);
        match parked.dedup {
            Some(id) => self.dedup_forget(tenant, id, parked.place),
            None => Ok(()),
        }
    }

    /// Takes away all rows of a parked message.
    pub(super) fn remove_parked(&mut self, tenant: TenantId, parked: &Parked) {
        self.changes.delete(table::parked_key(tenant, parked.place.index, parked.place.ordinal));
        self.forgive(tenant, parked.position, OwedBy::Parked(parked.place.index, parked.place.ordinal));
        self.remove_timer(tenant, parked);
    }

    fn put_parked(&mut self, tenant: TenantId, parked: &Parked) {
        let key = table::parked_key(tenant, parked.place.index, parked.place.ordinal);
        self.changes.put(key, table::encode(parked));
        let by = OwedBy::Parked(parked.place.index, parked.place.ordinal);
        self.owe(tenant, parked.position, parked.length, by);
    }

    fn put_timer(&mut self, tenant: TenantId, parked: &Parked) {
        if let Some(due) = parked.deliver_at() {
            let key = table::timer_key(tenant, due.0, parked.place.index, parked.place.ordinal);
            self.changes.put(key, table::encode(&parked.topic));
            self.count_timers(tenant, true);
        }
    }

    fn remove_timer(&mut self, tenant: TenantId, parked: &Parked) {
        if let Some(due) = parked.deliver_at() {
            self.changes.delete(table::timer_key(tenant, due.0, parked.place.index, parked.place.ordinal));
            self.count_timers(tenant, false);
        }
    }

    /// Counts a timer that came or went.
    fn count_timers(&mut self, tenant: TenantId, came: bool) {
        let count = self.state.timers.entry(tenant).or_default();
        *count = if came { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.state.timers.remove(&tenant);
        }
        self.changes.timers.insert(tenant);
    }
}

/// Refuses the second message of a unit that comes from the same parked record: checks alone would let both pass.
pub(super) fn refuse_repeated_sources(checked: &mut [Result<Checked, Refusal>]) {
    let mut sources = BTreeSet::new();
    for checked in checked {
        let origin = checked.as_ref().ok().and_then(|checked| checked.facts.origin);
        if origin.is_some_and(|origin| !sources.insert(origin.place)) {
            *checked = Err(Refusal::SourceClosed);
        }
    }
}
