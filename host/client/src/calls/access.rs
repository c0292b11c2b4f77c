//! Tokens, quotas, usage, the audit.

use pointsman_api_types::List;
use pointsman_api_types::quota::{Quota, Usage};
use pointsman_api_types::token::{AuditEntry, NewToken, Token, TokenInput, Whoami};

use super::Tenant;
use crate::{Client, Error, Request, encode_component};

impl Client {
    /// Who this client is to the server.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn whoami(&self) -> Result<Whoami, Error> {
        self.send(Request::get("/v1/whoami")).await?.json()
    }

    /// The newest changes of the configuration, at most so many.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let page: List<AuditEntry> = self.send(Request::get(format!("/v1/audit?limit={limit}"))).await?.json()?;
        Ok(page.items)
    }

    /// Deletes a tenant without topics and groups.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_tenant(&self, name: &str) -> Result<(), Error> {
        self.send(Request::delete(format!("/v1/tenants/{}", encode_component(name)))).await?.ok().map(drop)
    }
}

impl Tenant {
    /// Creates a token; the answer is the only place that shows its secret.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_token(&self, token: &TokenInput) -> Result<NewToken, Error> {
        self.client.send(Request::post(self.path(&["tokens"])).json(token)).await?.json()
    }

    /// All tokens, without their secrets.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        self.client.list(&self.path(&["tokens"])).await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), Error> {
        self.client.send(Request::delete(self.path(&["tokens", id]))).await?.ok().map(drop)
    }

    /// What the tenant may use.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn quota(&self) -> Result<Quota, Error> {
        self.client.send(Request::get(self.path(&["quota"]))).await?.json()
    }

    /// Changes what the tenant may use; another change in between is refused.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_quota(&self, change: impl FnOnce(&mut Quota)) -> Result<Quota, Error> {
        let answer = self.client.send(Request::get(self.path(&["quota"]))).await?.ok()?;
        let tag = answer.headers.get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let mut quota: Quota = answer.json()?;
        change(&mut quota);
        let request = Request::put(self.path(&["quota"])).json(&quota).header_if("if-match", tag);
        self.client.send(request).await?.json()
    }

    /// What the tenant uses.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn usage(&self) -> Result<Usage, Error> {
        self.client.send(Request::get(self.path(&["usage"]))).await?.json()
    }
}
