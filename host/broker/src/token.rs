//! Tokens: who a bearer is, and how tokens are made, listed and revoked. They live in the metadata shard.
//!
//! A bearer token is `pm_<id>_<secret>`. The secret is 256 random bits, shown once; stored is its sha256, which is enough
//! for a secret that cannot be guessed. An operator token file holds one more token, known to this node alone.

use std::sync::Arc;

use pointsman_model::{Scope, TenantId, Timestamp, limits};
use pointsman_state_machine::command::{Expect, Object, Target};
use pointsman_state_machine::state::{State, Token};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::access::Action;
use crate::call::Bearer;
use crate::configure::{NO_TENANT, after};
use crate::view::{NewToken, Page, PageRequest, Precondition};
use crate::{Broker, Call, Error, Principal};

/// What every token starts with.
const PREFIX: &str = "pm_";
/// How the audit names the token of an operator token file that has no id of its own.
const FILE_TOKEN_ID: &str = "operator-file";

/// The token of an operator token file.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorToken {
    id: Arc<str>,
    hash: [u8; 32],
}

impl std::fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl OperatorToken {
    /// Reads the content of a file: one token of visible ASCII, of our form or any other, with blanks around it.
    ///
    /// # Errors
    /// In words: what is wrong with it.
    pub fn parse(content: &str) -> Result<Self, String> {
        let token = content.trim();
        let long_enough = (limits::OPERATOR_TOKEN_CHARS_MIN..=limits::TOKEN_BYTES_MAX).contains(&token.len());
        if !long_enough || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let (min, max) = (limits::OPERATOR_TOKEN_CHARS_MIN, limits::TOKEN_BYTES_MAX);
            return Err(format!("it must hold one token of {min} to {max} visible ASCII characters"));
        }
        let id = parts(token).map_or(FILE_TOKEN_ID, |(id, _)| id);
        Ok(Self { id: id.into(), hash: Sha256::digest(token).into() })
    }

    fn bearer(&self) -> Bearer {
        Bearer { id: Arc::clone(&self.id), tenant: None, scopes: [Scope::Operator].into(), expires_at: None }
    }
}

impl Broker {
    /// True if calls need a token.
    #[must_use]
    pub fn needs_token(&self) -> bool {
        self.inner.operator_token.is_some() || self.inner.metadata.port.state().has_operator_token()
    }

    /// Who presents these credentials: the text behind `Bearer`, or none.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], [`Error::TokenExpired`], [`Error::TokenRevoked`].
    pub fn authenticate(&self, bearer: Option<&str>) -> Result<Principal, Error> {
        let Some(bearer) = bearer else {
            return if self.needs_token() {
                Err(unauthenticated("a token is needed"))
            } else {
                Ok(Principal::Operator)
            };
        };
        if bearer.len() > limits::TOKEN_BYTES_MAX {
            return Err(unauthenticated("the token is not known"));
        }
        if let Some(operator) = &self.inner.operator_token
            && same(&operator.hash, bearer)
        {
            return Ok(Principal::Token(operator.bearer()));
        }
        let Some((id, secret)) = parts(bearer) else {
            let is_jwt = bearer.split('.').count() == 3;
            return Err(unauthenticated(if is_jwt { "JWT: not supported yet" } else { "the token is not known" }));
        };
        let state = self.inner.metadata.port.state();
        let token = state.tokens.get(id).filter(|token| same(&token.hash, secret));
        let token = token.ok_or_else(|| unauthenticated("the token is not known"))?;
        self.check_token(token)?;
        Ok(Principal::Token(Bearer {
            id: Arc::clone(&token.id),
            tenant: Some((token.tenant, token.tenant_name.as_str().into())),
            scopes: Arc::clone(&token.scopes),
            expires_at: token.expires_at,
        }))
    }

    /// Whether a caller that was let in once still is: its token may have been revoked, or have expired. What lasts
    /// (a stream) asks now and then.
    ///
    /// # Errors
    /// [`Error::TokenExpired`], [`Error::TokenRevoked`]; [`Error::Unauthenticated`] for a local caller without a token
    /// since there is an operator token.
    pub fn check_principal(&self, principal: &Principal) -> Result<(), Error> {
        match principal {
            Principal::Node => Ok(()),
            Principal::Operator if self.needs_token() => Err(unauthenticated("a token is needed now")),
            Principal::Operator | Principal::Token(Bearer { tenant: None, .. }) => Ok(()),
            Principal::Token(bearer) => {
                let state = self.inner.metadata.port.state();
                // Forgotten since, hence revoked.
                self.check_token(state.tokens.get(&*bearer.id).ok_or(Error::TokenRevoked)?)
            }
        }
    }

    fn check_token(&self, token: &Token) -> Result<(), Error> {
        if token.revoked_at.is_some() {
            return Err(Error::TokenRevoked);
        }
        match token.expires_at {
            Some(at) if at <= self.inner.metadata.port.now() => Err(Error::TokenExpired),
            _ => Ok(()),
        }
    }

