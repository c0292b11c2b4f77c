//! A caller as one node names it to another. What is read is bounded; that it is true is taken from the node that says so.

use pointsman_model::{Scope, TenantId, Timestamp, limits};
use serde::{Deserialize, Serialize};

use super::{Bearer, Principal};

/// A client's principal on its way between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePrincipal(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Operator,
    Token { id: String, tenant: Option<(u32, String)>, scopes: Vec<String>, expires_at: Option<u64> },
}

impl WirePrincipal {
    /// How it is named; `None` for the broker itself, which is nobody's caller.
    #[must_use]
    pub fn of(principal: &Principal) -> Option<Self> {
        match principal {
            Principal::Operator => Some(Self(Kind::Operator)),
            Principal::Token(bearer) => Some(Self(Kind::Token {
                id: bearer.id.to_string(),
                tenant: bearer.tenant.as_ref().map(|(id, name)| (id.0, name.to_string())),
                scopes: bearer.scopes.iter().map(Scope::to_string).collect(),
                expires_at: bearer.expires_at.map(|at| at.0),
            })),
            Principal::Node => None,
        }
    }

    /// Who it is; `None` if it is nobody that could be.
    #[must_use]
    pub fn read(self) -> Option<Principal> {
        let (id, tenant, scopes, expires_at) = match self.0 {
            Kind::Operator => return Some(Principal::Operator),
            Kind::Token { id, tenant, scopes, expires_at } => (id, tenant, scopes, expires_at),
        };
        let known = (1..=limits::TOKEN_BYTES_MAX).contains(&id.len()) && scopes.len() <= limits::TOKEN_SCOPES_MAX;
        let named = tenant.as_ref().is_none_or(|(_, name)| (1..=limits::NAME_BYTES_MAX).contains(&name.len()));
        if !known || !named {
            return None;
        }
        let scopes: Option<Vec<_>> = scopes.iter().map(|scope| Scope::parse(scope).ok()).collect();
        Some(Principal::Token(Bearer {
            id: id.into(),
            tenant: tenant.map(|(id, name)| (TenantId(id), name.into())),
            scopes: scopes?.into(),
            expires_at: expires_at.map(Timestamp),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(id: &str, tenant: &str, scopes: &[&str]) -> WirePrincipal {
        WirePrincipal(Kind::Token {
            id: id.into(),
            tenant: Some((7, tenant.into())),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            expires_at: Some(9),
        })
    }

    #[test]
    fn callers_come_back_as_they_went() {
        let wire = bearer("0123", "acme", &["operator", "publish:a*"]);
        let principal = wire.clone().read().expect("a caller");
        assert_eq!(WirePrincipal::of(&principal), Some(wire));
        let operator = WirePrincipal::of(&Principal::Operator).expect("a client");
        assert_eq!(operator.read(), Some(Principal::Operator));
        assert_eq!(WirePrincipal::of(&Principal::Node), None);
    }

    #[test]
    fn nobody_is_read_from_what_no_token_is() {
        let long = "x".repeat(limits::TOKEN_BYTES_MAX + 1);
        let many = vec!["operator"; limits::TOKEN_SCOPES_MAX + 1];
        for wire in [
            bearer("", "a", &[]),
            bearer(&long, "a", &[]),
            bearer("x", "", &[]),
            bearer("x", &"a".repeat(limits::NAME_BYTES_MAX + 1), &[]),
            bearer("x", "a", &["nonsense"]),
            bearer("x", "a", &many),
        ] {
            assert_eq!(wire.clone().read(), None, "{wire:?}");
        }
    }
}
