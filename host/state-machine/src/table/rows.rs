//! Rows that hold an object, and how they become one. Field order is the format; fields come at the end only.

use pointsman_model::{
    BindingId, Generation, GroupId, Name, PluginVersionId, Scope, ShardId, TenantId, Timestamp, TopicId,
};
use serde::{Deserialize, Serialize};

use crate::command::ScheduleConfig;
use crate::command::{BindingConfig, GroupConfig, PluginCommit, TopicConfig};
use crate::state::Schedule;
use crate::state::{Binding, Counters, Group, PluginVersion, SlotTable, State, Tenant, TenantHome, Token, Topic};

#[derive(Serialize, Deserialize)]
pub(crate) struct ShardRow {
    counters: Counters,
    outcome_hash: u64,
}

impl ShardRow {
    pub(crate) fn of(state: &State) -> Self {
        Self { counters: state.counters, outcome_hash: state.outcome_hash }
    }

    pub(crate) fn load(self, state: &mut State) {
        state.counters = self.counters;
        state.outcome_hash = self.outcome_hash;
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TenantRow {
    name: String,
    created_at: u64,
    revision: u64,
    closed: bool,
}

impl From<&Tenant> for TenantRow {
    fn from(tenant: &Tenant) -> Self {
        Self {
            name: tenant.name.to_string(),
            created_at: tenant.created_at.0,
            revision: tenant.revision,
            closed: tenant.closed,
        }
    }
}

impl TenantRow {
    pub(crate) fn load(self, id: TenantId) -> Tenant {
        let created_at = Timestamp(self.created_at);
        Tenant { id, name: Name::internal(&self.name), created_at, revision: self.revision, closed: self.closed }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct HomeRow {
    name: String,
    shard: u16,
    created_at: u64,
    revision: u64,
}

impl HomeRow {
    pub(crate) fn of(name: &Name, home: &TenantHome) -> Self {
        Self { name: name.to_string(), shard: home.shard.0, created_at: home.created_at.0, revision: home.revision }
    }

    pub(crate) fn load(self, id: TenantId) -> (Name, TenantHome) {
        let created_at = Timestamp(self.created_at);
        let home = TenantHome { id, shard: ShardId(self.shard), created_at, revision: self.revision };
        (Name::internal(&self.name), home)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TokenRow {
    tenant: u32,
    tenant_name: String,
    hash: [u8; 32],
    scopes: Vec<String>,
    created_at: u64,
    expires_at: Option<u64>,
    revoked_at: Option<u64>,
    revision: u64,
}

impl From<&Token> for TokenRow {
    fn from(token: &Token) -> Self {
        Self {
            tenant: token.tenant.0,
            tenant_name: token.tenant_name.to_string(),
            hash: token.hash,
            scopes: token.scopes.iter().map(Scope::to_string).collect(),
            created_at: token.created_at.0,
            expires_at: token.expires_at.map(|at| at.0),
            revoked_at: token.revoked_at.map(|at| at.0),
            revision: token.revision,
        }
    }
}

impl TokenRow {
    /// The token, or `None` if one of its scopes is none.
    pub(crate) fn load(self, id: &str) -> Option<Token> {
        let scopes: Option<Vec<_>> = self.scopes.iter().map(|scope| Scope::parse(scope).ok()).collect();
        Some(Token {
            id: id.into(),
            tenant: TenantId(self.tenant),
            tenant_name: Name::internal(&self.tenant_name),
            hash: self.hash,
            scopes: scopes?.into(),
            created_at: Timestamp(self.created_at),
            expires_at: self.expires_at.map(Timestamp),
            revoked_at: self.revoked_at.map(Timestamp),
            revision: self.revision,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TopicRow {
    name: String,
    config: TopicConfig,
    generation: u32,
    revision: u64,
    created_at: u64,
    slots: SlotTable,
}

impl From<&Topic> for TopicRow {
    fn from(topic: &Topic) -> Self {
        Self {
            name: topic.name.to_string(),
            config: topic.config.clone(),
            generation: topic.generation.0,
            revision: topic.revision,
            created_at: topic.created_at.0,
            slots: topic.slots.clone(),
        }
    }
}

impl TopicRow {
    /// The topic, or `None` if its key slots cannot be.
    pub(crate) fn load(self, tenant: TenantId, id: TopicId) -> Option<Topic> {
        let topic = Topic {
            id,
            tenant,
            name: Name::internal(&self.name),
            config: self.config,
            generation: Generation(self.generation),
            revision: self.revision,
            created_at: Timestamp(self.created_at),
            slots: self.slots,
        };
        topic.slots.is_of(topic.queues()).then_some(topic)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct GroupRow {
    name: String,
    config: GroupConfig,
    topic_ids: Vec<u32>,
    generation: u32,
    revision: u64,
    created_at: u64,
    paused: bool,
}

impl From<&Group> for GroupRow {
    fn from(group: &Group) -> Self {
        Self {
            name: group.name.to_string(),
            config: group.config.clone(),
            topic_ids: group.topic_ids.iter().map(|id| id.0).collect(),
            generation: group.generation.0,
            revision: group.revision,
            created_at: group.created_at.0,
            paused: group.paused,
        }
    }
}

impl GroupRow {
    pub(crate) fn load(self, tenant: TenantId, id: GroupId) -> Group {
        Group {
            id,
            tenant,
            name: Name::internal(&self.name),
            config: self.config,
            topic_ids: self.topic_ids.into_iter().map(TopicId).collect(),
            generation: Generation(self.generation),
            revision: self.revision,
            created_at: Timestamp(self.created_at),
            paused: self.paused,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct BindingRow {
    name: String,
    config: BindingConfig,
    topic: Option<u32>,
    group: Option<u32>,
    digest: [u8; 32],
    generation: u32,
    revision: u64,
    created_at: u64,
    shorthand: bool,
}

impl From<&Binding> for BindingRow {
    fn from(binding: &Binding) -> Self {
        Self {
            name: binding.name.to_string(),
            config: binding.config.clone(),
            topic: binding.topic.map(|id| id.0),
            group: binding.group.map(|id| id.0),
            digest: binding.digest,
            generation: binding.generation.0,
            revision: binding.revision,
            created_at: binding.created_at.0,
            shorthand: binding.shorthand,
        }
    }
}

impl BindingRow {
    pub(crate) fn load(self, tenant: TenantId, id: BindingId) -> Binding {
        Binding {
            id,
            tenant,
            name: Name::internal(&self.name),
            config: self.config,
            topic: self.topic.map(TopicId),
            group: self.group.map(GroupId),
            digest: self.digest,
            generation: Generation(self.generation),
            revision: self.revision,
            created_at: Timestamp(self.created_at),
            shorthand: self.shorthand,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ScheduleRow {
    name: String,
    config: ScheduleConfig,
    revision: u64,
    created_at: u64,
}

impl From<&Schedule> for ScheduleRow {
    fn from(schedule: &Schedule) -> Self {
        Self {
            name: schedule.name.to_string(),
            config: schedule.config.clone(),
            revision: schedule.revision,
            created_at: schedule.created_at.0,
        }
    }
}

impl ScheduleRow {
    /// The schedule, without when it is due.
    pub(crate) fn load(self, tenant: TenantId, id: u32) -> Schedule {
        Schedule {
            id,
            tenant,
            name: Name::internal(&self.name),
            config: self.config,
            next: None,
            last: None,
            revision: self.revision,
            created_at: Timestamp(self.created_at),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PluginRow {
    commit: PluginCommit,
    created_at: u64,
}

impl From<&PluginVersion> for PluginRow {
    fn from(version: &PluginVersion) -> Self {
        Self { commit: version.commit.clone(), created_at: version.created_at.0 }
    }
}

impl PluginRow {
    pub(crate) fn load(self, tenant: TenantId, id: PluginVersionId) -> PluginVersion {
        PluginVersion { id, tenant, commit: self.commit, created_at: Timestamp(self.created_at) }
    }
}
