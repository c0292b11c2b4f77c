//! Messages that wait for their time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Time, number};

/// Body of a PATCH of a scheduled message: exactly one field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledInput {
    /// So much later from now; 0 is at once.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Later from now, by level 1 to 18.
    #[serde(default, deserialize_with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub delay_level: Option<u8>,
    /// At a time; in the past is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Time>,
}
