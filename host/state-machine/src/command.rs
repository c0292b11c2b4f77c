//! The heads of the records, as postcard writes them. `FORMATS.md`, Commands.
//!
//! Field order is the format: fields and variants are added at the end only. The record's header carries kind,
//! tenant, topic, queue, priority, generation and born time; a publish's payload and a plugin's bytes are the body.

mod binding;
mod delivery;
mod schedule;

use pointsman_model::{LogIndex, MessageId, Ordinal, ShardId, Term, TransactionId};
use serde::{Deserialize, Serialize};

pub use binding::{BindingConfig, FailurePolicy, Slot, SlotTarget};
pub use delivery::{
    AttemptEnd, DeadLetterChange, DeadLetterOp, DecidedBy, Decision, Expire, Grant, LeaseRef, RecordRef, Seek,
    SeekMove, Settle, SettleItem, SettleOp, Skip,
};
pub use schedule::{ScheduleConfig, ScheduleMessage, ScheduleRan};

/// Head of a `publish` record. Borrowed, so that `apply` copies nothing it does not keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishHead<'a> {
    /// Media type of the payload.
    #[serde(borrow)]
    pub content_type: Option<&'a str>,
    /// The tag.
    #[serde(borrow)]
    pub tag: Option<&'a str>,
    /// Keys for look-ups.
    #[serde(borrow)]
    pub keys: Vec<&'a str>,
    /// The ordering key.
    #[serde(borrow)]
    pub ordering_key: Option<&'a str>,
    /// Names and values in the order given.
    #[serde(borrow)]
    pub properties: Vec<(&'a str, &'a str)>,
    /// Time to live from the store time on; 0 is none.
    pub ttl_ms: u64,
    /// The producer's `traceparent`.
    #[serde(borrow)]
    pub trace: Option<&'a str>,
    /// How the queue was chosen.
    pub placement: Placement,
    /// Bindings that judged this message, with the generation they ran under.
    pub judged: Vec<Judged>,
    /// Set when a selector sent the message from another topic: that topic, whose generation is fenced too.
    pub source: Option<Source>,
    /// Under which key it is stored once.
    #[serde(borrow)]
    pub dedup: Option<Dedup<'a>>,
    /// Set in a `publish-parked` record: what it waits for.
    pub park: Option<Park>,
    /// Set in a `publish-from` record: where the message was before.
    pub origin: Option<Origin>,
    /// Set in the first half of a transaction: what holds for all of it.
    #[serde(borrow)]
    pub transaction: Option<TransactionMeta<'a>>,
}

/// What a transaction is, beside its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionMeta<'a> {
    /// Who answers for it, where no plugin does.
    pub producer_group: &'a str,
    /// The producer's name for it: preparing it again finds it.
    #[serde(borrow)]
    pub key: Option<&'a str>,
    /// xxh3-128 of what was prepared: the same key for something else is a mistake.
    pub fingerprint: u128,
    /// The topic that it was prepared at, whose check-back plugin is asked.
    pub topic: u32,
    /// When it is asked about.
    pub check: CheckTable,
    /// Delays of its records, by how far behind the first they lie; they run from the commit.
    pub delays: Vec<(u16, Delay)>,
}

/// When a transaction without a verdict is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTable {
    /// From the prepare to the first check.
    pub after_ms: u64,
    /// From a check to the next, and from the last to the end.
    pub interval_ms: u64,
    /// How many checks.
    pub max: u16,
    /// Who is asked.
    pub via: CheckVia,
}

/// Who is asked what became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckVia {
    /// The check-back plugin of its topic.
    Plugin,
    /// A producer of its group.
    Producer,
}

/// How long a message waits after its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// So many ms.
    For(u64),
    /// Until a time, ms.
    Until(u64),
}

/// Head of a `transaction-resolve` record. A commit is the first record of a unit: the visible copies of all parts that
/// have no delay follow it. Header: the topic and its generation where a plugin gave the verdict, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionResolve {
    /// The transaction: index and ordinal of its first record.
    pub transaction: (u64, u16),
    /// What becomes of it.
    pub verdict: TransactionVerdict,
    /// Who says so.
    pub by: ResolvedBy,
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionVerdict {
    /// Its messages become visible.
    Commit,
    /// Its messages never become visible.
    Rollback,
    /// Nobody answered for it in time.
    Expire,
}

/// Who ended a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResolvedBy {
    /// Its producer.
    Producer,
    /// The check-back plugin.
    Plugin(Judged),
    /// The last check went unanswered.
    Timetable,
    /// An operator, over the end of an expired one too.
    Operator,
}

