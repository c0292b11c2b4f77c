//! Newtypes for the numbers of the formats, so that two of them are never mixed.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The plain number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The number after this one. Panics on overflow: these counters cannot wrap in practice.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// A shard: one Raft group with one CommitLog. Shard 0 is the metadata shard.
    ShardId(u16)
);
number!(
    /// A node of a cluster, as `--node-id` numbers it.
    NodeId(u32)
);
number!(
    /// A tenant; a counter of the metadata shard, never reused.
    TenantId(u32)
);
number!(
    /// A topic; a counter of its shard, never reused.
    TopicId(u32)
);
number!(
    /// A consumer group; a counter of its shard, never reused.
    GroupId(u32)
);
number!(
    /// A binding; a counter of its shard, never reused.
    BindingId(u32)
);
number!(
    /// One uploaded version of a plugin; a counter of its shard, never reused.
    PluginVersionId(u32)
);
number!(
    /// A queue of a topic, from 0.
    QueueId(u16)
);
number!(
    /// The place of a message in its queue, from 0, dense.
    QueueOffset(u64)
);
number!(
    /// A Raft term.
    Term(u64)
);
number!(
    /// The index of an entry in a shard's Raft log.
    LogIndex(u64)
);
number!(
    /// The place of a record in its entry, from 0.
    Ordinal(u16)
);
number!(
    /// A byte in a shard's log since its birth; counts frame bytes only.
    LogPosition(u64)
);
number!(
    /// The revision of what judges: bumped by each entry that changes a topic, a group or its bindings.
    Generation(u32)
);
number!(
    /// Which delivery of a message to a group this is, from 1.
    Attempt(u16)
);

impl ShardId {
    /// The shard that holds nodes, shards, tokens and tenants.
    pub const METADATA: Self = Self(0);
}

impl Attempt {
    /// The first delivery.
    pub const FIRST: Self = Self(1);
}
