//! One entry: its records in order, alone or as units.

use std::ops::Range;

use bytes::Bytes;
use pointsman_model::record::{self, FLAG_SAME_MESSAGE, FLAG_UNIT_CONTINUES, Header, kind};
use pointsman_model::{Ordinal, Timestamp};
use serde::Deserialize;

use super::changes::Changes;
use super::dedup::{Fronts, UnitKeys};
use super::park::refuse_repeated_sources;
use super::publish::{Checked, Facts};
use super::{Applied, EntryMeta, SegmentQueues, Store, outcome_hash};
use crate::command::ScheduleRan;
use crate::command::{
    Cause, DeadLetterChange, Expire, Grant, PluginChunk, PluginCommit, Seek, Settle, Skip, TimerChange, Trim,
};
use crate::error::Error;
use crate::outcome::{Duplicate, Outcome, Refusal};
use crate::state::State;

/// Why a command went no further: an outcome, or the end of this shard on this node.
pub(super) enum Stop {
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// An entry while it is applied.
pub(super) struct Entry<'a> {
    pub(super) state: &'a mut State,
    pub(super) segment: &'a mut SegmentQueues,
    pub(super) fronts: &'a mut Fronts,
    pub(super) store: &'a dyn Store,
    pub(super) meta: &'a EntryMeta,
    pub(super) changes: Changes,
}

/// A record and its place.
pub(super) struct Placed {
    pub(super) ordinal: Ordinal,
    /// Its bytes within the records of the entry.
    pub(super) range: Range<usize>,
    pub(super) header: Header,
    head: Bytes,
    body: Bytes,
}

impl<'a> Entry<'a> {
    pub(super) fn new(
        state: &'a mut State,
        segment: &'a mut SegmentQueues,
        fronts: &'a mut Fronts,
        store: &'a dyn Store,
        meta: &'a EntryMeta,
    ) -> Self {
        Self { state, segment, fronts, store, meta, changes: Changes::default() }
    }