    /// Makes a token of a tenant. The answer is the only place that ever holds its secret.
    ///
    /// # Errors
    /// A scope that is none or that the caller does not hold, a time that is over, too many tokens.
    pub async fn create_token(
        &self,
        call: &Call,
        tenant: &str,
        scopes: &[String],
        expires_at: Option<Timestamp>,
    ) -> Result<NewToken, Error> {
        self.authorize(call, tenant, Action::AdminTokens)?;
        check_scopes(&call.principal, scopes)?;
        let metadata = &self.inner.metadata;
        if expires_at.is_some_and(|at| at <= metadata.port.now()) {
            return Err(Error::invalid("/expires_at", "it is over"));
        }
        let (id, secret) = (hex(&rand::random::<[u8; 8]>()), hex(&rand::random::<[u8; 32]>()));
        let object = Object::Token {
            id: id.clone(),
            tenant: tenant.into(),
            hash: Sha256::digest(&secret).into(),
            scopes: scopes.to_vec(),
            expires_at: expires_at.map(|at| at.0),
        };
        self.put(call, metadata, NO_TENANT, Expect::Absent, object).await?;
        let token = metadata.port.state().tokens.get(&id).cloned().ok_or(Error::TokenNotFound)?;
        Ok(NewToken { bearer: format!("{PREFIX}{id}_{secret}"), token })
    }

    /// A token of a tenant, without its secret.
    ///
    /// # Errors
    /// [`Error::TokenNotFound`].
    pub async fn get_token(&self, call: &Call, tenant: &str, id: &str) -> Result<Token, Error> {
        let home = self.authorize(call, tenant, Action::AdminTokens)?;
        let state = self.inner.metadata.port.state();
        let found = state.tokens.get(id).filter(|token| token.tenant == home.tenant && token.revoked_at.is_none());
        found.cloned().ok_or(Error::TokenNotFound)
    }

    /// The tokens of a tenant by id, the expired ones among them, the revoked ones not.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_tokens(&self, call: &Call, tenant: &str, page: &PageRequest) -> Result<Page<Token>, Error> {
        let home = self.authorize(call, tenant, Action::AdminTokens)?;
        self.inner.metadata.port.leadership().ok_or(Error::NoLeader)?;
        self.page(&format!("{}/tokens", home.tenant), page, |last, n| {
            let state = self.inner.metadata.port.state();
            after(live(&state, home.tenant), last, n)
        })
    }

    /// Revokes a token: from now on its calls are refused, and its streams end.
    ///
    /// # Errors
    /// [`Error::TokenNotFound`], a failed precondition, a failed write.
    pub async fn revoke_token(&self, call: &Call, tenant: &str, id: &str, expect: Precondition) -> Result<(), Error> {
        self.authorize(call, tenant, Action::AdminTokens)?;
        let target = Target::Token(tenant.into(), id.into());
        self.delete_in(call, &self.inner.metadata, NO_TENANT, expect, target).await
    }
}

/// Id and secret of a bearer token.
fn parts(bearer: &str) -> Option<(&str, &str)> {
    let (id, secret) = bearer.strip_prefix(PREFIX)?.split_once('_')?;
    (!id.is_empty() && !secret.is_empty()).then_some((id, secret))
}

/// True if a text has the form of our tokens.
pub(crate) fn is_ours(bearer: &str) -> bool {
    bearer.len() <= limits::TOKEN_BYTES_MAX && parts(bearer).is_some()
}

/// Compares in constant time; the hash is no secret's.
fn same(hash: &[u8; 32], secret: &str) -> bool {
    Sha256::digest(secret).ct_eq(&hash[..]).into()
}

fn unauthenticated(detail: &str) -> Error {
    Error::Unauthenticated(detail.into())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Text never fails to be written.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A caller gives away only what it holds.
fn check_scopes(principal: &Principal, scopes: &[String]) -> Result<(), Error> {
    if scopes.is_empty() || scopes.len() > limits::TOKEN_SCOPES_MAX {
        return Err(Error::invalid("/scopes", format!("1 to {} scopes", limits::TOKEN_SCOPES_MAX)));
    }
    for (i, text) in scopes.iter().enumerate() {
        let pointer = || format!("/scopes/{i}");
        let scope = Scope::parse(text).map_err(|error| Error::invalid(pointer(), error.to_string()))?;
        if !principal.holds(|held| held.covers(&scope)) {
            return Err(Error::Forbidden(format!(
                "the token does not hold the scope `{scope}` and cannot give it away"
            )));
        }
    }
    Ok(())
}

fn live(state: &State, tenant: TenantId) -> impl Iterator<Item = (&str, Token)> {
    let of_tenant = state.tokens.iter().filter(move |(_, token)| token.tenant == tenant);
    of_tenant.filter(|(_, token)| token.revoked_at.is_none()).map(|(id, token)| (id.as_str(), token.clone()))
}

#[cfg(test)]
mod tests;
