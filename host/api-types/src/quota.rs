//! What a tenant may use, and what it uses: the same names in both.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Decimal, number};

/// What a tenant may use. Null or absent is no bound; `connections` is 100 then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Messages published a second.
    #[serde(default, deserialize_with = "number::optional")]
    pub messages_per_s: Option<u64>,
    /// Bytes of payload published a second.
    #[serde(default, deserialize_with = "number::optional")]
    pub bytes_per_s: Option<u64>,
    /// Bytes that stored messages take.
    #[serde(default)]
    pub storage_bytes: Option<Decimal>,
    /// Topics.
    #[serde(default, deserialize_with = "number::optional")]
    pub topics: Option<u32>,
    /// Groups.
    #[serde(default, deserialize_with = "number::optional")]
    pub groups: Option<u32>,
    /// Uploaded plugin versions.
    #[serde(default, deserialize_with = "number::optional")]
    pub plugins: Option<u32>,
    /// Open streams.
    #[serde(default, deserialize_with = "number::optional")]
    pub connections: Option<u32>,
    /// Fuel that plugins burn a second.
    #[serde(default, deserialize_with = "number::optional")]
    pub plugin_fuel_per_s: Option<u64>,
}

/// A number that is bounded by a limit, and what is used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Used {
    /// The bound; null is none.
    pub limit: Option<u64>,
    /// What is used.
    pub used: u64,
}

/// A total, as a decimal string, and its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsedTotal {
    /// The bound; null is none.
    pub limit: Option<Decimal>,
    /// What is used.
    pub used: Decimal,
}

/// What a tenant uses. Rates are those of the last second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Messages stored since the tenant was created.
    pub messages: UsedTotal,
    /// Bytes of their records.
    pub bytes: UsedTotal,
    /// Messages published a second.
    pub messages_per_s: Used,
    /// Bytes of payload published a second.
    pub bytes_per_s: Used,
    /// Bytes that stored messages take.
    pub storage_bytes: UsedTotal,
    /// Topics.
    pub topics: Used,
    /// Groups.
    pub groups: Used,
    /// Uploaded plugin versions.
    pub plugins: Used,
    /// Open streams.
    pub connections: Used,
    /// Fuel that plugins burn a second.
    pub plugin_fuel_per_s: Used,
    /// Memory that the tenant's bindings may take.
    pub plugin_memory_bytes: Used,
}
