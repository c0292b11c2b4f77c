//! Schedules as the use cases read them.

use pointsman_model::{Name, TenantId, Timestamp};

use crate::command::ScheduleConfig;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its id.
    pub id: u32,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: Name,
    /// Its settings.
    pub config: ScheduleConfig,
    /// When it is due next; `None` is never.
    pub next: Option<Timestamp>,
    /// When the last run was due.
    pub last: Option<Timestamp>,
    /// Changed by each write to it, not by its runs.
    pub revision: u64,
    /// When it was created.
    pub created_at: Timestamp,
}
