//! What happened to a message, and why.

use pointsman_model::{MessageId, QueueId, QueueOffset, Timestamp};

use super::AttemptView;

/// A binding as it judged a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgedBy {
    /// Its name; `None` if it is gone since.
    pub binding: Option<String>,
    /// Generation of its topic or group when it judged.
    pub generation: u32,
    /// The plugin, if the binding is what it was.
    pub plugin: Option<String>,
    /// The plugin's version.
    pub version: Option<String>,
    /// sha256 of the component.
    pub digest: Option<[u8; 32]>,
}

/// How the queue of a message was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// `explicit`, `slot`, `selector`, `fallback` or `round-robin`.
    pub by: &'static str,
    /// The topic it was published to, where a selector sent it elsewhere.
    pub source: Option<String>,
    /// Who judged it at publish.
    pub judged: Vec<JudgedBy>,
}

/// The key under which a message is stored once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplicated {
    /// The key.
    pub key: String,
    /// `producer` or `plugin`.
    pub by: &'static str,
    /// How long it is remembered.
    pub window_ms: u64,
}

/// What a group's filter says of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSaid {
    /// The filter; `None` if the group has none for the topic.
    pub judged: Option<JudgedBy>,
    /// `deliver`, `skip` or `failed`.
    pub verdict: &'static str,
    /// Why it failed, and what its binding makes of that.
    pub reason: Option<String>,
}

/// Where a group stands with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// `not-subscribed`, `scheduled`, `waiting`, `leased`, `retrying`, `settled`, `skipped`, `expired` or `dead-lettered`.
    pub state: &'static str,
    /// The delivery that runs or comes next.
    pub attempt: Option<u16>,
    /// When it comes, if it waits for a time.
    pub due_at: Option<Timestamp>,
    /// Who has it, if it is leased and they said.
    pub client_id: Option<String>,
    /// When it was leased.
    pub delivered_at: Option<Timestamp>,
    /// When the lease runs out.
    pub lease_expires_at: Option<Timestamp>,
    /// How the attempts before ended.
    pub history: Vec<AttemptView>,
    /// Why it was given up, if it was.
    pub dead_reason: Option<String>,
    /// When.
    pub dead_at: Option<Timestamp>,
    /// When it was redriven.
    pub redriven_at: Option<Timestamp>,
}

/// Why a group did or did not get a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The message.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// Its queue, once it is visible.
    pub queue: Option<QueueId>,
    /// Its offset, once it is visible.
    pub offset: Option<QueueOffset>,
    /// Its store time, once it is visible.
    pub stored_at: Option<Timestamp>,
    /// When it becomes visible, if it waits for that.
    pub deliver_at: Option<Timestamp>,
    /// How its queue was chosen.
    pub routed: Routed,
    /// Under which key it is stored once.
    pub dedup: Option<Deduplicated>,
    /// The group.
    pub group: String,
    /// The group's generation now.
    pub generation: u32,
    /// What the group's filter says now; `None` of a message that is not visible or not the group's.
    pub filter: Option<FilterSaid>,
    /// Where the group stands with it.
    pub standing: Standing,
}

/// Something that happened to a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceEvent {
    /// When; `None` where only that it happened is known.
    pub at: Option<Timestamp>,
    /// `published`, `routed`, `delivered`, `nacked`, `expired`, `dead-lettered`, `redriven`, `skipped`, `settled`.
    pub event: &'static str,
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
