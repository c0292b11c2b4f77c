//! Who calls, and until when.

mod wire;

use std::sync::Arc;
use std::time::Instant;

use pointsman_model::{Scope, TenantId, Timestamp};
use pointsman_state_machine::command::Author;

pub use wire::WirePrincipal;

/// Who is behind a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal {
    /// A local caller without a token, while no operator token exists. May do everything.
    Operator,
    /// The broker itself. May do everything.
    Node,
    /// The bearer of a token.
    Token(Bearer),
}

/// A token that was found good when its call came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Id of the token.
    pub id: Arc<str>,
    /// Its tenant; `None` for the token of an operator token file, which belongs to none.
    pub tenant: Option<(TenantId, Arc<str>)>,
    /// What it may do.
    pub scopes: Arc<[Scope]>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

/// What every use case is told about its caller.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub principal: Principal,
    /// Nothing is proposed after this moment.
    pub deadline: Instant,
    /// Shown in logs and answers.
    pub request_id: String,
}

/// The present moment as deadlines know it: tokio's, so that a simulation may let hours pass at once.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Principal {
    /// True if it may do everything, in all tenants.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        match self {
            Self::Operator | Self::Node => true,
            Self::Token(bearer) => bearer.scopes.contains(&Scope::Operator),
        }
    }

    /// True if it holds a scope for which `allows` says yes. An operator holds all.
    pub(crate) fn holds(&self, allows: impl Fn(&Scope) -> bool) -> bool {
        match self {
            Self::Operator | Self::Node => true,
            Self::Token(bearer) => bearer.scopes.iter().any(|scope| *scope == Scope::Operator || allows(scope)),
        }
    }

    /// How the audit names it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Operator => "operator",
            Self::Node => "node",
            Self::Token(bearer) => &bearer.id,
        }
    }
}

impl Call {
    /// Who is written into the audit.
    pub(crate) fn author(&self) -> Author {
        Author { by: self.principal.name().to_owned(), request_id: self.request_id.clone() }
    }
}
