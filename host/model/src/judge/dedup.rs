//! What a dedup plugin answers: the key under which a message is stored once.

/// The key that a dedup plugin named. A plugin that names none stores the message without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupKey {
    /// 1 to [`crate::limits::DEDUP_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// How long the key is remembered, at most [`crate::limits::DEDUP_WINDOW_MS_MAX`]; `None` is the topic's window.
    pub ttl_ms: Option<u32>,
}
