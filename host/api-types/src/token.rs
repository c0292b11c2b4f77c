//! Tokens, who calls, tickets, and the audit.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// Body of a token's POST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenInput {
    /// `publish:<glob>`, `consume:<glob>`, `admin:<glob>`, `admin:tokens`, `plugin:write`, `operator`.
    pub scopes: Vec<String>,
    /// When it expires; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// A token just made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Its id, which is no secret.
    pub id: String,
    /// What its bearer presents. Shown here and never again.
    pub token: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it expires.
    pub expires_at: Option<Time>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was created.
    pub created_at: Time,
    /// When it expires.
    pub expires_at: Option<Time>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The token's tenant; null for a local caller without a token and for the token of an operator token file.
    pub tenant: Option<String>,
    /// Id of the token; null for a local caller without one.
    pub token: Option<String>,
    /// What the caller may do.
    pub scopes: Vec<String>,
}

/// Body of a stream ticket's POST.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketInput {
    /// Path of a stream of the tenant, without its query.
    pub path: String,
}

/// A stream ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// What `?ticket=` takes, once.
    pub ticket: String,
    /// When it expires.
    pub expires_at: Time,
}

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    pub at: Time,
    /// Name of the tenant; it may be gone by now.
    pub tenant: String,
    /// Id of the token, `operator` for a local caller without one, `node` for the broker itself.
    pub by: String,
    /// `create`, `replace`, `delete` or `revoke`.
    pub action: String,
    /// A path below the tenant, or `tenant`.
    pub target: String,
    /// The request.
    pub request_id: String,
}
