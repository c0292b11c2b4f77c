//! What a shard knows, as the use cases read it.
//!
//! All of it is rebuilt from stored rows at start ([`crate::table`]) and changed by `apply` alone. Maps are ordered:
//! no outcome may depend on a hasher.

mod cursor;
mod held;
mod holders;
mod node;
mod parked;
mod remembered;
mod retained;
mod retry;
mod schedule;
mod slots;
mod tenant_name;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_model::{
    BindingId, Generation, GroupId, LogIndex, LogPosition, Name, NodeId, PluginVersionId, QueueId, QueueOffset, Scope,
    TenantId, Timestamp, TopicId,
};
use serde::{Deserialize, Serialize};

pub(crate) use cursor::{BLOCK_BYTES, Touched};
pub use cursor::{Cursor, Sought};
pub use held::{Held, HeldGrant};
pub use node::Node;
pub use parked::{Moved, Parked, Timer};
pub use remembered::{DedupId, Remembered};
pub use retained::{Owed, OwedBy, Released};
pub use retry::{DeadCount, DeadLetter, DeadReason, EndedAttempt, Retry};
pub use schedule::Schedule;
pub use slots::{SlotMove, SlotTable};
use tenant_name::TenantName;
pub use transaction::{DueTransaction, Part, Transaction, TransactionCounts, TransactionState};

use crate::command;

/// The typed state of one shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Tenants whose home is this shard.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Their ids by name.
    pub tenants_by_name: BTreeMap<Name, TenantId>,
    /// Metadata shard: every tenant's id and home.
    pub homes: BTreeMap<Name, TenantHome>,
    /// Metadata shard: keys that receipts and cursors are signed with.
    pub cluster_keys: BTreeMap<u8, [u8; 32]>,
    /// Metadata shard: the nodes of the cluster.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Metadata shard: tokens by id, the revoked ones among them.
    pub tokens: BTreeMap<String, Token>,
    /// Metadata shard: how many tokens with the scope `operator` are not revoked. Expired ones count: a node must not
    /// open up by itself.
    pub operator_tokens: usize,
    /// Schedules.
    pub schedules: BTreeMap<u32, Schedule>,
    /// Their ids by tenant and name.
    pub schedules_by_name: BTreeMap<(TenantId, Name), u32>,
    /// Quotas that were put, with their revisions.
    pub quotas: BTreeMap<TenantId, (command::Quota, u64)>,
    /// What each tenant has used.
    pub usage: BTreeMap<TenantId, Usage>,
    /// Bytes that each tenant's stored messages take: the sum over its queues.
    pub stored_bytes: BTreeMap<TenantId, u64>,
    /// Topics.
    pub topics: BTreeMap<TopicId, Topic>,
    /// Their ids by tenant and name.
    pub topics_by_name: BTreeMap<(TenantId, Name), TopicId>,
    /// Groups.
    pub groups: BTreeMap<GroupId, Group>,
    /// Their ids by tenant and name.
    pub groups_by_name: BTreeMap<(TenantId, Name), GroupId>,
    /// Bindings, shorthand filters included.
    pub bindings: BTreeMap<BindingId, Binding>,
    /// Their ids by tenant and name.
    pub bindings_by_name: BTreeMap<(TenantId, Name), BindingId>,
    /// Uploaded plugin versions.
    pub plugins: BTreeMap<PluginVersionId, PluginVersion>,
    /// Their ids by tenant, name and version.
    pub plugins_by_name: BTreeMap<(TenantId, Name), BTreeMap<String, PluginVersionId>>,
    /// Ends of every queue.
    pub queues: BTreeMap<(TopicId, QueueId), QueueEnds>,
    /// Cursors of every group in every queue.
    pub cursors: BTreeMap<(GroupId, TopicId, QueueId), Cursor>,
    /// Rows in each group's retry set, or held where it keeps an order; absent means none.
    pub retrying: BTreeMap<GroupId, u64>,
    /// Messages of each tenant that wait for a time; absent means none.
    pub timers: BTreeMap<TenantId, u64>,
    /// Each group's dead letters; absent means none.
    pub dead: BTreeMap<GroupId, DeadCount>,
    /// How many transactions each tenant has; absent means it never had one.
    pub transactions: BTreeMap<TenantId, TransactionCounts>,
    /// The active selector of a topic.
    pub selectors: BTreeMap<TopicId, BindingId>,
    /// The active filter of a group, for one of its topics or for all.
    pub filters: BTreeMap<(GroupId, Option<TopicId>), BindingId>,
    /// Rows of each topic's dedup table, those not live any more and not yet removed included; absent means none.
    pub dedup_keys: BTreeMap<TopicId, u64>,
    /// Deleted topics whose dedup rows are not all removed yet.
    pub dedup_left: BTreeMap<TopicId, TenantId>,
    /// The active dedup of a topic.
    pub dedups: BTreeMap<TopicId, BindingId>,
    /// The active retry policy of a group.
    pub retry_policies: BTreeMap<GroupId, BindingId>,
    /// The active check-back of a topic.
    pub check_backs: BTreeMap<TopicId, BindingId>,
    /// Segments of the log that were not given up, each with the index of its first entry.
    pub segments: BTreeMap<LogPosition, LogIndex>,
    /// What was given up.
    pub released: Released,
    /// Where ids and revisions stand.
    pub counters: Counters,
    /// Running hash of the outcomes of every entry up to the last applied.
    pub outcome_hash: u64,
}

