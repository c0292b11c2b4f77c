//! Tenants, in the metadata shard and at home, and the keys of the cluster.
//!
//! A tenant is deleted at home first, where it is known whether it is in use; then its home is forgotten, with its tokens.
//! At home its id stays closed: whoever still finds it in the metadata shard does not bring it back to life.

use pointsman_model::{ShardId, TenantId};

use super::{Entry, Stop, check_expect, name_of, unchanged};
use crate::command::Expect;
use crate::outcome::{Outcome, Refusal};
use crate::state::{Tenant, TenantHome};
use crate::table;

impl Entry<'_> {
    /// Gives a tenant its id and home; a tenant that has them keeps them.
    pub(super) fn put_tenant_home(&mut self, expect: &Expect, name: &str, shard: u16) -> Result<Outcome, Stop> {
        let name = name_of(name)?;
        let existing = self.state.homes.get(&name).copied();
        check_expect(expect, existing.map(|home| home.revision))?;
        if let Some(home) = existing {
            return Ok(unchanged(home.id.0, home.revision));
        }
        self.state.counters.tenant += 1;
        let id = TenantId(self.state.counters.tenant);
        let revision = self.next_revision();
        let home = TenantHome { id, shard: ShardId(shard), created_at: self.now(), revision };
        self.changes.put(table::tenant_home_key(id), table::encode(&table::HomeRow::of(&name, &home)));
        self.changes.config_changed = true;
        self.state.homes.insert(name, home);
        Ok(Outcome::Configured { created: true, unchanged: false, revision, id: id.0 })
    }

    /// Puts a tenant at home here.
    pub(super) fn put_tenant(&mut self, expect: &Expect, name: &str, id: TenantId) -> Result<Outcome, Stop> {
        let name = name_of(name)?;
        if id.0 == 0 {
            return Err(Refusal::Malformed("no tenant has id 0".into()).into());
        }
        let existing = self.state.tenants_by_name.get(&name).and_then(|id| self.state.tenants.get(id));
        check_expect(expect, existing.map(|tenant| tenant.revision))?;
        match existing {
            Some(tenant) if tenant.id == id => return Ok(unchanged(id.0, tenant.revision)),
            Some(tenant) => return Err(Refusal::AlreadyExists(tenant.name.to_string()).into()),
            None => {}
        }
        match self.state.tenants.get(&id) {
            Some(tenant) if tenant.closed => return Err(Refusal::TenantNotFound.into()),
            Some(_) => return Err(Refusal::TenantIdTaken(id).into()),
            None => {}
        }
        let revision = self.next_revision();
        let tenant = Tenant { id, name: name.clone(), created_at: self.now(), revision, closed: false };
        self.changes.put(table::tenant_key(id), table::encode(&table::TenantRow::from(&tenant)));
        self.changes.config_changed = true;
        self.state.tenants_by_name.insert(name, id);
        self.state.tenants.insert(id, tenant);
        Ok(Outcome::Configured { created: true, unchanged: false, revision, id: id.0 })
    }

    /// Deletes a tenant at home, with what no topic and no group holds: its plugins, its schedules, its quota, what it has used.
    pub(super) fn delete_tenant(&mut self, expect: &Expect, name: &str) -> Result<Outcome, Stop> {
        let found = self.state.tenants_by_name.get(&name_of(name)?).and_then(|id| self.state.tenants.get(id));
        let (id, revision) = found.map(|tenant| (tenant.id, tenant.revision)).ok_or(Refusal::TenantNotFound)?;
        check_expect(expect, Some(revision))?;
        let topics = self.state.topics.values().filter(|topic| topic.tenant == id).map(|topic| &topic.name);
        let groups = self.state.groups.values().filter(|group| group.tenant == id).map(|group| &group.name);
        let users: Vec<_> = topics.chain(groups).map(ToString::to_string).collect();
        if !users.is_empty() {
            return Err(Refusal::InUse(users).into());
        }
        let versions = self.state.plugins.values().filter(|version| version.tenant == id);
        let versions: Vec<_> =
            versions.map(|version| (version.commit.name.clone(), version.commit.version.clone())).collect();
        for (name, version) in versions {
            self.delete_plugin(id, &Expect::Anything, &name, &version)?;
        }
        self.drop_schedules(id);
        if let Some(tenant) = self.state.tenants.get_mut(&id) {
            tenant.closed = true;
            self.state.tenants_by_name.remove(&tenant.name);
            self.changes.put(table::tenant_key(id), table::encode(&table::TenantRow::from(&*tenant)));
        }
        self.state.quotas.remove(&id);
        self.state.stored_bytes.remove(&id);
        self.changes.delete(table::quota_key(id));
        self.changes.config_changed = true;
        Ok(Outcome::Deleted)
    }

    /// Forgets where a tenant lives, and its tokens.
    pub(super) fn delete_tenant_home(&mut self, expect: &Expect, name: &str) -> Result<Outcome, Stop> {
        let name = name_of(name)?;
        let home = self.state.homes.get(&name).copied().ok_or(Refusal::TenantNotFound)?;
        check_expect(expect, Some(home.revision))?;
        let of_tenant = self.state.tokens.values().filter(|token| token.tenant == home.id);
        let operators = of_tenant.clone().filter(|token| token.is_operator() && token.revoked_at.is_none());
        // A broker must not open up because a tenant is deleted.
        let users: Vec<_> = operators.map(|token| format!("tokens/{}", token.id)).collect();
        if !users.is_empty() {
            return Err(Refusal::InUse(users).into());
        }
        let tokens: Vec<_> = of_tenant.map(|token| token.id.to_string()).collect();
        for id in tokens {
            self.changes.delete(table::token_key(&id));
            self.state.tokens.remove(&id);
        }
        self.state.homes.remove(&name);
        self.changes.delete(table::tenant_home_key(home.id));
        self.changes.config_changed = true;
        Ok(Outcome::Deleted)
    }

    /// Adds a signing key. Keys never change, so they have no revision and answer 0.
    pub(super) fn put_cluster_key(&mut self, expect: &Expect, id: u8, secret: [u8; 32]) -> Result<Outcome, Stop> {
        let existing = self.state.cluster_keys.get(&id);
        check_expect(expect, existing.map(|_| 0))?;
        match existing {
            Some(held) if *held == secret => return Ok(unchanged(id.into(), 0)),
            Some(_) => return Err(Refusal::AlreadyExists(id.to_string()).into()),
            None => {}
        }
        self.changes.put(table::cluster_key_key(id), table::encode(&secret));
        self.changes.config_changed = true;
        self.state.cluster_keys.insert(id, secret);
        Ok(Outcome::Configured { created: true, unchanged: false, revision: 0, id: id.into() })
    }
}