    pub(super) fn apply(mut self, records: &Bytes) -> Result<Applied, Error> {
        self.open_segment();
        let mut unit = Vec::new();
        for placed in placed(self.meta, records) {
            let placed = placed?;
            let continues = placed.header.flags & FLAG_UNIT_CONTINUES != 0;
            if continues {
                unit.push(placed);
            } else if unit.is_empty() {
                let outcome = self.record(&placed)?;
                self.changes.outcomes.push(outcome);
            } else {
                unit.push(placed);
                self.unit(&std::mem::take(&mut unit))?;
            }
        }
        if !unit.is_empty() {
            self.unit(&unit)?;
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Applied, Error> {
        self.dedup_finish()?;
        let outcome_hash = outcome_hash::next(self.state.outcome_hash, self.meta.index, &self.changes.outcomes);
        self.state.outcome_hash = outcome_hash;
        let writes = self.changes.take_rows(self.state).into_iter().collect();
        let Changes { outcomes, queue, keys, config_changed, .. } = self.changes;
        Ok(Applied { outcomes, writes, queue, keys, config_changed, outcome_hash })
    }

    fn record(&mut self, placed: &Placed) -> Result<Outcome, Error> {
        match self.command(placed) {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Refused(refusal)) => Ok(self.refuse(placed, refusal)),
        }
    }

    fn command(&mut self, placed: &Placed) -> Result<Outcome, Stop> {
        let Placed { header, head, body, .. } = placed;
        match header.kind {
            kind::PUBLISH | kind::PUBLISH_PARKED | kind::PUBLISH_FROM => self.message_alone(placed),
            kind::SETTLE => self.settle(header, decode::<Settle>(head)?),
            kind::EXPIRE => self.expire(header, decode::<Expire>(head)?),
            kind::GRANT => self.grant(header, &decode::<Grant>(head)?),
            kind::SKIP => self.skip(header, &decode::<Skip>(head)?),
            kind::TRANSACTION_RESOLVE => self.resolve(header, &decode(head)?),
            kind::TRANSACTION_CHECKED => self.checked(header, &decode(head)?),
            kind::SCHEDULE_RAN => self.schedule_ran(header, &decode::<ScheduleRan>(head)?),
            kind::TIMER_CHANGE => self.timer_change(header, &decode::<TimerChange>(head)?),
            kind::TRIM => self.trim(&decode::<Trim>(head)?),
            kind::SEEK => self.seek(header, &decode::<Seek>(head)?),
            kind::DEAD_LETTER_CHANGE => self.dead_letter_change(header, &decode::<DeadLetterChange>(head)?),
            kind::CONFIG_PUT => self.config_put(placed.ordinal, header, decode(head)?),
            kind::CONFIG_DELETE => self.config_delete(placed.ordinal, header, decode(head)?),
            kind::PLUGIN_CHUNK => self.plugin_chunk(header, decode::<PluginChunk>(head)?, body),
            kind::PLUGIN_COMMIT => self.plugin_commit(placed.ordinal, header, decode::<PluginCommit>(head)?),
            kind => Err(Error::UnknownKind { kind, index: self.meta.index, ordinal: placed.ordinal }.into()),
        }
    }

    /// A message that is no part of a unit; maybe a transaction of its own.
    fn message_alone(&mut self, placed: &Placed) -> Result<Outcome, Stop> {
        if let Some(from) = Self::carried(placed)? {
            return self.carry(placed, from);
        }
        let unit = std::slice::from_ref(placed);
        let checked = self.check_message(placed, &UnitKeys::alone())?;
        refuse_commit(&checked.facts)?;
        let park = checked.facts.park;
        self.check_prepare(unit, &[park])?;
        let outcome = self.message(placed, &checked)?;
        self.prepare(unit, park, std::slice::from_ref(&outcome))?;
        Ok(outcome)
    }

    /// Publishes all records of a unit or none; all checks come first. What is a duplicate is neither refused nor stored,
    /// with all its targets.
    pub(super) fn unit(&mut self, unit: &[Placed]) -> Result<(), Error> {
        if unit.first().is_some_and(|first| first.header.kind == kind::TRANSACTION_RESOLVE) {
            return self.commit(unit);
        }
        if unit.first().is_some_and(|first| first.header.kind == kind::SCHEDULE_RAN) {
            return self.schedule_run(unit);
        }
        let mut keys = UnitKeys::alone();
        let mut checked: Vec<Result<Checked, Refusal>> = Vec::with_capacity(unit.len());
        for placed in unit {
            let part = self.check_part(placed, &keys)?;
            keys.note(part.as_ref().ok().map(|checked| &checked.seen));
            checked.push(part);
        }
        if let (Some(last), Some(facts)) = (unit.last(), checked.last_mut())
            && last.header.flags & FLAG_UNIT_CONTINUES != 0
        {
            *facts = Err(Refusal::Malformed("the entry ends within a unit".into()));
        }
        refuse_repeated_sources(&mut checked);
        let mut whole = checked.iter().all(Result::is_ok);
        let parks: Vec<_> =
            checked.iter().map(|checked| checked.as_ref().ok().and_then(|checked| checked.facts.park)).collect();
        if whole {
            match (self.check_prepare(unit, &parks), checked.first_mut()) {
                (Err(Stop::Failed(error)), _) => return Err(error),
                (Err(Stop::Refused(refusal)), Some(first)) => (whole, *first) = (false, Err(refusal)),
                _ => {}
            }
        }
        let at = self.changes.outcomes.len();
        for (placed, checked) in unit.iter().zip(checked) {
            let target = placed.header.flags & FLAG_SAME_MESSAGE != 0;
            let outcome = match (checked, self.changes.outcomes.last()) {
                (Ok(_), Some(Outcome::Duplicate(before))) if whole && target => self.duplicate(placed, *before),
                (Ok(checked), _) if whole => self.message(placed, &checked)?,
                (Ok(_), _) => self.refuse(placed, Refusal::UnitRefused),
                (Err(refusal), _) => self.refuse(placed, refusal),
            };
            self.changes.outcomes.push(outcome);
        }
        if whole {
            let outcomes = self.changes.outcomes.split_off(at);
            self.prepare(unit, parks.first().copied().flatten(), &outcomes)?;
            self.changes.outcomes.extend(outcomes);
        }
        Ok(())
    }

    fn check_part(&self, placed: &Placed, keys: &UnitKeys) -> Result<Result<Checked, Refusal>, Error> {
        match placed.header.kind {
            kind::PUBLISH | kind::PUBLISH_PARKED | kind::PUBLISH_FROM => match self.check_message(placed, keys) {
                Ok(checked) => Ok(refuse_commit(&checked.facts).map(|()| checked)),
                Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
                Err(Stop::Failed(error)) => Err(error),
            },
            kind if is_known(kind) => Ok(Err(Refusal::Malformed("only messages form units".into()))),
            kind => Err(Error::UnknownKind { kind, index: self.meta.index, ordinal: placed.ordinal }),
        }
    }

    pub(super) fn refuse(&mut self, placed: &Placed, refusal: Refusal) -> Outcome {
        self.note_dead(placed);
        Outcome::Refused(refusal)
    }

    /// A message that is stored already comes to nothing.
    pub(super) fn duplicate(&mut self, placed: &Placed, before: Duplicate) -> Outcome {
        self.note_dead(placed);
        Outcome::Duplicate(before)
    }

    /// Notes that a record came to nothing, where a walk of the segment must pass it by.
    fn note_dead(&mut self, placed: &Placed) {
        // A parked record that came to nothing has no row, which says enough.
        if matches!(placed.header.kind, kind::PUBLISH | kind::PUBLISH_FROM) {
            self.note_refused(placed.ordinal);
        }
    }

    /// The time of all that happens in this entry.
    pub(super) fn now(&self) -> Timestamp {
        self.meta.stamp
    }
}

/// The records of an entry, verified.
pub(super) fn placed<'a>(
    meta: &'a EntryMeta,
    records: &'a Bytes,
) -> impl Iterator<Item = Result<Placed, Error>> + use<'a> {
    record::ranges(records).enumerate().map(move |(i, range)| {
        let ordinal = Ordinal(u16::try_from(i).map_err(|_| Error::TooManyRecords { index: meta.index })?);
        let damaged = |source| Error::DamagedRecord { index: meta.index, ordinal, source };
        let range = range.map_err(damaged)?;
        let record = record::decode_head(&records.slice(range.clone())).map_err(damaged)?;
        Ok(Placed { ordinal, range, header: record.header, head: record.head, body: record.body })
    })
}

