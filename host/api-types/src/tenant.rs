//! Tenants, and what dry runs answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Decimal, Time};

/// Body of a tenant's PUT: nothing to say, but what a GET gave is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantInput {
    /// Equal to the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Equal to what the server set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Name.
    pub name: String,
    /// When it was created.
    pub created_at: Time,
}

/// Answer of a `?dry_run=true` DELETE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryDelete {
    /// Always true.
    pub dry_run: bool,
    /// Always `delete`.
    pub would: String,
    /// Messages that would go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Decimal>,
    /// Group: bindings that would go along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<u32>,
}
