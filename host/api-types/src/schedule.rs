//! Schedules: messages that are published again and again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;
use crate::publish::MessageInput;

/// Body of a schedule's PUT.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleInput<'a> {
    /// Equal to the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// IANA name of the time zone that they are meant in; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The topic.
    pub topic: String,
    /// What is published; without a delay and an idempotency key.
    #[serde(borrow)]
    pub message: MessageInput<'a>,
    /// Set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
    /// Set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Time>,
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
pub struct Schedule<'a> {
    /// Name.
    pub name: String,
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// Time zone.
    pub timezone: String,
    /// The topic.
    pub topic: String,
    /// What is published.
    pub message: MessageInput<'a>,
    /// When it is due next.
    pub next_at: Option<Time>,
    /// When the last run was due.
    pub last_at: Option<Time>,
}
