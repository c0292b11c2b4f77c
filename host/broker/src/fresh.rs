//! What a node that may be behind does before it says that something is not there.
//!
//! Configuration is replicated, so a node that leads nothing may not know yet what another has answered already. Nothing
//! is refused as unknown before a barrier (ReadIndex): everything that was committed when the call came is applied here
//! then. A node that leads needs none: it is refused leadership as soon as another may have it.

use std::time::Duration;

use pointsman_model::{NodeId, ShardId, limits};
use pointsman_state_machine::state::Topic;

use crate::broker::Home;
use crate::call::Bearer;
use crate::shard::ShardRuntime;
use crate::{Action, Broker, Error, Principal};

/// How long a call waits for this node to catch up.
const CATCH_UP: Duration = Duration::from_millis(limits::NO_LEADER_MS);

impl ShardRuntime {
    /// Waits until this node knows what was committed when the call came; returns at once where it leads.
    ///
    /// # Errors
    /// [`Error::NoLeader`] if nobody could be asked in time.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        if self.port.leadership().is_some() {
            return Ok(());
        }
        self.port.barrier(CATCH_UP).await.map_err(|_| Error::NoLeader)
    }
}

impl Broker {
    /// True if this node leads the shard.
    #[must_use]
    pub fn leads(&self, shard: ShardId) -> bool {
        self.shard(shard).is_some_and(|shard| shard.port.leadership().is_some())
    }

    /// The leader of a shard, as far as this node has heard.
    #[must_use]
    pub fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        self.shard(shard)?.port.leader()
    }

    /// True if there is such a shard.
    #[must_use]
    pub fn has_shard(&self, shard: ShardId) -> bool {
        self.shard(shard).is_some()
    }

    /// The shard that a tenant lives in, as far as this node knows.
    #[must_use]
    pub fn home_shard(&self, tenant: &str) -> Option<ShardId> {
        self.inner.metadata.port.state().homes.get(tenant).map(|home| home.shard)
    }

    /// Waits until what was committed in a shard when the call came is applied here.
    ///
    /// # Errors
    /// [`Error::NoLeader`] if nobody could be asked in time.
    pub async fn barrier(&self, shard: ShardId, within: Duration) -> Result<(), Error> {
        let shard = self.shard(shard).ok_or(Error::NoLeader)?;
        shard.port.barrier(within.min(CATCH_UP)).await.map_err(|_| Error::NoLeader)
    }

    /// As [`Self::authenticate`]; a token that this node does not know is looked for once more after a barrier.
    ///
    /// # Errors
    /// The same, and [`Error::NoLeader`].
    pub async fn authenticate_fresh(&self, bearer: Option<&str>) -> Result<Principal, Error> {
        match self.authenticate(bearer) {
            Err(Error::Unauthenticated(_)) if bearer.is_some_and(crate::token::is_ours) => {
                self.inner.metadata.catch_up().await?;
                self.authenticate(bearer)
            }
            found => found,
        }
    }

    /// As [`Self::check_access`]; a tenant that this node does not know is looked for once more after a barrier.
    ///
    /// # Errors
    /// The same, and [`Error::NoLeader`].
    pub async fn check_access_fresh(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        action: Action<'_>,
    ) -> Result<(), Error> {
        match self.check_access(principal, tenant, action) {
            Err(Error::NoLeader) => {}
            checked => return checked,
        }
        self.inner.metadata.catch_up().await?;
        match self.check_access(principal, tenant, action) {
            // It is fresh now, leader or not.
            Err(Error::NoLeader) => Err(self.unknown_tenant()),
            checked => checked,
        }
    }

    /// Waits until this node knows a caller's token and a tenant that another node knows already.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`], [`Error::NoLeader`].
    pub async fn meet(&self, principal: &Principal, tenant: Option<&str>) -> Result<(), Error> {
        let stranger = match principal {
            Principal::Token(Bearer { id, tenant: Some(_), .. }) => {
                !self.inner.metadata.port.state().tokens.contains_key(&**id)
            }
            _ => false,
        };
        let unknown = |tenant: &str| self.home_shard(tenant).is_none();
        if stranger || tenant.is_some_and(unknown) {
            self.inner.metadata.catch_up().await?;
        }
        if tenant.is_some_and(unknown) { Err(self.unknown_tenant()) } else { Ok(()) }
    }

    fn shard(&self, shard: ShardId) -> Option<&std::sync::Arc<ShardRuntime>> {
        self.shards().find(|found| found.port.id() == shard)
    }

    /// A topic, on a node that need not lead its shard.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], [`Error::NoLeader`] if this node does not know it and nobody else can be asked.
    pub(crate) async fn topic_here(&self, tenant: &str, topic: &str) -> Result<(Home, Topic), Error> {
        match self.topic(tenant, topic) {
            Err(Error::NoLeader) => {}
            found => return found,
        }
        self.home(tenant)?.shard.catch_up().await?;
        self.topic(tenant, topic).map_err(|error| match error {
            // It is fresh now, leader or not.
            Error::NoLeader => Error::TopicNotFound(topic.into()),
            error => error,
        })
    }
}