/// The last id and revision given out; each is used once, also after its object is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Metadata shard: the last tenant.
    pub tenant: u32,
    /// The last topic.
    pub topic: u32,
    /// The last group.
    pub group: u32,
    /// The last binding.
    pub binding: u32,
    /// The last plugin version.
    pub plugin: u32,
    /// The last revision of any object.
    pub revision: u64,
    /// The last schedule.
    pub schedule: u32,
}

/// A tenant at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: Name,
    /// When it was created.
    pub created_at: Timestamp,
    /// Changed by each write to it.
    pub revision: u64,
    /// It was deleted here; its id never comes back, whoever still thinks that it lives here.
    pub closed: bool,
}

/// Where a tenant lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantHome {
    /// Its id.
    pub id: TenantId,
    /// Its home shard.
    pub shard: pointsman_model::ShardId,
    /// When it was created.
    pub created_at: Timestamp,
    /// Changed by each write to it.
    pub revision: u64,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: Arc<str>,
    /// Whose it is.
    pub tenant: TenantId,
    /// Name of its tenant.
    pub tenant_name: Name,
    /// sha256 of the secret part.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: Arc<[Scope]>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Changed by each write to it.
    pub revision: u64,
}

impl Token {
    /// True if it has the scope `operator`.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.scopes.contains(&Scope::Operator)
    }
}

/// What a tenant has used since it was created, and how long its audit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Messages stored.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Audit rows.
    pub audit_rows: u64,
}

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// When, ms.
    pub at: u64,
    /// The tenant's name; it may be gone by now.
    pub tenant: String,
    /// Who.
    pub author: command::Author,
    /// `create`, `replace`, `delete` or `revoke`.
    pub action: String,
    /// What: a path below the tenant, `tenant` for the tenant itself.
    pub target: String,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: Name,
    /// Its settings; `queues` is always `Some`.
    pub config: command::TopicConfig,
    /// Bumped by each change of it or of its bindings.
    pub generation: Generation,
    /// Changed by each write to it.
    pub revision: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Ordering-key slots.
    pub slots: SlotTable,
}

