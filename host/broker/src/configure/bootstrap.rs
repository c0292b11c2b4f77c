//! What every cluster has, made by whoever leads the metadata shard, and halves of tenants, finished by it.

use std::sync::Weak;
use std::time::Duration;

use pointsman_model::{Term, limits};
use pointsman_state_machine::command::{Expect, Object, Target};
use tokio_util::sync::CancellationToken;

use super::NO_TENANT;
use super::home::{HomeStep, internal};
use crate::broker::{Home, Inner};
use crate::{Broker, Error};

/// The tenant that is there from the start. It lives in the first data shard.
const DEFAULT_TENANT: &str = "default";
/// The number of the first signing key.
const FIRST_KEY: u8 = 1;
/// How long the first writes may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a node looks whether it leads now.
const LOOK: Duration = Duration::from_millis(limits::TIMER_POLL_MS);

impl Broker {
    /// Makes what every broker has, where this node leads: a signing key and the tenant `default`. Repeatable.
    ///
    /// # Errors
    /// No leader yet, or a failed write.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        let call = internal(crate::call::now() + DEADLINE);
        let metadata = &self.inner.metadata;
        metadata.port.leadership().ok_or(Error::NoLeader)?;
        let first = self.inner.data.first().map(|shard| shard.port.id());
        self.put_tenant_named(&call, DEFAULT_TENANT, Expect::Anything, first).await?;
        // The key comes last: where it is, everything is.
        if !self.is_founded() {
            let object = Object::ClusterKey { id: FIRST_KEY, secret: rand::random() };
            match self.put(&call, metadata, NO_TENANT, Expect::Absent, object).await {
                // Another node was first.
                Ok(_) | Err(Error::PreconditionFailed | Error::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether this node has heard of what [`Self::bootstrap`] makes. Before that no tenant is surely unknown.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        !self.inner.metadata.port.state().cluster_keys.is_empty()
    }

    /// Why a tenant is not there, as far as a node can tell whose state of the metadata shard is fresh.
    pub(crate) fn unknown_tenant(&self) -> Error {
        if self.is_founded() { Error::TenantNotFound } else { Error::NoLeader }
    }

    /// Finishes tenants that were half made or half deleted by calls that got no further.
    ///
    /// # Errors
    /// No leader, or a failed write.
    pub(crate) async fn finish_tenants(&self) -> Result<(), Error> {
        let metadata = &self.inner.metadata;
        let homes: Vec<_> = metadata.port.state().homes.iter().map(|(name, home)| (name.clone(), *home)).collect();
        for (name, found) in homes {
            let shard = self.inner.data.iter().find(|shard| shard.port.id() == found.shard).ok_or(Error::NoLeader)?;
            let home = Home { tenant: found.id, shard: std::sync::Arc::clone(shard) };
            let there = home.shard.port.state().tenants.get(&found.id).is_some_and(|tenant| !tenant.closed);
            if there {
                continue;
            }
            let call = internal(crate::call::now() + DEADLINE);
            match self.at_home(&call, &home, name.as_str(), HomeStep::Put).await {
                Ok(()) => {}
                Err(Error::TenantNotFound) => self.forget_home(&call, name.as_str(), found.revision).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets the home of a tenant that was deleted there.
    pub(super) async fn forget_home(&self, call: &crate::Call, name: &str, revision: u64) -> Result<(), Error> {
        let (expect, target) = (Expect::Revision(vec![revision]), Target::TenantHome(name.into()));
        match self.delete_in(call, &self.inner.metadata, NO_TENANT, expect, target).await {
            // Another call was quicker.
            Err(Error::TenantNotFound | Error::PreconditionFailed) => Ok(()),
            done => done,
        }
    }
}

/// Bootstraps and finishes in every term in which this node leads the metadata shard, until the broker stops.
pub(crate) async fn keep(broker: Weak<Inner>, stop: CancellationToken) {
    let mut seen_to: Option<Term> = None;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let Some(inner) = broker.upgrade() else { return };
        let broker = Broker { inner };
        let term = broker.inner.metadata.port.leadership();
        if term.is_none() || term == seen_to {
            continue;
        }
        let done = async {
            broker.bootstrap().await?;
            broker.finish_tenants().await
        };
        match done.await {
            Ok(()) => seen_to = term,
            Err(error) => tracing::debug!(%error, "what every cluster has is not all there yet"),
        }
    }
}
