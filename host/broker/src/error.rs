//! What a use case answers instead of a value. One variant for each code of the contract that can come from here.

/// A refusal or a failure. The HTTP edge maps each variant to one code in one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `invalid-request`.
    #[error("{detail}")]
    InvalidRequest {
        /// JSON pointer to the field, or the name of a query parameter or header.
        pointer: String,
        /// What is wrong.
        detail: String,
    },
    /// `invalid-name`.
    #[error("{detail}")]
    InvalidName {
        /// JSON pointer, or empty for the path.
        pointer: String,
        /// What is wrong.
        detail: String,
    },
    /// `invalid-cursor`.
    #[error("{detail}")]
    InvalidCursor {
        /// What is wrong.
        detail: String,
    },
    /// `invalid-filter`.
    #[error("{detail}")]
    InvalidFilter {
        /// JSON pointer to the filter.
        pointer: String,
        /// The plugin's words.
        detail: String,
        /// Where in the expression, if known, in characters from 0.
        position: Option<u64>,
    },
    /// `unauthenticated`.
    #[error("{0}")]
    Unauthenticated(String),
    /// `token-expired`.
    #[error("the token has expired")]
    TokenExpired,
    /// `token-revoked`.
    #[error("the token was revoked")]
    TokenRevoked,
    /// `forbidden`.
    #[error("{0}")]
    Forbidden(String),
    /// `token-not-found`.
    #[error("no such token")]
    TokenNotFound,
    /// `tenant-not-found`.
    #[error("no such tenant")]
    TenantNotFound,
    /// `topic-not-found`.
    #[error("no topic `{0}`")]
    TopicNotFound(String),
    /// `group-not-found`.
    #[error("no group `{0}`")]
    GroupNotFound(String),
    /// `message-not-found`.
    #[error("no such message")]
    MessageNotFound,
    /// `plugin-not-found`.
    #[error("no plugin `{0}`")]
    PluginNotFound(String),
    /// `binding-not-found`.
    #[error("no binding `{0}`")]
    BindingNotFound(String),
    /// `already-exists`.
    #[error("{0}")]
    AlreadyExists(String),
    /// `schedule-not-found`.
    #[error("no schedule `{0}`")]
    ScheduleNotFound(String),
    /// `already-delivered`.
    #[error("the message was delivered already")]
    AlreadyDelivered,
    /// `transaction-not-found`.
    #[error("no such transaction")]
    TransactionNotFound,
    /// `transaction-resolved`. Holds the verdict it has.
    #[error("the transaction is {} already", .0.as_str())]
    TransactionResolved(pointsman_state_machine::state::TransactionState),
    /// `in-use`. Holds the users' names.
    #[error("in use by {}", .0.join(", "))]
    InUse(Vec<String>),
    /// `idempotency-mismatch`.
    #[error("the idempotency key was used for something else")]
    IdempotencyMismatch,
    /// `precondition-failed`.
    #[error("the object is not at the revision asked for")]
    PreconditionFailed,
    /// `offset-expired`.
    #[error("the offset is below {earliest}, the first one kept")]
    OffsetExpired {
        /// First offset kept.
        earliest: u64,
    },
    /// `message-too-large`.
    #[error("the message is larger than the topic's {limit} bytes")]
    MessageTooLarge {
        /// The topic's limit.
        limit: u32,
    },
    /// `batch-too-large`.
    #[error("{0}")]
    BatchTooLarge(String),
    /// `plugin-too-large`.
    #[error("the component is larger than {limit} bytes")]
    PluginTooLarge {
        /// The tenant's limit.
        limit: u32,
    },
    /// `plugin-rejected`: a plugin, or the failure policy of its binding, refused the message.
    #[error("{0}")]
    PluginRejected(String),
    /// `plugin-invalid`. Each entry: pointer, code, detail.
    #[error("the component is not a plugin")]
    PluginInvalid(Vec<Complaint>),
    /// `too-many-inflight`.
    #[error("the group has as many leases as it may have")]
    TooManyInflight {
        /// When to ask again.
        retry_after_ms: u64,
    },
    /// `quota-exceeded`.
    #[error("{0}")]
    QuotaExceeded(String),
    /// `quota-exceeded` by a rate: it passes by itself.
    #[error("{detail}")]
    RateExceeded {
        /// Which.
        detail: String,
        /// When there is room again.
        retry_after_ms: u64,
    },
    /// `no-leader`: surely not done.
    #[error("the shard has no leader right now")]
    NoLeader,
    /// `overloaded`: surely not done.
    #[error("{0}")]
    Overloaded(String),
    /// `draining`.
    #[error("this node is shutting down")]
    Draining,
    /// `plugin-unavailable`.
    #[error("{0}")]
    PluginUnavailable(String),
    /// `storage-failed`.
    #[error("{0}")]
    StorageFailed(String),
    /// `disk-full`: surely not done.
    #[error("the disk is full")]
    DiskFull,
    /// `outcome-unknown`: it may have been done.
    #[error("the outcome is not known")]
    OutcomeUnknown,
    /// `internal`.
    #[error("{0}")]
    Internal(String),
}

/// One thing that is wrong with a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Which check: `not-a-component`, `forbidden-import`, `missing-export`, `wrong-export`, `limit`, `compile`, `smoke`.
    pub code: String,
    /// In words, naming the import or export.
    pub detail: String,
}

impl Error {
    /// An `invalid-request` at `pointer`.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::InvalidRequest { pointer: pointer.into(), detail: detail.into() }
    }
}
