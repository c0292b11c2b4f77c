//! Tokens, in the metadata shard. A token never changes; revoked, it is remembered for a while so that its bearer hears why.

use pointsman_model::{Scope, TenantId, Timestamp, limits};

use super::{Entry, Stop, check_expect, name_of};
use crate::command::Expect;
use crate::outcome::{Outcome, Refusal};
use crate::state::Token;
use crate::table;

/// What a new token is, beside its name.
pub(super) struct Secret {
    pub(super) hash: [u8; 32],
    pub(super) scopes: Vec<String>,
    pub(super) expires_at: Option<u64>,
}

impl Entry<'_> {
    pub(super) fn put_token(
        &mut self,
        expect: &Expect,
        id: &str,
        tenant: &str,
        secret: Secret,
    ) -> Result<Outcome, Stop> {
        let tenant_name = name_of(tenant)?;
        let home = self.state.homes.get(&tenant_name).ok_or(Refusal::TenantNotFound)?;
        let tenant = home.id;
        check_expect(expect, self.state.tokens.get(id).map(|token| token.revision))?;
        if self.state.tokens.contains_key(id) {
            return Err(Refusal::AlreadyExists(id.into()).into());
        }
        let scopes: Option<Vec<_>> = secret.scopes.iter().map(|scope| Scope::parse(scope).ok()).collect();
        let scopes = scopes.filter(|scopes| scopes.len() <= limits::TOKEN_SCOPES_MAX);
        let scopes = scopes.ok_or_else(|| Refusal::Malformed("scopes of a token".into()))?;
        let is_id =
            !id.is_empty() && id.len() <= limits::NAME_BYTES_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_id {
            return Err(Refusal::Malformed("id of a token".into()).into());
        }
        let live = self.tokens_of(tenant).filter(|token| token.revoked_at.is_none()).count();
        if live >= limits::TOKENS_PER_TENANT_MAX {
            return Err(Refusal::QuotaExceeded("tokens", limits::TOKENS_PER_TENANT_MAX as u64).into());
        }
        let revision = self.next_revision();
        let token = Token {
            id: id.into(),
            tenant,
            tenant_name,
            hash: secret.hash,
            scopes: scopes.into(),
            created_at: self.now(),
            expires_at: secret.expires_at.map(Timestamp),
            revoked_at: None,
            revision,
        };
        self.state.operator_tokens += usize::from(token.is_operator());
        self.keep_token(token);
        // A token has no number; it is known by its id.
        Ok(Outcome::Configured { created: true, unchanged: false, revision, id: 0 })
    }

    pub(super) fn revoke_token(&mut self, expect: &Expect, tenant: &str, id: &str) -> Result<Outcome, Stop> {
        let held = self.state.tokens.get(id).filter(|token| token.tenant_name.as_str() == tenant);
        let mut token = held.filter(|token| token.revoked_at.is_none()).ok_or(Refusal::TokenNotFound)?.clone();
        check_expect(expect, Some(token.revision))?;
        self.forget_a_revoked(token.tenant);
        self.state.operator_tokens -= usize::from(token.is_operator());
        token.revoked_at = Some(self.now());
        token.revision = self.next_revision();
        self.keep_token(token);
        Ok(Outcome::Deleted)
    }

    /// Makes room for one more revoked token: the one revoked first goes.
    fn forget_a_revoked(&mut self, tenant: TenantId) {
        let revoked = self.tokens_of(tenant).filter_map(|token| Some((token.revoked_at?, token.id.to_string())));
        let revoked: Vec<_> = revoked.collect();
        if revoked.len() >= limits::TOKENS_REVOKED_KEPT
            && let Some((_, id)) = revoked.into_iter().min()
        {
            self.changes.delete(table::token_key(&id));
            self.state.tokens.remove(&id);
        }
    }

    fn tokens_of(&self, tenant: TenantId) -> impl Iterator<Item = &Token> {
        self.state.tokens.values().filter(move |token| token.tenant == tenant)
    }

    fn keep_token(&mut self, token: Token) {
        self.changes.put(table::token_key(&token.id), table::encode(&table::TokenRow::from(&token)));
        self.changes.config_changed = true;
        self.state.tokens.insert(token.id.to_string(), token);
    }
}
