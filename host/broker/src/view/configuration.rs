//! Configuration as callers give it and see it.

use bytes::Bytes;
use pointsman_model::{QueueId, Timestamp};
use pointsman_state_machine::command::Expect;

use super::FilterSpec;

/// A group to create or replace; defaults are filled in by the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    /// Topics and filters.
    pub topics: Vec<(String, Option<FilterSpec>)>,
    /// Where a new topic starts.
    pub start: pointsman_state_machine::command::Start,
    /// Default lease time.
    pub lease_ms: u64,
    /// Deliveries are 1 + this.
    pub max_retries: u16,
    /// Most leases at once.
    pub max_inflight: u32,
    /// How long dead letters are kept.
    pub dlq_retention_ms: u64,
    /// What keeps its order.
    pub ordering: pointsman_state_machine::command::Ordering,
}

/// A schedule to create or replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// IANA name of the time zone that they are meant in.
    pub timezone: String,
    /// Topic.
    pub topic: String,
    /// What is published, without a delay and without an idempotency key.
    pub message: pointsman_model::message::NewMessage,
}

/// A binding to create or replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingSettings {
    /// Kind of plugin.
    pub slot: pointsman_state_machine::command::Slot,
    /// Topic, where the slot names one.
    pub topic: Option<String>,
    /// Group, where the slot names one.
    pub group: Option<String>,
    /// Plugin, `builtin/…` for a built-in.
    pub plugin: String,
    /// Version.
    pub version: String,
    /// JSON text, `{}` if absent.
    pub config: Bytes,
    /// Selector: place messages with an ordering key too.
    pub keyed: bool,
    /// The kind's default if absent.
    pub on_failure: Option<pointsman_state_machine::command::FailurePolicy>,
    /// Fuel of a call.
    pub fuel: Option<u64>,
    /// Linear memory.
    pub memory_bytes: Option<u32>,
    /// Wall-clock time of a call.
    pub wall_ms: Option<u32>,
}

/// A version of a plugin, uploaded or built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginVersionView {
    /// Name, `builtin/…` for a built-in.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// sha256.
    pub digest: [u8; 32],
    /// Kind.
    pub kind: pointsman_model::judge::Kind,
    /// Imports by name.
    pub imports: Vec<String>,
    /// Bytes of the component.
    pub size_bytes: u64,
    /// How long its compilation took.
    pub compile_ms: u32,
    /// What the inspection remarked.
    pub warnings: Vec<String>,
    /// When it was uploaded; `None` for a built-in.
    pub created_at: Option<Timestamp>,
}

/// One queue of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Queue.
    pub queue: QueueId,
    /// First offset kept.
    pub earliest: u64,
    /// Offset of the next message.
    pub latest: u64,
}

/// A precondition, as HTTP states it. Revisions are the objects' own.
pub type Precondition = Expect;
