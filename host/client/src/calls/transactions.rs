//! Transactions.

use pointsman_api_types::transaction::{Prepared, Resolved, TRANSACTION_TYPE, Transaction, TransactionInput};

use super::Tenant;
use crate::{Error, Request, encode_component};

impl Tenant {
    /// Prepares a transaction. With a key the same call again finds it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prepare(
        &self,
        topic: &str,
        input: &TransactionInput<'_>,
        idempotency_key: Option<&str>,
    ) -> Result<Prepared, Error> {
        let body = serde_json::to_vec(input).map_err(|error| Error::InvalidRequest(error.to_string()))?;
        let request = Request::post(self.path(&["topics", topic, "transactions"]))
            .header_if("idempotency-key", idempotency_key)
            .body(TRANSACTION_TYPE, body);
        self.client.send(request).await?.json()
    }

    /// Makes its messages visible. An operator may `overrule` the end of an expired one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn commit(&self, transaction: &str, overrule: bool) -> Result<Resolved, Error> {
        self.resolve(transaction, "commit", overrule).await
    }

    /// Discards its messages. An operator may `overrule` the end of an expired one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn roll_back(&self, transaction: &str, overrule: bool) -> Result<Resolved, Error> {
        self.resolve(transaction, "rollback", overrule).await
    }

    async fn resolve(&self, transaction: &str, verdict: &str, overrule: bool) -> Result<Resolved, Error> {
        let path = self.path(&["transactions", transaction, verdict]);
        let path = if overrule { format!("{path}?override=true") } else { path };
        self.client.send(Request::post(path)).await?.json()
    }

    /// All transactions, or those in a state, without their messages.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transactions(&self, state: Option<&str>) -> Result<Vec<Transaction>, Error> {
        let path = self.path(&["transactions"]);
        let path = state.map_or_else(|| path.clone(), |state| format!("{path}?state={}", encode_component(state)));
        self.client.list(&path).await
    }

    /// A transaction with its messages.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transaction(&self, transaction: &str) -> Result<Transaction, Error> {
        self.client.send(Request::get(self.path(&["transactions", transaction]))).await?.json()
    }
}