impl Topic {
    /// How many queues it has.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.config.queues.unwrap_or(pointsman_model::limits::QUEUES_DEFAULT)
    }
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: Name,
    /// Its settings, as last written.
    pub config: command::GroupConfig,
    /// Ids of the topics in `config.topics`, in the same order.
    pub topic_ids: Vec<TopicId>,
    /// Bumped by each change of it or of its bindings.
    pub generation: Generation,
    /// Changed by each write to it.
    pub revision: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Nothing is leased.
    pub paused: bool,
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its id.
    pub id: BindingId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, `{group}:{topic}` for a shorthand filter.
    pub name: Name,
    /// Its settings.
    pub config: command::BindingConfig,
    /// Id of the topic it names.
    pub topic: Option<TopicId>,
    /// Id of the group it names.
    pub group: Option<GroupId>,
    /// sha256 of the component.
    pub digest: [u8; 32],
    /// Generation of its target when it was written: which code judged is told by this.
    pub generation: Generation,
    /// Changed by each write to it.
    pub revision: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Written in a group, not by name.
    pub shorthand: bool,
}

/// An uploaded version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginVersion {
    /// Its id.
    pub id: PluginVersionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What was committed.
    pub commit: command::PluginCommit,
    /// When.
    pub created_at: Timestamp,
}

/// The ends of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEnds {
    /// First offset that may still be read.
    pub earliest: u64,
    /// The offset the next message gets.
    pub latest: u64,
    /// Bytes of the records of all its messages.
    pub bytes: u64,
}

impl State {
    /// The topic of that name.
    #[must_use]
    pub fn topic(&self, tenant: TenantId, name: &str) -> Option<&Topic> {
        self.topics_by_name.get(&(tenant, name) as &dyn TenantName).and_then(|id| self.topics.get(id))
    }

    /// The group of that name.
    #[must_use]
    pub fn group(&self, tenant: TenantId, name: &str) -> Option<&Group> {
        self.groups_by_name.get(&(tenant, name) as &dyn TenantName).and_then(|id| self.groups.get(id))
    }

    /// The schedule of that name.
    #[must_use]
    pub fn schedule(&self, tenant: TenantId, name: &str) -> Option<&Schedule> {
        self.schedules_by_name.get(&(tenant, name) as &dyn TenantName).and_then(|id| self.schedules.get(id))
    }

    /// The binding of that name.
    #[must_use]
    pub fn binding(&self, tenant: TenantId, name: &str) -> Option<&Binding> {
        self.bindings_by_name.get(&(tenant, name) as &dyn TenantName).and_then(|id| self.bindings.get(id))
    }

    /// The uploaded plugin version of that name.
    #[must_use]
    pub fn plugin(&self, tenant: TenantId, name: &str, version: &str) -> Option<&PluginVersion> {
        let versions = self.plugins_by_name.get(&(tenant, name) as &dyn TenantName)?;
        versions.get(version).and_then(|id| self.plugins.get(id))
    }

    /// True if calls need a token.
    #[must_use]
    pub fn has_operator_token(&self) -> bool {
        self.operator_tokens > 0
    }

    /// What a tenant may use.
    #[must_use]
    pub fn quota(&self, tenant: TenantId) -> command::Quota {
        self.quotas.get(&tenant).map(|(quota, _)| *quota).unwrap_or_default()
    }

    /// Ends of a queue; empty if it never had a message.
    #[must_use]
    pub fn ends(&self, topic: TopicId, queue: QueueId) -> QueueEnds {
        self.queues.get(&(topic, queue)).copied().unwrap_or_default()
    }

    /// The group's cursor in a queue; at 0 if nothing of the queue is settled.
    #[must_use]
    pub fn cursor(&self, group: GroupId, topic: TopicId, queue: QueueId) -> Option<&Cursor> {
        self.cursors.get(&(group, topic, queue))
    }

    /// The group's floor in a queue: all below is settled. A queue younger than the group starts at 0.
    #[must_use]
    pub fn floor(&self, group: GroupId, topic: TopicId, queue: QueueId) -> QueueOffset {
        self.cursors.get(&(group, topic, queue)).map_or(QueueOffset(0), Cursor::floor)
    }
}
