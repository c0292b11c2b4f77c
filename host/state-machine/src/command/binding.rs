//! Settings of a binding: which plugin judges for whom, and what happens when it cannot.

use pointsman_model::judge::Kind;
use serde::{Deserialize, Serialize};

/// Settings of a binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingConfig {
    /// Kind of plugin, as in the API.
    pub slot: Slot,
    /// Name of the topic, where the slot names one.
    pub topic: Option<String>,
    /// Name of the group, where the slot names one.
    pub group: Option<String>,
    /// Name of the plugin, `builtin/…` for the ones that come with the broker.
    pub plugin: String,
    /// Version of the plugin.
    pub version: String,
    /// Digest of a built-in; an uploaded plugin's is looked up by `apply`.
    pub builtin_digest: Option<[u8; 32]>,
    /// Config bytes handed to `init`: the JSON text as given, `{}` if absent.
    pub config: Vec<u8>,
    /// Selector: also place messages with an ordering key.
    pub keyed: bool,
    /// What happens to a message the plugin could not judge.
    pub on_failure: FailurePolicy,
    /// Limits of a call; `None` is the default.
    pub fuel: Option<u64>,
    /// Linear memory.
    pub memory_bytes: Option<u32>,
    /// Wall-clock time.
    pub wall_ms: Option<u32>,
}

/// The kinds of plugin that can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// Where a message goes.
    Selector,
    /// Whether a group sees it.
    Filter,
    /// Under which key it is the same as another.
    Dedup,
    /// When it is delivered again.
    Retry,
    /// What became of a transaction.
    CheckBack,
}

/// What a binding of a slot judges for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotTarget {
    /// A topic, and no group.
    Topic,
    /// A group, and no topic.
    Group,
    /// A group, and maybe one of its topics.
    GroupTopic,
}

impl Slot {
    /// The kind of plugin that it takes.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Selector => Kind::Selector,
            Self::Filter => Kind::Filter,
            Self::Dedup => Kind::Dedup,
            Self::Retry => Kind::Retry,
            Self::CheckBack => Kind::CheckBack,
        }
    }

    /// What its bindings name.
    #[must_use]
    pub const fn target(self) -> SlotTarget {
        match self {
            Self::Selector | Self::Dedup | Self::CheckBack => SlotTarget::Topic,
            Self::Retry => SlotTarget::Group,
            Self::Filter => SlotTarget::GroupTopic,
        }
    }

    /// The policies it allows; the first is its default.
    #[must_use]
    pub const fn policies(self) -> &'static [FailurePolicy] {
        match self {
            Self::Selector => &[FailurePolicy::Hash, FailurePolicy::Refuse],
            Self::Filter => &[FailurePolicy::Deliver, FailurePolicy::Skip, FailurePolicy::Pause],
            Self::Dedup => &[FailurePolicy::Keep, FailurePolicy::Refuse],
            Self::Retry => &[FailurePolicy::Default, FailurePolicy::DeadLetter],
            Self::CheckBack => &[FailurePolicy::Unknown],
        }
    }
}

/// What happens to a message the plugin could not judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailurePolicy {
    /// Selector: by hash.
    Hash,
    /// Selector, dedup: refuse the publish.
    Refuse,
    /// Filter: deliver.
    Deliver,
    /// Filter: skip.
    Skip,
    /// Filter: stop until it behaves.
    Pause,
    /// Dedup: store it without a key.
    Keep,
    /// Retry: by the default table.
    Default,
    /// Retry: to the dead-letter queue.
    DeadLetter,
    /// Check-back: no verdict yet.
    Unknown,
}
