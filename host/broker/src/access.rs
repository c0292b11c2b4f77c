//! Who may do what: the one place that says so.
//!
//! The edge asks before it reads the query and the body ([`Broker::check_access`]); every use case asks again
//! ([`Broker::authorize`]), for what is known only then (the topic of a message), and because a token may be revoked
//! meanwhile. The order is the contract's: token, tenant, scope.

use pointsman_model::Scope;

use crate::batcher::past_deadline;
use crate::broker::Home;
use crate::{Broker, Call, Error, Principal};

/// What a call does, and to what: each names the scope that it takes.
///
/// **Every use case starts with `self.authorize(call, tenant, Action::…)?`**, which checks the deadline, the token, the
/// tenant and the scope, and answers the tenant's home. A use case without a tenant starts with [`Broker::authorize_node`].
/// A route's row in `host/api/src/access.rs` says the same for the edge; a test walks all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Read configuration, positions, counters: any token of the tenant.
    Read,
    /// `publish:<glob>` on a topic: publish, transactions, schedules, delays.
    Publish(&'a str),
    /// `publish:<glob>` on some topic, where it is not known which yet.
    PublishSome,
    /// `consume:<glob>` on a group (leases, settle, DLQ) or on a topic (streams, messages).
    Consume(&'a str),
    /// `consume:<glob>` on some topic or group, where it is not known which yet.
    ConsumeSome,
    /// `admin:<glob>` on a topic, group or binding: write configuration, seek, purge, pause.
    Admin(&'a str),
    /// `admin:tokens`.
    AdminTokens,
    /// `plugin:write`.
    PluginWrite,
    /// `operator`.
    Operator,
    /// `operator`, and the tenant need not exist.
    CreateTenant,
}

impl Action<'_> {
    fn is_allowed(self, principal: &Principal) -> bool {
        principal.holds(|scope| match (self, scope) {
            (Self::Read, _) => true,
            (Self::Publish(name), Scope::Publish(glob))
            | (Self::Consume(name), Scope::Consume(glob))
            | (Self::Admin(name), Scope::Admin(glob)) => glob.matches(name),
            (Self::PublishSome, Scope::Publish(_)) | (Self::ConsumeSome, Scope::Consume(_)) => true,
            (Self::AdminTokens, held) => held.covers(&Scope::AdminTokens),
            (Self::PluginWrite, Scope::PluginWrite) => true,
            _ => false,
        })
    }

    /// The scope that was missing, for the refusal.
    fn scope(self) -> String {
        match self {
            Self::Read => "any".into(),
            Self::Publish(name) => format!("publish:{name}"),
            Self::PublishSome => "publish:…".into(),
            Self::Consume(name) => format!("consume:{name}"),
            Self::ConsumeSome => "consume:…".into(),
            Self::Admin(name) => format!("admin:{name}"),
            Self::AdminTokens => "admin:tokens".into(),
            Self::PluginWrite => "plugin:write".into(),
            Self::Operator | Self::CreateTenant => "operator".into(),
        }
    }
}

impl Broker {
    /// Whether the caller may create a tenant of that name.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub(crate) fn authorize_tenant(&self, call: &Call, tenant: &str) -> Result<(), Error> {
        check_visible(&call.principal, tenant)?;
        self.authorize_node(call, Action::CreateTenant)
    }

    /// Whether the caller may do that in the tenant; the tenant's home. First line of every use case.
    ///
    /// # Errors
    /// The call came too late, the token is not good any more, the tenant is unknown to the caller, the scope is missing.
    pub(crate) fn authorize(&self, call: &Call, tenant: &str, action: Action<'_>) -> Result<Home, Error> {
        self.check_call(call)?;
        self.check_principal(&call.principal)?;
        let home = self.visible_home(&call.principal, tenant)?;
        if action.is_allowed(&call.principal) { Ok(home) } else { Err(forbidden(action)) }
    }

    /// The same for what belongs to no tenant.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub(crate) fn authorize_node(&self, call: &Call, action: Action<'_>) -> Result<(), Error> {
        self.check_call(call)?;
        self.check_principal(&call.principal)?;
        if action.is_allowed(&call.principal) { Ok(()) } else { Err(forbidden(action)) }
    }

    /// What the edge asks before it looks at query and body. `tenant` is `None` where the path has none.
    ///
    /// # Errors
    /// As the use case will.
    pub fn check_access(&self, principal: &Principal, tenant: Option<&str>, action: Action<'_>) -> Result<(), Error> {
        match tenant {
            Some(tenant) if action == Action::CreateTenant => check_visible(principal, tenant)?,
            Some(tenant) => drop(self.visible_home(principal, tenant)?),
            None => {}
        }
        if action.is_allowed(principal) { Ok(()) } else { Err(forbidden(action)) }
    }

    /// Refuses what comes after the shutdown began or after its own deadline.
    pub(crate) fn check_call(&self, call: &Call) -> Result<(), Error> {
        if self.inner.stop.is_cancelled() {
            return Err(Error::Draining);
        }
        if call.deadline <= crate::call::now() {
            return Err(past_deadline());
        }
        Ok(())
    }

    fn visible_home(&self, principal: &Principal, tenant: &str) -> Result<Home, Error> {
        check_visible(principal, tenant)?;
        self.home(tenant)
    }
}

/// Another's tenant answers as one that is not there.
pub(crate) fn check_visible(principal: &Principal, tenant: &str) -> Result<(), Error> {
    match principal {
        Principal::Token(bearer) if !principal.is_operator() => {
            let own = bearer.tenant.as_ref().is_some_and(|(_, own)| **own == *tenant);
            if own { Ok(()) } else { Err(Error::TenantNotFound) }
        }
        _ => Ok(()),
    }
}

fn forbidden(action: Action<'_>) -> Error {
    Error::Forbidden(format!("the token lacks the scope `{}`", action.scope()))
}
