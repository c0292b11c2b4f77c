//! Bindings: a plugin version with config, mode and failure policy, attached to a topic or group.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::plugin::Kind;
use crate::{Decimal, Time, number, object};

/// What a binding's plugin does with traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Decides.
    #[default]
    Active,
    /// Runs beside the active one; differences are counted.
    Shadow,
    /// Decides for a part.
    Canary,
    /// Does nothing.
    Off,
}

/// What happens to a message that the plugin could not judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Selector: by hash.
    Hash,
    /// Selector, dedup, admit: refuse the publish.
    Refuse,
    /// Filter: deliver.
    Deliver,
    /// Filter: skip.
    Skip,
    /// Filter: stop until it behaves.
    Pause,
    /// Dedup: keep.
    Keep,
    /// Retry: the default table.
    Default,
    /// Retry: to the dead-letter queue.
    DeadLetter,
    /// Check-back: no verdict.
    Unknown,
    /// Admit: accept.
    Accept,
    /// Assign: evenly.
    Average,
}

/// Limits of one call; null is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Fuel before the messages.
    #[serde(default, deserialize_with = "number::optional")]
    pub fuel: Option<u64>,
    /// Linear memory.
    #[serde(default, deserialize_with = "number::optional")]
    pub memory_bytes: Option<u32>,
    /// Wall-clock time.
    #[serde(default, deserialize_with = "number::optional")]
    pub wall_ms: Option<u32>,
}

/// Body of a binding's PUT.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BindingInput {
    /// Equal to the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Kind of plugin.
    pub slot: Kind,
    /// Topic, where the slot names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Group, where the slot names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Plugin, `builtin/…` for a built-in.
    pub plugin: String,
    /// Version.
    pub version: String,
    /// Handed to the plugin's `init`; `{}` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    pub config: Option<Box<RawValue>>,
    /// Selector: also place messages with an ordering key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyed: Option<bool>,
    /// What it does with traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Canary: which part.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// What happens to a message that could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// Limits of one call.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// A binding.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Binding {
    /// Name, `{group}:{topic}` for a filter written in a group.
    pub name: String,
    /// Kind of plugin.
    pub slot: Kind,
    /// Topic it names.
    pub topic: Option<String>,
    /// Group it names.
    pub group: Option<String>,
    /// Plugin, `builtin/…` for a built-in.
    pub plugin: String,
    /// Version.
    pub version: String,
    /// Handed to the plugin's `init`.
    #[schema(value_type = serde_json::Value)]
    pub config: Box<RawValue>,
    /// Selector: also places messages with an ordering key.
    pub keyed: bool,
    /// What it does with traffic.
    pub mode: Mode,
    /// Canary: which part.
    pub percent: Option<u8>,
    /// What happens to a message that could not be judged.
    pub on_failure: OnFailure,
    /// Limits of one call.
    pub limits: Limits,
}

/// What a binding's plugin did since this node bound it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BindingStats {
    /// Calls.
    pub calls: Decimal,
    /// Messages judged.
    pub messages: Decimal,
    /// Failures by class.
    pub failures: Failures,
    /// Whether calls are refused for now.
    pub breaker: Breaker,
    /// Fuel burned.
    pub fuel: Decimal,
    /// Time in the sandbox a message.
    pub ns_per_message: u64,
}

/// Failures by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Failures {
    /// It trapped.
    pub trap: Decimal,
    /// It used up its fuel.
    pub fuel: Decimal,
    /// It ran past its time.
    pub timeout: Decimal,
    /// It asked for too much memory.
    pub memory: Decimal,
    /// Its answer has the wrong shape.
    pub output: Decimal,
    /// Judged again, it said something else.
    pub impure: Decimal,
    /// Its hint would have skipped what it accepts.
    pub bad_hint: Decimal,
}

/// Whether calls are refused for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// They are.
    Open,
    /// They are not.
    Closed,
}

/// A line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When, on this node's clock.
    pub at: Time,
    /// How loud.
    pub level: LogLevel,
    /// The text.
    pub text: String,
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the usual levels")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}
