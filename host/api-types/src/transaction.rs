//! Transactions: several messages that become visible together, or never.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::message::Message;
use crate::publish::MessageInput;
use crate::{Decimal, Time, number, object};

/// `application/vnd.pointsman.transaction+json`.
pub const TRANSACTION_TYPE: &str = "application/vnd.pointsman.transaction+json";

/// Body of a prepare of several messages.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionInput<'a> {
    /// 1 to 1,000 messages, each of which may name a `topic`.
    #[serde(borrow, deserialize_with = "object::list")]
    pub messages: Vec<MessageInput<'a>>,
    /// When it is asked about.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckInput>,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = "default")]
    pub producer_group: Option<String>,
}

/// When a transaction without a verdict is asked about. Absent fields take their defaults, which `time_scale` multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckInput {
    /// From the prepare to the first check.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(default = 6000)]
    pub after_ms: Option<u64>,
    /// From a check to the next, and from the last to the end.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(default = 30000)]
    pub interval_ms: Option<u64>,
    /// How many checks.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(default = 15)]
    pub max: Option<u16>,
    /// Who is asked; a plugin where the topic has a check-back binding, else a producer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<CheckVia>,
}

/// Who is asked what became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckVia {
    /// The topic's check-back binding.
    Plugin,
    /// A producer of the group.
    Producer,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TransactionState {
    /// Nobody has ended it.
    Prepared,
    /// Its messages are visible.
    Committed,
    /// Its messages are gone.
    RolledBack,
    /// Nobody answered for it: its messages are discarded.
    Expired,
}

/// Answer of a prepare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prepared {
    /// Its id.
    pub transaction: String,
    /// What became of it: of a repeated prepare maybe more than `prepared`.
    pub state: TransactionState,
}

/// Answer of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolved {
    /// Its id.
    pub transaction: String,
    /// What became of it.
    pub state: TransactionState,
    /// Its messages; those that are not visible have no offset.
    pub messages: Vec<Part>,
}

/// A message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// The message's id, before and after the commit.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// Its queue.
    pub queue: u16,
    /// Its offset, once it is visible.
    pub offset: Option<Decimal>,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transaction {
    /// Its id.
    pub transaction: String,
    /// What became of it.
    pub state: TransactionState,
    /// The topic that it was prepared at.
    pub topic: String,
    /// Who answers for it.
    pub producer_group: String,
    /// The producer's name for it.
    pub idempotency_key: Option<String>,
    /// When it is asked about.
    pub check: Check,
    /// Checks so far.
    pub attempts: u16,
    /// When the next check is due; after the last one, when it expires.
    pub next_check_at: Option<Time>,
    /// When it was prepared.
    pub prepared_at: Time,
    /// When it was ended.
    pub resolved_at: Option<Time>,
    /// Who ended it: `producer`, `plugin`, `timetable` or `operator`.
    pub resolved_by: Option<String>,
    /// Its messages; those that are not visible have no offset. Null in a list.
    pub messages: Option<Vec<Part>>,
}

/// When a transaction without a verdict is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// From the prepare to the first check.
    pub after_ms: u64,
    /// From a check to the next, and from the last to the end.
    pub interval_ms: u64,
    /// How many checks.
    pub max: u16,
    /// Who is asked.
    pub via: CheckVia,
}

/// Body of a lease of checks; every field is optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChecksInput {
    /// Checks at most.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000, default = 32)]
    pub max_checks: Option<u32>,
    /// How long to wait for a first one.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 60000, default = 0)]
    pub wait_ms: Option<u64>,
}

/// Answer of a lease of checks.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Checks {
    /// The checks; may be empty.
    pub checks: Vec<CheckEvent>,
}

/// A question to a producer: what became of this? It answers by commit or rollback.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckEvent {
    /// The transaction.
    pub transaction: String,
    /// Which check, from 1.
    pub attempt: u16,
    /// Its messages, as far as they fit; `offset` and `stored_at` are null.
    pub messages: Vec<Message>,
    /// When it was prepared.
    pub prepared_at: Time,
}
