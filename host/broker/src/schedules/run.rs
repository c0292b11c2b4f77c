//! Runs of schedules: the leader publishes what is due, in one unit with the note that it did.
//!
//! The note is compare-and-set on the due time, so a run happens once whatever leaders do. A run that is late, because
//! the node was down, happens once too: the next is the first after now.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pointsman_model::record::kind;
use pointsman_model::{Timestamp, limits};
use pointsman_state_machine::command::ScheduleRan;
use pointsman_state_machine::state::Schedule;
use tokio_util::sync::CancellationToken;

use super::cron::Timetable;
use super::message;
use crate::broker::Inner;
use crate::shard::ShardRuntime;
use crate::{Broker, Call, Error, Principal};

/// Runs of one look.
const RUNS_AT_ONCE: usize = 100;

/// Runs what is due until the broker stops.
pub(crate) async fn run(broker: Weak<Inner>, stop: CancellationToken) {
    let poll = Duration::from_millis(limits::TIMER_POLL_MS);
    while stop.run_until_cancelled(tokio::time::sleep(poll)).await.is_some() {
        let Some(inner) = broker.upgrade() else { return };
        Broker { inner }.run_schedules().await;
    }
}

impl Broker {
    /// Runs what is due now; in production a task does.
    pub(crate) async fn run_schedules(&self) {
        for shard in &self.inner.data {
            if shard.port.leadership().is_none() {
                continue;
            }
            let now = shard.port.now();
            let due: Vec<_> = {
                let state = shard.port.state();
                let due = state.schedules.values().filter(|schedule| schedule.next.is_some_and(|next| next <= now));
                due.take(RUNS_AT_ONCE).cloned().collect()
            };
            for schedule in due {
                self.run_schedule(shard, &schedule, now).await;
            }
        }
    }

    async fn run_schedule(&self, shard: &Arc<ShardRuntime>, schedule: &Schedule, now: Timestamp) {
        let Some(due) = schedule.next else { return };
        let next = Timetable::parse(&schedule.config.cron, &schedule.config.timezone).ok();
        let next = next.and_then(|timetable| timetable.next(now)).map(|next| next.0);
        let ran = ScheduleRan { schedule: schedule.id, due: due.0, next };
        match self.publish_run(shard, schedule, ran).await {
            Ok(()) => {}
            // Another leader ran it, or it was changed.
            Err(_) if shard.port.state().schedules.get(&schedule.id).and_then(|s| s.next) != Some(due) => {}
            Err(error) if is_passing(&error) => {
                tracing::debug!(schedule.name = %schedule.name, %error, "a run of a schedule is tried again");
            }
            Err(error) => {
                tracing::warn!(schedule.name = %schedule.name, %error, "a run of a schedule came to nothing");
                let skipped = self.write(&internal(), shard, schedule.tenant, kind::SCHEDULE_RAN, &ran, &[]).await;
                if let Err(error) = skipped {
                    tracing::debug!(schedule.name = %schedule.name, %error, "and is tried again");
                }
            }
        }
    }

    async fn publish_run(&self, shard: &Arc<ShardRuntime>, schedule: &Schedule, ran: ScheduleRan) -> Result<(), Error> {
        let topic = shard.port.state().topic(schedule.tenant, &schedule.config.topic).cloned();
        let topic = topic.ok_or_else(|| Error::TopicNotFound(schedule.config.topic.clone()))?;
        self.publish_scheduled(shard, &topic, message(&schedule.config.message), ran, internal().deadline).await
    }
}

/// The broker's own call.
fn internal() -> Call {
    let deadline = crate::call::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
    Call { principal: Principal::Operator, deadline, request_id: "schedule".into() }
}

/// The same run may succeed later.
fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::NoLeader
            | Error::Overloaded(_)
            | Error::Draining
            | Error::PluginUnavailable(_)
            | Error::StorageFailed(_)
            | Error::DiskFull
            | Error::OutcomeUnknown
            | Error::QuotaExceeded(..)
    )
}
