//! Dead letters.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::group::Filter;
use crate::message::Message;
use crate::{Decimal, Time, object};

/// How an attempt ended badly, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Which, from 1; counted anew after a redrive.
    pub attempt: u16,
    /// When it was delivered; null if the leader that did is gone.
    pub delivered_at: Option<Time>,
    /// When it ended.
    pub ended_at: Time,
    /// `nack`, `expired` or `dead-letter`.
    pub outcome: String,
    /// The consumer's words.
    pub reason: Option<String>,
    /// Who had it.
    pub client_id: Option<String>,
    /// `again`, `dead-letter` or `drop`.
    pub decision: String,
    /// When again.
    pub delay_ms: Option<u64>,
    /// `consumer`, `default`, `policy`, `on-failure` or `ttl`.
    pub decided_by: String,
    /// The retry policy that was asked.
    pub binding: Option<String>,
    /// The group's generation when it was.
    pub generation: Option<u32>,
}

/// Where a dead letter comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Origin {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: u16,
    /// Offset.
    pub offset: Decimal,
}

/// A message that its group gave up. `M` is the message's form.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter<M = Message> {
    /// The message's id.
    pub id: String,
    /// The message.
    #[schema(value_type = Message)]
    pub message: M,
    /// `attempts-exhausted`, or the words of who gave it up.
    pub reason: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Its deliveries since it was last redriven.
    pub attempts: u16,
    /// When it was given up.
    pub dead_at: Time,
    /// When it is forgotten.
    pub expires_at: Time,
    /// How its attempts ended, the newest last.
    pub history: Vec<Attempt>,
}

/// Where dead letters go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedriveTo {
    /// To the group, as the same message.
    #[default]
    Group,
    /// To the topic, as a new message.
    Topic,
}

/// Body of a redrive.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveInput {
    /// These; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Of those, the ones that pass.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Where they go; `group` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<RedriveTo>,
    /// How many a second. Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedriveStatus {
    /// It left.
    Redriven,
    /// It had left before.
    AlreadyRedriven,
    /// There is no such dead letter.
    NotFound,
    /// The group no longer has its topic.
    NotSubscribed,
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedriveResult {
    /// The message's id, as given.
    pub id: String,
    /// What became of it.
    pub status: RedriveStatus,
}

/// Answer of a redrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// How many left.
    pub redriven: u64,
    /// Each of them.
    pub results: Vec<RedriveResult>,
    /// All were asked for and there are more than one call takes: call again.
    pub more: bool,
    /// Nothing was changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
