//! The heads of the records, as postcard writes them. `FORMATS.md`, Commands.
//!
//! Field order is the format: fields and variants are added at the end only. The record's header carries kind,
//! tenant, topic, queue, priority, generation and born time; a publish's payload and a plugin's bytes are the body.

mod binding;
mod delivery;
mod publish;
mod schedule;
mod settings;
mod transaction;
mod trim;

use serde::{Deserialize, Serialize};

pub use binding::{BindingConfig, FailurePolicy, Slot, SlotTarget};
pub use delivery::{
    AttemptEnd, DeadLetterChange, DeadLetterOp, DecidedBy, Decision, Expire, Grant, LeaseRef, RecordRef, Seek,
    SeekMove, Settle, SettleItem, SettleOp, Skip,
};
pub use publish::{Cause, Dedup, DedupBy, Judged, Origin, Park, Place, Placement, PublishHead, Source};
pub use schedule::{ScheduleConfig, ScheduleMessage, ScheduleRan};
pub use settings::{Durability, GroupConfig, GroupTopic, Ordering, Shorthand, Start, TopicConfig};
pub use transaction::{
    CheckTable, CheckVia, Delay, ResolvedBy, TransactionChecked, TransactionMeta, TransactionResolve,
    TransactionVerdict,
};
pub use trim::{Trim, TrimStep};

/// Head of a `timer-change` record: about a message that waits for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerChange {
    /// The record it is parked in.
    pub place: Place,
    /// What happens to it.
    pub op: TimerOp,
}

/// What happens to a message that waits for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerOp {
    /// It is never delivered.
    Cancel,
    /// It is due at another time, ms.
    Due(u64),
}

/// Head of a `config-put` record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigPut {
    /// What the caller demands of the object before the write.
    pub expect: Expect,
    /// The object as it shall be.
    pub object: Object,
    /// Who wrote it.
    pub author: Author,
}

/// Head of a `config-delete` record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigDelete {
    /// What the caller demands of the object before the write.
    pub expect: Expect,
    /// The object that goes.
    pub target: Target,
    /// Who deleted it.
    pub author: Author,
}

/// Who changed the configuration, for the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Id of the token, `operator` for a local caller without one, `node` for the broker itself.
    pub by: String,
    /// The request.
    pub request_id: String,
}

/// A precondition on an object's revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// None.
    #[default]
    Anything,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match: *`.
    Present,
    /// `If-Match` with these revisions.
    Revision(Vec<u64>),
}

/// A configuration object to create or replace. Names, not ids: `apply` looks them up and allocates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Object {
    /// Metadata shard: a tenant's id and home.
    TenantHome {
        /// Name of the tenant.
        name: String,
        /// Home shard, used when the tenant is new.
        shard: u16,
    },
    /// Home shard: the tenant itself, under the id that the metadata shard gave.
    Tenant {
        /// Name of the tenant.
        name: String,
        /// Id given by the metadata shard.
        id: u32,
    },
    /// Metadata shard: a key that receipts and cursors are signed with.
    ClusterKey {
        /// Number of the key; the newest signs.
        id: u8,
        /// The secret.
        secret: [u8; 32],
    },
    /// A topic of the header's tenant.
    Topic {
        /// Name of the topic.
        name: String,
        /// Its settings.
        config: TopicConfig,
    },
    /// A group of the header's tenant.
    Group {
        /// Name of the group.
        name: String,
        /// Its settings.
        config: GroupConfig,
    },
    /// A binding of the header's tenant, named by its user.
    Binding {
        /// Name of the binding.
        name: String,
        /// Its settings.
        config: BindingConfig,
    },
    /// Whether a group is paused. Its revision stays.
    Pause {
        /// Name of the group.
        group: String,
        /// Nothing is leased.
        paused: bool,
    },
    /// Metadata shard: a token of a tenant. It never changes.
    Token {
        /// Its id: the part of the bearer token that is no secret.
        id: String,
        /// Name of its tenant.
        tenant: String,
        /// sha256 of the secret part.
        hash: [u8; 32],
        /// What it may do (`model::scope`).
        scopes: Vec<String>,
        /// When it expires, ms.
        expires_at: Option<u64>,
    },
    /// Home shard: how much the header's tenant may use.
    Quota(Quota),
    /// A schedule of the header's tenant.
    Schedule {
        /// Name of the schedule.
        name: String,
        /// Its settings.
        config: ScheduleConfig,
        /// When it is due first, ms; `None` is never.
        next: Option<u64>,
    },
    /// Metadata shard: a node of the cluster.
    Node {
        /// Its number.
        id: u32,
        /// How often it was replaced by an empty one; never goes back.
        incarnation: u32,
        /// Where other nodes reach it.
        peer_address: String,
        /// Where clients reach it.
        address: String,
    },
}

/// How much a tenant may use; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Messages published a second.
    pub messages_per_s: Option<u64>,
    /// Bytes of payload published a second.
    pub bytes_per_s: Option<u64>,
    /// Bytes that stored messages take.
    pub storage_bytes: Option<u64>,
    /// Topics.
    pub topics: Option<u32>,
    /// Groups.
    pub groups: Option<u32>,
    /// Uploaded plugin versions.
    pub plugins: Option<u32>,
    /// Open streams.
    pub connections: Option<u32>,
    /// Fuel that its plugins burn a second.
    pub plugin_fuel_per_s: Option<u64>,
}

/// Which configuration object goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A topic; refused while groups or bindings use it.
    Topic(String),
    /// A group; takes its bindings, cursors and retry set along.
    Group(String),
    /// A binding that its user named.
    Binding(String),
    /// A plugin version; refused while bindings use it.
    PluginVersion(String, String),
    /// Metadata shard: a token of the named tenant, which is revoked: tenant, id.
    Token(String, String),
    /// Home shard: the tenant itself; refused while it has topics or groups.
    Tenant(String),
    /// Metadata shard: the tenant's id and home, and its tokens; refused while one of them is an operator's.
    TenantHome(String),
    /// A schedule.
    Schedule(String),
}

/// Head of a `plugin-chunk` record; the body is the piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginChunk {
    /// sha256 of the whole component.
    pub digest: [u8; 32],
    /// Which piece, from 0; all but the last are [`pointsman_model::limits::PLUGIN_CHUNK_BYTES`] long.
    pub chunk: u32,
}

/// Head of a `plugin-commit` record: the pieces become a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginCommit {
    /// Name of the plugin.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// sha256 of the whole component.
    pub digest: [u8; 32],
    /// Kind of plugin.
    pub slot: Slot,
    /// Bytes of the component.
    pub size_bytes: u32,
    /// Imports by name.
    pub imports: Vec<String>,
    /// What the inspection remarked.
    pub warnings: Vec<String>,
    /// How long the compilation took on the leader.
    pub compile_ms: u32,
    /// Who uploaded it.
    pub author: Author,
}
