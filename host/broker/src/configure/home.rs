//! The half of a tenant that its home shard holds, written by whoever leads that shard.
//!
//! Tenants are the one thing that spans two shards. The metadata shard gives id and home, then the home shard puts the
//! tenant; a deletion is decided at home, then the metadata shard forgets it. Each step may be repeated by anyone: a put
//! of a tenant that is there changes nothing, and the id of one that was deleted stays closed at home for ever.

use std::time::{Duration, Instant};

use pointsman_model::{NodeId, TenantId, limits};
use pointsman_state_machine::command::{Expect, Object, Target};
use serde::{Deserialize, Serialize};

use crate::broker::Home;
use crate::nodes::{NodeAnswer, NodeRequest};
use crate::{Broker, Call, Error, Principal};

/// How often a step is tried again while its shard has no leader.
const AGAIN: Duration = Duration::from_millis(50);
/// How long.
const PATIENCE: Duration = Duration::from_millis(2 * limits::NO_LEADER_MS);

/// What is done with a tenant at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HomeStep {
    /// It shall be there.
    Put,
    /// It shall be closed.
    Delete,
}

/// The step as another node is asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HomeRequest {
    shard: u16,
    tenant: u32,
    name: String,
    step: HomeStep,
    remaining_ms: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum HomeAnswer {
    /// It is so.
    Done,
    /// The tenant was deleted at home.
    Closed,
    /// Nothing was done: another node leads.
    NotLeader,
    /// Nothing was done: these need it.
    InUse(Vec<String>),
    /// Nobody knows.
    Unknown,
    /// It failed, in words.
    Failed(String),
}

impl Broker {
    /// Brings a tenant into a state at home, wherever that is led.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`] if its id is closed, [`Error::InUse`], a failed write.
    pub(crate) async fn at_home(&self, call: &Call, home: &Home, name: &str, step: HomeStep) -> Result<(), Error> {
        let until = call.deadline.min(crate::call::now() + PATIENCE);
        loop {
            let port = &home.shard.port;
            let tried = if port.leadership().is_some() {
                self.step_here(call, home, name, step).await
            } else {
                match port.leader().filter(|leader| *leader != self.inner.config.node) {
                    Some(leader) => self.step_there(call, leader, home, name, step).await,
                    None => Err(Error::NoLeader),
                }
            };
            match tried {
                // Done twice it is done once.
                Err(Error::NoLeader | Error::OutcomeUnknown) if crate::call::now() + AGAIN < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                tried => return tried,
            }
        }
    }

    /// Puts a tenant at home here if another node got no further than giving it this home.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`] if it was deleted here, a failed write.
    pub async fn finish_tenant(&self, name: &str, within: Duration) -> Result<(), Error> {
        let home = self.home(name)?;
        let found = home.shard.port.state().tenants.get(&home.tenant).map(|tenant| tenant.closed);
        match found {
            Some(false) => return Ok(()),
            Some(true) => return Err(Error::TenantNotFound),
            None if home.shard.port.leadership().is_none() => return Ok(()),
            None => {}
        }
        let call = internal(crate::call::now() + within.min(PATIENCE));
        tracing::info!(tenant.name = name, "a tenant that was half made is finished");
        self.step_here(&call, &home, name, HomeStep::Put).await
    }

    /// Does what another node asks, if this one leads the home.
    pub(crate) async fn serve_home(&self, request: HomeRequest) -> HomeAnswer {
        let shard = self.shards().find(|shard| shard.port.id().0 == request.shard);
        let Some(shard) = shard.filter(|shard| shard.port.leadership().is_some()) else {
            return HomeAnswer::NotLeader;
        };
        let home = Home { tenant: TenantId(request.tenant), shard: std::sync::Arc::clone(shard) };
        let within = Duration::from_millis(request.remaining_ms.min(limits::TIMEOUT_MS_MAX));
        let call = internal(crate::call::now() + within);
        match self.step_here(&call, &home, &request.name, request.step).await {
            Ok(()) => HomeAnswer::Done,
            Err(Error::TenantNotFound) => HomeAnswer::Closed,
            Err(Error::NoLeader) => HomeAnswer::NotLeader,
            Err(Error::InUse(users)) => HomeAnswer::InUse(users.into_iter().take(limits::USERS_TOLD_MAX).collect()),
            Err(Error::OutcomeUnknown) => HomeAnswer::Unknown,
            Err(error) => HomeAnswer::Failed(error.to_string()),
        }
    }

    async fn step_here(&self, call: &Call, home: &Home, name: &str, step: HomeStep) -> Result<(), Error> {
        let tenant = home.tenant;
        match step {
            HomeStep::Put => {
                let object = Object::Tenant { name: name.into(), id: tenant.0 };
                self.put(call, &home.shard, tenant, Expect::Anything, object).await.map(|_| ())
            }
            HomeStep::Delete => {
                // Of this very tenant: one of the same name may have come after it.
                let revision = {
                    let state = home.shard.port.state();
                    let found = state.tenants.get(&tenant).filter(|tenant| !tenant.closed);
                    found.map(|tenant| tenant.revision)
                };
                let expect = Expect::Revision(vec![revision.ok_or(Error::TenantNotFound)?]);
                let deleted = self.delete_in(call, &home.shard, tenant, expect, Target::Tenant(name.into())).await;
                deleted.map_err(|error| match error {
                    Error::PreconditionFailed => Error::TenantNotFound,
                    error => error,
                })
            }
        }
    }

    async fn step_there(
        &self,
        call: &Call,
        leader: NodeId,
        home: &Home,
        name: &str,
        step: HomeStep,
    ) -> Result<(), Error> {
        let remaining = call.deadline.saturating_duration_since(crate::call::now());
        let request = NodeRequest::Home(HomeRequest {
            shard: home.shard.port.id().0,
            tenant: home.tenant.0,
            name: name.to_owned(),
            step,
            remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
        });
        match self.ask(leader, &request, remaining).await? {
            NodeAnswer::Home(HomeAnswer::Done) => Ok(()),
            NodeAnswer::Home(HomeAnswer::Closed) => Err(Error::TenantNotFound),
            NodeAnswer::Home(HomeAnswer::NotLeader) => Err(Error::NoLeader),
            NodeAnswer::Home(HomeAnswer::InUse(users)) => Err(Error::InUse(users)),
            NodeAnswer::Home(HomeAnswer::Failed(reason)) => Err(Error::Overloaded(reason)),
            _ => Err(Error::OutcomeUnknown),
        }
    }
}

/// The broker's own call.
pub(super) fn internal(deadline: Instant) -> Call {
    Call { principal: Principal::Node, deadline, request_id: "tenant".into() }
}
