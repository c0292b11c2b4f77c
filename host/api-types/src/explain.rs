//! What happened to a message, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dlq::Attempt;
use crate::{Decimal, Time};

/// A binding as it judged a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JudgedBy {
    /// Its name; null if it is gone since.
    pub binding: Option<String>,
    /// Generation of its topic or group when it judged.
    pub generation: u32,
    /// The plugin; null if the binding was changed since.
    pub plugin: Option<String>,
    /// The plugin's version.
    pub version: Option<String>,
    /// Digest of the component, `sha256:…`.
    pub digest: Option<String>,
}

/// How the queue of a message was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Routed {
    /// `explicit`, `slot`, `selector`, `fallback` or `round-robin`.
    pub by: String,
    /// The topic it was published to, where a selector sent it elsewhere.
    pub source: Option<String>,
    /// Who judged it at publish.
    pub judged: Vec<JudgedBy>,
}

/// The key under which a message is stored once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DedupKey {
    /// The key.
    pub key: String,
    /// `producer` or `plugin`.
    pub by: String,
    /// How long it is remembered.
    pub window_ms: u64,
}

/// Why a group did or did not get a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The message.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// Its queue; null until it is visible.
    pub queue: Option<u16>,
    /// Its offset; null until it is visible.
    pub offset: Option<Decimal>,
    /// Its store time; null until it is visible.
    pub stored_at: Option<Time>,
    /// When it becomes visible, if it waits for that.
    pub deliver_at: Option<Time>,
    /// How its queue was chosen.
    pub routed: Routed,
    /// Under which key it is stored once.
    pub dedup: Option<DedupKey>,
    /// The group.
    pub group: String,
    /// The group's generation now.
    pub generation: u32,
    /// `deliver`, `skip` or `failed`: what the group's filter says; null of a message that is not the group's.
    pub verdict: Option<String>,
    /// Why the filter failed, and what its binding makes of that.
    pub reason: Option<String>,
    /// The filter's binding; null if the group has none for the topic.
    pub binding: Option<String>,
    /// Its plugin.
    pub plugin: Option<String>,
    /// The plugin's version.
    pub version: Option<String>,
    /// Digest of the component, `sha256:…`.
    pub digest: Option<String>,
    /// The verdict is no record: the filter, as it is now, was asked again.
    pub recomputed: bool,
    /// `not-subscribed`, `scheduled`, `waiting`, `leased`, `retrying`, `settled`, `skipped`, `expired` or
    /// `dead-lettered`.
    pub state: String,
    /// The delivery that runs or comes next.
    pub attempt: Option<u16>,
    /// When it comes, if it waits for a time.
    pub due_at: Option<Time>,
    /// Who has it, if it is leased and they said.
    pub client_id: Option<String>,
    /// When it was leased.
    pub delivered_at: Option<Time>,
    /// When the lease runs out.
    pub lease_expires_at: Option<Time>,
    /// How the attempts before ended.
    pub history: Vec<Attempt>,
    /// Why it was given up, if it was.
    pub dead_reason: Option<String>,
    /// When.
    pub dead_at: Option<Time>,
    /// When it was redriven.
    pub redriven_at: Option<Time>,
}

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceEvent {
    /// When; null where only that it happened is known.
    pub at: Option<Time>,
    /// `published`, `routed`, `delivered`, `nacked`, `expired`, `dead-lettered`, `redriven`, `skipped`, `settled`.
    pub event: String,
    /// The group.
    pub group: Option<String>,
    /// Which delivery.
    pub attempt: Option<u16>,
    /// Who had it.
    pub client_id: Option<String>,
    /// The words of whoever ended it.
    pub reason: Option<String>,
    /// How it was routed; what was decided after a failed attempt.
    pub decision: Option<String>,
    /// When again.
    pub delay_ms: Option<u64>,
    /// The binding that decided.
    pub binding: Option<String>,
    /// The generation it did that under.
    pub generation: Option<u32>,
}