/// Head of a `transaction-checked` record: someone is asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionChecked {
    /// The transaction: index and ordinal of its first record.
    pub transaction: (u64, u16),
    /// Which check, from 1: the next one, or the last one again with another wait.
    pub attempt: u16,
    /// From the entry's stamp to what comes next.
    pub wait_ms: u64,
}

/// The key under which a message is stored once within its topic's window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup<'a> {
    /// The key: the producer's, or the one a plugin named.
    pub key: &'a str,
    /// Who named it. Their keys do not meet.
    pub by: DedupBy,
    /// xxh3-128 of the payload.
    pub fingerprint: u128,
    /// How long the key is remembered, from the store time on.
    pub window_ms: u64,
}

/// Who named a dedup key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DedupBy {
    /// The producer. The same key with another payload is a mistake and refused.
    Producer,
    /// The topic's plugin. Its word alone says what is the same.
    Plugin,
}

/// What a parked message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Park {
    /// A time, ms.
    Until(u64),
    /// The verdict of the transaction whose first record lies so many records before this one.
    Half(u16),
}

/// Where a `publish-from` message was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The record it is a copy of.
    pub place: Place,
    /// Why it is appended again.
    pub cause: Cause,
}

/// A record's place in its shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Term of the entry.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
    /// The record's place in it.
    pub ordinal: u16,
}

impl Place {
    /// The id of the message that lies there.
    #[must_use]
    pub fn message(self, shard: ShardId) -> MessageId {
        let (term, index, ordinal) = (Term(self.term), LogIndex(self.index), Ordinal(self.ordinal));
        MessageId { shard, term, index, ordinal }
    }

    /// The id of the transaction that starts there.
    #[must_use]
    pub fn transaction(self, shard: ShardId) -> TransactionId {
        TransactionId(self.message(shard))
    }
}

/// Why a stored message is appended again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Its time has come. It keeps its id.
    Timer,
    /// Its transaction is committed. It keeps its id.
    Commit,
    /// A dead letter goes to its topic again, as a new message. Holds the group.
    Redrive(u32),
}

/// How the queue of a message was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// The producer named it.
    Explicit,
    /// By the ordering key's slot.
    Slot,
    /// A selector named it.
    Selector,
    /// The selector failed; its binding falls back to the hash.
    Fallback,
    /// Round robin.
    #[default]
    RoundRobin,
}

/// A binding that judged a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The binding.
    pub binding: u32,
    /// The generation of its topic when it judged.
    pub generation: u32,
}

/// The topic a message was published to, where a selector sent it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The topic.
    pub topic: u32,
    /// Its generation when the selector ran.
    pub generation: u32,
}

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

/// Settings of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// `None` keeps the number, or takes the default for a new topic.
    pub queues: Option<u16>,
    /// How long messages are kept.
    pub retention_ms: u64,
    /// How many bytes are kept.
    pub retention_bytes: Option<u64>,
    /// Largest body.
    pub max_message_bytes: u32,
    /// How long a dedup key is remembered.
    pub dedup_window_ms: u64,
    /// What an acknowledged publish means by default.
    pub durability: Durability,
    /// Whether deliveries are traced.
    pub trace_all: bool,
}

/// What an acknowledged publish means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// Fsynced on a majority and applied on the leader.
    #[default]
    Quorum,
    /// Fsynced on the leader.
    Leader,
    /// Taken by the leader.
    None,
}

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// The topics and their filters.
    pub topics: Vec<GroupTopic>,
    /// Where a new topic of the group starts.
    pub start: Start,
    /// Default lease time.
    pub lease_ms: u64,
    /// Deliveries are 1 + this.
    pub max_retries: u16,
    /// Most leases at once.
    pub max_inflight: u32,
    /// How long dead letters are kept.
    pub dlq_retention_ms: u64,
    /// What keeps its order.
    pub ordering: Ordering,
}

/// What keeps its order in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ordering {
    /// Nothing.
    #[default]
    None,
    /// One message of an ordering key at a time; those without are free.
    Key,
    /// One run of a queue at a time.
    Queue,
}

/// A topic of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupTopic {
    /// Name of the topic.
    pub topic: String,
    /// The filter, as given and as resolved by the leader.
    pub filter: Option<Shorthand>,
    /// For [`Start::Time`]: first offset at or after it, per queue, found by the leader.
    pub start_offsets: Vec<u64>,
}

/// A filter written in a group; stored as the binding `{group}:{topic}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shorthand {
    /// `Some` if it was written as `{"tags": …}`: the expression as given.
    pub tags: Option<String>,
    /// What it stands for.
    pub binding: BindingConfig,
}

/// Where a group starts in a topic that is new to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// At the end.
    #[default]
    Latest,
    /// At the first message kept.
    Earliest,
    /// At the first message stored at or after this time, ms.
    Time(u64),
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
