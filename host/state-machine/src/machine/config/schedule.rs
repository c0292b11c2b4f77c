//! Schedules: create, change, delete, and that a run is done.

use pointsman_model::record::{Header, kind};
use pointsman_model::{TenantId, Timestamp, limits};

use super::{Entry, Stop, check_expect, name_of, unchanged};
use crate::command::{Expect, ScheduleConfig, ScheduleRan};
use crate::error::Error;
use crate::machine::entry::{Placed, decode};
use crate::outcome::{Outcome, Refusal};
use crate::state::Schedule;
use crate::table;

impl Entry<'_> {
    pub(super) fn put_schedule(
        &mut self,
        tenant: TenantId,
        expect: &Expect,
        name: &str,
        config: ScheduleConfig,
        next: Option<u64>,
    ) -> Result<Outcome, Stop> {
        self.check_tenant(tenant)?;
        let name = name_of(name)?;
        let existing = self.state.schedule(tenant, name.as_str());
        check_expect(expect, existing.map(|schedule| schedule.revision))?;
        let existing = existing.cloned();
        if let Some(existing) = existing.as_ref().filter(|existing| existing.config == config) {
            return Ok(unchanged(existing.id, existing.revision));
        }
        if self.state.topic(tenant, &config.topic).is_none() {
            return Err(Refusal::TopicNotFound(config.topic).into());
        }
        let of_tenant = self.state.schedules.values().filter(|schedule| schedule.tenant == tenant).count();
        if existing.is_none() && of_tenant >= limits::SCHEDULES_MAX {
            return Err(Refusal::TooManySchedules.into());
        }
        let created = existing.is_none();
        let revision = self.next_revision();
        let next = next.map(Timestamp);
        let schedule = match existing {
            Some(existing) => Schedule { config, next, revision, ..existing },
            None => {
                self.state.counters.schedule += 1;
                let (id, created_at) = (self.state.counters.schedule, self.now());
                Schedule { id, tenant, name: name.clone(), config, next, last: None, revision, created_at }
            }
        };
        let id = schedule.id;
        self.changes.put(table::schedule_key(tenant, id), table::encode(&table::ScheduleRow::from(&schedule)));
        self.put_run(&schedule);
        self.state.schedules_by_name.insert((tenant, name), id);
        self.state.schedules.insert(id, schedule);
        self.changes.config_changed = true;
        Ok(Outcome::Configured { created, unchanged: false, revision, id })
    }

    pub(super) fn delete_schedule(&mut self, tenant: TenantId, expect: &Expect, name: &str) -> Result<Outcome, Stop> {
        let schedule = self.state.schedule(tenant, name).ok_or(Refusal::ScheduleNotFound)?;
        check_expect(expect, Some(schedule.revision))?;
        let id = schedule.id;
        self.remove_schedule(id);
        Ok(Outcome::Deleted)
    }

    /// Forgets the schedules of a tenant that goes.
    pub(super) fn drop_schedules(&mut self, tenant: TenantId) {
        let of_tenant = self.state.schedules.values().filter(|schedule| schedule.tenant == tenant);
        let ids: Vec<_> = of_tenant.map(|schedule| schedule.id).collect();
        ids.into_iter().for_each(|id| self.remove_schedule(id));
    }

    fn remove_schedule(&mut self, id: u32) {
        if let Some(schedule) = self.state.schedules.remove(&id) {
            self.changes.delete(table::schedule_key(schedule.tenant, id));
            self.changes.delete(table::schedule_run_key(schedule.tenant, id));
            self.state.schedules_by_name.remove(&(schedule.tenant, schedule.name));
            self.changes.config_changed = true;
        }
    }

    /// Notes that a run came to nothing.
    pub(in crate::machine) fn schedule_ran(&mut self, header: &Header, ran: &ScheduleRan) -> Result<Outcome, Stop> {
        self.check_run(header, ran)?;
        Ok(self.advance(ran))
    }

    /// A run of a schedule: its messages, if it was due when its leader saw it, and all of them or none.
    pub(in crate::machine) fn schedule_run(&mut self, unit: &[Placed]) -> Result<(), Error> {
        let Some((first, messages)) = unit.split_first() else { return Ok(()) };
        let ran = decode::<ScheduleRan>(first.head())
            .and_then(|ran| self.check_run(&first.header, &ran).map(|()| ran))
            .and_then(|ran| if is_run(messages) { Ok(ran) } else { Err(no_run()) });
        let at = self.changes.outcomes.len();
        match ran {
            Ok(ran) => {
                // In its place, which is only known when the messages are.
                self.changes.outcomes.push(Outcome::Refused(Refusal::UnitRefused));
                self.unit(messages)?;
                let refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
                if !self.changes.outcomes[at + 1..].iter().any(refused) {
                    self.changes.outcomes[at] = self.advance(&ran);
                }
            }
            Err(refusal) => {
                self.changes.outcomes.push(Outcome::Refused(refusal));
                for message in messages {
                    let outcome = self.refuse(message, Refusal::UnitRefused);
                    self.changes.outcomes.push(outcome);
                }
            }
        }
        Ok(())
    }

    fn check_run(&self, header: &Header, ran: &ScheduleRan) -> Result<(), Refusal> {
        let schedule = self.state.schedules.get(&ran.schedule);
        let schedule = schedule.filter(|schedule| schedule.tenant == header.tenant).ok_or(Refusal::ScheduleNotFound)?;
        // Another leader was first, the schedule was changed, or it is early.
        let due = schedule.next == Some(Timestamp(ran.due)) && ran.due <= self.now().0;
        let later = ran.next.is_none_or(|next| next > ran.due);
        if due && later { Ok(()) } else { Err(Refusal::SourceClosed) }
    }

    fn advance(&mut self, ran: &ScheduleRan) -> Outcome {
        if let Some(schedule) = self.state.schedules.get_mut(&ran.schedule) {
            schedule.last = Some(Timestamp(ran.due));
            schedule.next = ran.next.map(Timestamp);
            let schedule = schedule.clone();
            self.put_run(&schedule);
        }
        Outcome::ScheduleRan { next: ran.next.map(Timestamp) }
    }

    fn put_run(&mut self, schedule: &Schedule) {
        let run = (schedule.next.map(|next| next.0), schedule.last.map(|last| last.0));
        self.changes.put(table::schedule_run_key(schedule.tenant, schedule.id), table::encode(&run));
    }
}

/// True for what may follow in the unit of a run.
fn is_run(messages: &[Placed]) -> bool {
    let published = |kind| matches!(kind, kind::PUBLISH | kind::PUBLISH_PARKED);
    !messages.is_empty() && messages.iter().all(|message| published(message.header.kind))
}

fn no_run() -> Refusal {
    Refusal::Malformed("a run of something else than messages".into())
}
