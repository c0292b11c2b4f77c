//! Tenants: the metadata shard gives id and home, then the home shard puts the tenant. Any node finishes a half-done one.

use pointsman_model::{Name, ShardId};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Expect, Object};
use pointsman_state_machine::state::{Tenant, TenantHome};

use super::home::HomeStep;
use super::page::after;
use super::{NO_TENANT, invalid_name, new_name};
use crate::access::check_visible;
use crate::view::{Page, PageRequest, Precondition, Written};
use crate::{Action, Broker, Call, Error};

/// How often a tenant that is deleted at home meanwhile is made again.
const TRIES: usize = 2;

impl Broker {
    /// Creates a tenant, or answers the one that is there.
    ///
    /// # Errors
    /// Bad or reserved name, failed precondition, failed write.
    pub async fn put_tenant(&self, call: &Call, name: &str, expect: Precondition) -> Result<Written<Tenant>, Error> {
        self.authorize_tenant(call, name)?;
        let name = new_name(name)?;
        self.put_tenant_named(call, name.as_str(), expect, None).await
    }

    /// The same for any name. A new one lives in `shard`, or in the least loaded.
    pub(super) async fn put_tenant_named(
        &self,
        call: &Call,
        name: &str,
        expect: Expect,
        shard: Option<ShardId>,
    ) -> Result<Written<Tenant>, Error> {
        let metadata = &self.inner.metadata;
        metadata.port.leadership().ok_or(Error::NoLeader)?;
        for _ in 0..=TRIES {
            let shard = shard.map_or_else(|| self.least_loaded(), Ok)?;
            let object = Object::TenantHome { name: name.into(), shard: shard.0 };
            // Revisions that callers see are those of the metadata shard.
            let put = self.put(call, metadata, NO_TENANT, expect.clone(), object).await?;
            let found = metadata.port.state().homes.get(name).copied().ok_or(Error::OutcomeUnknown)?;
            let home = self.home(name)?;
            match self.at_home(call, &home, name, HomeStep::Put).await {
                Ok(()) => {
                    let object = tenant(&Name::internal(name), &found);
                    return Ok(Written { object, created: put.created });
                }
                // Deleted there by a call that got no further.
                Err(Error::TenantNotFound) => self.forget_home(call, name, found.revision).await?,
                // Half of it is done.
                Err(_) if put.created => return Err(Error::OutcomeUnknown),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Overloaded("the tenant is made and deleted all the time".into()))
    }

    /// The data shard with the fewest tenants.
    fn least_loaded(&self) -> Result<ShardId, Error> {
        let state = self.inner.metadata.port.state();
        let load = |shard: &ShardId| state.homes.values().filter(|home| home.shard == *shard).count();
        self.inner.data.iter().map(|shard| shard.port.id()).min_by_key(load).ok_or(Error::NoLeader)
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`].
    pub async fn get_tenant(&self, call: &Call, name: &str) -> Result<Tenant, Error> {
        let name = Name::parse(name).map_err(invalid_name)?;
        self.authorize(call, name.as_str(), Action::Read)?;
        let metadata = &self.inner.metadata;
        let found = metadata.port.state().homes.get(&name).copied();
        let found = found.ok_or_else(|| metadata.absent(|| Error::TenantNotFound))?;
        Ok(tenant(&name, &found))
    }

    /// Deletes a tenant without topics and groups: at home, then where its home is known. A half-done one is finished by
    /// the next call.
    ///
    /// # Errors
    /// [`Error::InUse`] with the topics and groups, or with the operator tokens that it holds; a failed precondition.
    pub async fn delete_tenant(&self, call: &Call, name: &str, expect: Precondition) -> Result<(), Error> {
        let home = self.authorize(call, name, Action::Operator)?;
        self.inner.metadata.port.leadership().ok_or(Error::NoLeader)?;
        let revision = self.check_tenant_delete(call, name, &expect).await?;
        match self.at_home(call, &home, name, HomeStep::Delete).await {
            // It was deleted at home by a call that got no further.
            Ok(()) | Err(Error::TenantNotFound) => {}
            Err(error) => return Err(error),
        }
        // Half of it is done now.
        self.forget_home(call, name, revision).await.map_err(|error| match error {
            Error::NoLeader => Error::OutcomeUnknown,
            error => error,
        })
    }

    /// What refuses the deletion of a tenant, as of now; else its revision. Decides nothing.
    ///
    /// # Errors
    /// As [`Self::delete_tenant`].
    pub async fn check_tenant_delete(&self, call: &Call, name: &str, expect: &Precondition) -> Result<u64, Error> {
        let home = self.authorize(call, name, Action::Operator)?;
        home.shard.catch_up().await?;
        let metadata = self.inner.metadata.port.state();
        let revision = metadata.homes.get(name).map(|home| home.revision);
        let met = match expect {
            Expect::Anything | Expect::Present => true,
            Expect::Absent => false,
            Expect::Revision(allowed) => revision.is_some_and(|revision| allowed.contains(&revision)),
        };
        if !met {
            return Err(Error::PreconditionFailed);
        }
        let of_tenant = metadata.tokens.values().filter(|token| token.tenant == home.tenant && token.is_operator());
        let live = of_tenant.filter(|token| token.revoked_at.is_none());
        let mut users: Vec<_> = live.map(|token| format!("tokens/{}", token.id)).collect();
        drop(metadata);
        let state = home.shard.port.state();
        let topics = state.topics.values().filter(|topic| topic.tenant == home.tenant).map(|topic| &topic.name);
        let groups = state.groups.values().filter(|group| group.tenant == home.tenant).map(|group| &group.name);
        users.extend(topics.chain(groups).map(ToString::to_string));
        let revision = revision.ok_or(Error::TenantNotFound)?;
        if users.is_empty() { Ok(revision) } else { Err(Error::InUse(users)) }
    }

    /// The tenants by name that the caller may know of: all for an operator, else its own.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_tenants(&self, call: &Call, page: &PageRequest) -> Result<Page<Tenant>, Error> {
        self.authorize_node(call, Action::Read)?;
        self.inner.metadata.port.leadership().ok_or(Error::NoLeader)?;
        self.page("tenants", page, |last, n| {
            let state = self.inner.metadata.port.state();
            let visible = tenants(&state).filter(|(name, _)| check_visible(&call.principal, name).is_ok());
            after(visible, last, n)
        })
    }
}

fn tenants(state: &State) -> impl Iterator<Item = (&str, Tenant)> {
    state.homes.iter().map(|(name, home)| (name.as_str(), tenant(name, home)))
}

/// A tenant as its callers see it.
fn tenant(name: &Name, home: &TenantHome) -> Tenant {
    Tenant { id: home.id, name: name.clone(), created_at: home.created_at, revision: home.revision, closed: false }
}
