//! What a node says about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Release.
    pub version: String,
    /// Commit it was built from.
    pub commit: String,
    /// Newest feature level it knows.
    pub feature_level: u32,
}

/// `GET /health/live` and `/health/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok` or `unavailable`.
    pub status: HealthStatus,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// The one word of a health answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// All checks pass.
    Ok,
    /// At least one does not.
    Unavailable,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// It passes.
    pub ok: bool,
    /// Why not; null if it passes.
    pub detail: Option<String>,
}
