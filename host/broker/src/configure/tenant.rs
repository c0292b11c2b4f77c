//! Tenants: the metadata shard gives id and home, then the home shard puts the tenant. Any node finishes a half-done one.

use std::time::Duration;

use pointsman_model::Name;
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Expect, Object, Target};
use pointsman_state_machine::state::{Tenant, TenantHome};

use super::page::after;
use super::{NO_TENANT, invalid_name, new_name};
use crate::access::check_visible;
use crate::shard::ShardRuntime;
use crate::view::{Page, PageRequest, Precondition, Written};
use crate::{Action, Broker, Call, Error, Principal};

/// The tenant that is there from the start.
const DEFAULT_TENANT: &str = "default";
/// The number of the first signing key.
const FIRST_KEY: u8 = 1;
/// How long the first writes may take.
const BOOTSTRAP_DEADLINE: Duration = Duration::from_secs(10);

impl Broker {
    /// Makes what every broker has, where this node leads: a signing key and the tenant `default`. Repeatable.
    ///
    /// # Errors
    /// No leader yet, or a failed write.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        let call = Call {
            principal: Principal::Node,
            deadline: crate::call::now() + BOOTSTRAP_DEADLINE,
            request_id: "bootstrap".into(),
        };
        let metadata = &self.inner.metadata;
        metadata.port.leadership().ok_or(Error::NoLeader)?;
        let has_key = !metadata.port.state().cluster_keys.is_empty();
        if !has_key {
            let object = Object::ClusterKey { id: FIRST_KEY, secret: rand::random() };
            match self.put(&call, metadata, NO_TENANT, Expect::Absent, object).await {
                // Another node was first.
                Ok(_) | Err(Error::PreconditionFailed | Error::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.put_tenant_named(&call, DEFAULT_TENANT, Expect::Anything).await?;
        Ok(())
    }

    /// Creates a tenant, or answers the one that is there.
    ///
    /// # Errors
    /// Bad or reserved name, failed precondition, failed write.
    pub async fn put_tenant(&self, call: &Call, name: &str, expect: Precondition) -> Result<Written<Tenant>, Error> {
        self.authorize_tenant(call, name)?;
        let name = new_name(name)?;
        self.put_tenant_named(call, name.as_str(), expect).await
    }

    async fn put_tenant_named(&self, call: &Call, name: &str, expect: Expect) -> Result<Written<Tenant>, Error> {
        let metadata = &self.inner.metadata;
        metadata.port.leadership().ok_or(Error::NoLeader)?;
        let shard = self.least_loaded()?;
        let object = Object::TenantHome { name: name.into(), shard: shard.port.id().0 };
        // Revisions that callers see are those of the metadata shard.
        let put = self.put(call, metadata, NO_TENANT, expect, object).await?;
        let home = self.home(name)?;
        let object = Object::Tenant { name: name.into(), id: home.tenant.0 };
        self.put(call, &home.shard, home.tenant, Expect::Anything, object).await?;
        let found = metadata.port.state().homes.get(name).copied().ok_or(Error::TenantNotFound)?;
        Ok(Written { object: tenant(&Name::internal(name), &found), created: put.created })
    }

    /// The data shard with the fewest tenants.
    fn least_loaded(&self) -> Result<&ShardRuntime, Error> {
        let state = self.inner.metadata.port.state();
        let load = |shard: &ShardRuntime| state.homes.values().filter(|home| home.shard == shard.port.id()).count();
        let least = self.inner.data.iter().min_by_key(|shard| load(shard));
        least.map(|shard| &**shard).ok_or(Error::NoLeader)
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
        self.check_tenant_delete(call, name, &expect)?;
        let at_home = Target::Tenant(name.into());
        match self.delete_in(call, &home.shard, home.tenant, Expect::Anything, at_home).await {
            // It was deleted at home by a call that got no further.
            Ok(()) | Err(Error::TenantNotFound) => {}
            Err(error) => return Err(error),
        }
        self.delete_in(call, &self.inner.metadata, NO_TENANT, expect, Target::TenantHome(name.into())).await
    }

    /// What refuses the deletion of a tenant, as of now; decides nothing.
    ///
    /// # Errors
    /// As [`Self::delete_tenant`].
    pub fn check_tenant_delete(&self, call: &Call, name: &str, expect: &Precondition) -> Result<(), Error> {
        let home = self.authorize(call, name, Action::Operator)?;
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
        if users.is_empty() { Ok(()) } else { Err(Error::InUse(users)) }
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
    Tenant { id: home.id, name: name.clone(), created_at: home.created_at, revision: home.revision }
}
