//! Consumer groups.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{number, object};

/// Which messages a group sees of a topic. Exactly one of `tags`, `sql` and `plugin`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Tags, `a || b`, or `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// An SQL92 condition on properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// A filter plugin, `builtin/…` for a built-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The plugin's version; the newest at PUT time if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The plugin's config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    pub config: Option<Box<RawValue>>,
}

/// A topic of a group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupTopic {
    /// Name of the topic.
    pub topic: String,
    /// Which of its messages; all if null.
    #[serde(default, deserialize_with = "object::optional")]
    pub filter: Option<Filter>,
}

/// How much order a group keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ordering {
    /// Any order.
    #[default]
    None,
    /// One message of an ordering key at a time.
    Key,
    /// One run of a queue at a time.
    Queue,
}

/// Body of a group's PUT.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupInput {
    /// Equal to the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The topics, at least one.
    #[serde(deserialize_with = "object::list")]
    pub topics: Vec<GroupTopic>,
    /// How much order is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordering: Option<Ordering>,
    /// Where a topic that is new to the group starts: `latest`, `earliest` or a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Default lease time.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Deliveries are 1 + this.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u16>,
    /// Most leases at once.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub max_inflight: Option<u32>,
    /// How long dead letters are kept.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub dlq_retention_ms: Option<u64>,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Name.
    pub name: String,
    /// The topics.
    pub topics: Vec<GroupTopic>,
    /// How much order is kept.
    pub ordering: Ordering,
    /// Where a topic that is new to the group starts: `latest`, `earliest` or a time.
    pub start: String,
    /// Default lease time.
    pub lease_ms: u64,
    /// Deliveries are 1 + this.
    pub max_retries: u16,
    /// Most leases at once.
    pub max_inflight: u32,
    /// How long dead letters are kept.
    pub dlq_retention_ms: u64,
}
