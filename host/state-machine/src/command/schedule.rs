//! Schedules: messages that are published again and again.

use serde::{Deserialize, Serialize};

/// Settings of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleConfig {
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// IANA name of the time zone that they are meant in.
    pub timezone: String,
    /// Name of the topic.
    pub topic: String,
    /// What is published.
    pub message: ScheduleMessage,
}

/// What a schedule publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleMessage {
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The tag.
    pub tag: Option<String>,
    /// Keys for look-ups.
    pub keys: Vec<String>,
    /// The ordering key.
    pub ordering_key: Option<String>,
    /// An explicit queue.
    pub queue: Option<u16>,
    /// Names and values in the order given.
    pub properties: Vec<(String, String)>,
    /// Time to live from the store time on; 0 is none.
    pub ttl_ms: u64,
    /// 0 to 9.
    pub priority: u8,
    /// The payload.
    pub body: Vec<u8>,
}

/// Head of a `schedule-ran` record: compare-and-set on when the schedule was due. With messages behind it in its unit
/// these are the run; alone the run came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRan {
    /// The schedule.
    pub schedule: u32,
    /// When it was due, ms.
    pub due: u64,
    /// When it is due next, ms; `None` is never.
    pub next: Option<u64>,
}
