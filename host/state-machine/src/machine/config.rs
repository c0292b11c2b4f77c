//! Configuration: what is common to its objects, and the objects of one call.
//!
//! Revisions count over the whole shard, so that no two writes share one. A generation belongs to a topic or a group
//! and moves with every change of it or of its bindings; a put that changes nothing moves neither.

mod binding;
mod group;
mod node;
mod quota;
mod schedule;
mod tenant;
mod token;
mod topic;

use pointsman_model::record::Header;
use pointsman_model::{BindingId, Generation, GroupId, Name, NodeId, Ordinal, TenantId, TopicId};

use super::audit::Subject;
use super::entry::{Entry, Stop};
use crate::command::{ConfigDelete, ConfigPut, Expect, Object, Target};
use crate::outcome::{Outcome, Refusal};
use crate::state::Binding;
use crate::table;

impl Entry<'_> {
    pub(super) fn config_put(&mut self, ordinal: Ordinal, header: &Header, put: ConfigPut) -> Result<Outcome, Stop> {
        let (tenant, expect) = (header.tenant, &put.expect);
        let subject = Subject::put(self.state, tenant, &put.object);
        let outcome = match put.object {
            Object::TenantHome { name, shard } => self.put_tenant_home(expect, &name, shard),
            Object::Tenant { name, id } => self.put_tenant(expect, &name, TenantId(id)),
            Object::ClusterKey { id, secret } => self.put_cluster_key(expect, id, secret),
            Object::Topic { name, config } => self.put_topic(tenant, expect, &name, config),
            Object::Group { name, config } => self.put_group(tenant, expect, &name, config),
            Object::Binding { name, config } => self.put_binding(tenant, expect, &name, config),
            Object::Pause { group, paused } => self.pause_group(tenant, expect, &group, paused),
            Object::Token { id, tenant, hash, scopes, expires_at } => {
                self.put_token(expect, &id, &tenant, token::Secret { hash, scopes, expires_at })
            }
            Object::Quota(quota) => self.put_quota(tenant, expect, quota),
            Object::Schedule { name, config, next } => self.put_schedule(tenant, expect, &name, config, next),
            Object::Node { id, incarnation, peer_address, address } => {
                self.put_node(expect, NodeId(id), incarnation, peer_address, address)
            }
        }?;
        if let (Some(subject), Outcome::Configured { created, unchanged: false, .. }) = (subject, &outcome) {
            self.audit(ordinal, subject, if *created { "create" } else { "replace" }, put.author)?;
        }
        Ok(outcome)
    }

    pub(super) fn config_delete(
        &mut self,
        ordinal: Ordinal,
        header: &Header,
        delete: ConfigDelete,
    ) -> Result<Outcome, Stop> {
        let (tenant, expect) = (header.tenant, &delete.expect);
        let subject = Subject::deleted(self.state, tenant, &delete.target);
        let action = if matches!(delete.target, Target::Token(..)) { "revoke" } else { "delete" };
        if !matches!(delete.target, Target::Token(..) | Target::Tenant(_) | Target::TenantHome(_)) {
            self.check_tenant(tenant)?;
        }
        let outcome = match delete.target {
            Target::Topic(name) => self.delete_topic(tenant, expect, &name),
            Target::Group(name) => self.delete_group(tenant, expect, &name),
            Target::Binding(name) => self.delete_binding(tenant, expect, &name),
            Target::PluginVersion(name, version) => self.delete_plugin(tenant, expect, &name, &version),
            Target::Token(tenant, id) => self.revoke_token(expect, &tenant, &id),
            Target::Tenant(name) => self.delete_tenant(expect, &name),
            Target::TenantHome(name) => self.delete_tenant_home(expect, &name),
            Target::Schedule(name) => self.delete_schedule(tenant, expect, &name),
        }?;
        if let Some(subject) = subject {
            self.audit(ordinal, subject, action, delete.author)?;
        }
        Ok(outcome)
    }

    pub(super) fn check_tenant(&self, tenant: TenantId) -> Result<(), Refusal> {
        let is_open = self.state.tenants.get(&tenant).is_some_and(|tenant| !tenant.closed);
        if is_open { Ok(()) } else { Err(Refusal::TenantNotFound) }
    }

    pub(super) fn next_revision(&mut self) -> u64 {
        self.state.counters.revision += 1;
        self.state.counters.revision
    }

    /// What judges messages of a topic has changed: a new generation, which this returns.
    fn bump_topic(&mut self, id: TopicId) -> Generation {
        let Some(topic) = self.state.topics.get_mut(&id) else {
            return Generation::default();
        };
        topic.generation = topic.generation.next();
        let (key, row) = (table::topic_key(topic.tenant, id), table::TopicRow::from(&*topic));
        let generation = topic.generation;
        self.changes.put(key, table::encode(&row));
        self.changes.config_changed = true;
        generation
    }

    /// What judges messages for a group has changed: a new generation, which this returns.
    pub(super) fn bump_group(&mut self, id: GroupId) -> Generation {
        let Some(group) = self.state.groups.get_mut(&id) else {
            return Generation::default();
        };
        group.generation = group.generation.next();
        let (key, row) = (table::group_key(group.tenant, id), table::GroupRow::from(&*group));
        let generation = group.generation;
        self.changes.put(key, table::encode(&row));
        self.changes.config_changed = true;
        generation
    }

    /// Bumps what a binding judges for: its group, else its topic.
    fn bump_target(&mut self, topic: Option<TopicId>, group: Option<GroupId>) -> Generation {
        match (topic, group) {
            (_, Some(group)) => self.bump_group(group),
            (Some(topic), None) => self.bump_topic(topic),
            (None, None) => Generation::default(),
        }
    }

    /// Puts a binding in place of the one of its id, if any.
    fn insert_binding(&mut self, binding: Binding) {
        self.remove_binding(binding.id);
        let id = binding.id;
        self.changes.put(table::binding_key(binding.tenant, id), table::encode(&table::BindingRow::from(&binding)));
        self.state.bindings_by_name.insert((binding.tenant, binding.name.clone()), id);
        self.state.set_holder(&binding, Some(id));
        self.state.bindings.insert(id, binding);
    }

    /// Takes a binding away, without a new generation of its target.
    fn remove_binding(&mut self, id: BindingId) -> Option<Binding> {
        let binding = self.state.bindings.remove(&id)?;
        self.changes.delete(table::binding_key(binding.tenant, id));
        self.state.bindings_by_name.remove(&(binding.tenant, binding.name.clone()));
        self.state.set_holder(&binding, None);
        Some(binding)
    }
}

/// A name that a client chose. Which names are reserved is the leader's to say.
fn name_of(name: &str) -> Result<Name, Refusal> {
    Name::parse(name).map_err(|error| Refusal::Malformed(error.to_string()))
}

/// Checks a precondition against the object's revision; `None` if there is no object.
pub(super) fn check_expect(expect: &Expect, revision: Option<u64>) -> Result<(), Refusal> {
    let met = match expect {
        Expect::Anything => true,
        Expect::Absent => revision.is_none(),
        Expect::Present => revision.is_some(),
        Expect::Revision(allowed) => revision.is_some_and(|revision| allowed.contains(&revision)),
    };
    if met { Ok(()) } else { Err(Refusal::PreconditionFailed) }
}

/// Refuses one more where there are as many as there may be.
pub(super) fn check_quota(what: &'static str, count: usize, limit: Option<u32>) -> Result<(), Refusal> {
    match limit {
        Some(limit) if count >= limit as usize => Err(Refusal::QuotaExceeded(what, limit.into())),
        _ => Ok(()),
    }
}

/// The outcome of a put that changed nothing.
fn unchanged(id: u32, revision: u64) -> Outcome {
    Outcome::Configured { created: false, unchanged: true, revision, id }
}