impl Placed {
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }
}

/// Reads the head of a record; all of it.
pub(super) fn decode<'a, T: Deserialize<'a>>(head: &'a [u8]) -> Result<T, Refusal> {
    match postcard::take_from_bytes(head) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(Refusal::Malformed("bytes behind the head's last field".into())),
        Err(error) => Err(Refusal::Malformed(format!("unreadable head: {error}"))),
    }
}

/// A message becomes visible by a commit only in the unit of the verdict.
fn refuse_commit(facts: &Facts) -> Result<(), Refusal> {
    match facts.origin {
        Some(origin) if origin.cause == Cause::Commit => Err(Refusal::Malformed("a commit without a verdict".into())),
        _ => Ok(()),
    }
}

fn is_known(kind: u8) -> bool {
    matches!(
        kind,
        kind::PUBLISH
            | kind::PUBLISH_PARKED
            | kind::PUBLISH_FROM
            | kind::SETTLE
            | kind::EXPIRE
            | kind::GRANT
            | kind::SKIP
            | kind::TRANSACTION_RESOLVE
            | kind::TRANSACTION_CHECKED
            | kind::TIMER_CHANGE
            | kind::SCHEDULE_RAN
            | kind::SEEK
            | kind::TRIM
            | kind::DEAD_LETTER_CHANGE
            | kind::CONFIG_PUT
            | kind::CONFIG_DELETE
            | kind::PLUGIN_CHUNK
            | kind::PLUGIN_COMMIT
    )
}
