//! What a producer says about a message, checked against the limits.

use bytes::Bytes;

use crate::delay::Delay;
use crate::ids::QueueId;
use crate::{limits, name};

/// A message as a producer hands it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// The payload, untouched.
    pub body: Bytes,
    /// One word that filters look at.
    pub tag: Option<String>,
    /// Business keys for look-ups.
    pub keys: Vec<String>,
    /// Messages of one key keep their order.
    pub ordering_key: Option<String>,
    /// An explicit queue.
    pub queue: Option<QueueId>,
    /// Free names and values, in the order given.
    pub properties: Vec<(String, String)>,
    /// When it is to be delivered; at once if absent.
    pub delay: Option<Delay>,
    /// Time to live from the store time on; 0 or absent is none.
    pub ttl_ms: Option<u64>,
    /// Stored once under this key, within the topic's window.
    pub idempotency_key: Option<String>,
    /// 0 to 9.
    pub priority: u8,
    /// The caller's `traceparent`.
    pub trace: Option<String>,
}

/// A field of a message that breaks a limit. `field` is the JSON name, with an index or key after a slash where one applies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// JSON pointer below the message, without the leading slash.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl Invalid {
    /// An invalid field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl NewMessage {
    /// Checks everything but the size of the body (the topic's limit) and the queue (the topic's number).
    ///
    /// # Errors
    /// The first field that breaks a limit.
    pub fn validate(&self) -> Result<(), Invalid> {
        if let Some(tag) = &self.tag {
            check_tag(tag).map_err(|reason| Invalid::new("tag", reason))?;
        }
        if self.keys.len() > limits::KEYS_MAX {
            return Err(Invalid::new("keys", format!("at most {} keys", limits::KEYS_MAX)));
        }
        for (i, key) in self.keys.iter().enumerate() {
            check_text(key, limits::KEY_BYTES_MAX).map_err(|reason| Invalid::new(format!("keys/{i}"), reason))?;
        }
        if let Some(key) = &self.ordering_key {
            check_text(key, limits::ORDERING_KEY_BYTES_MAX).map_err(|reason| Invalid::new("ordering_key", reason))?;
        }
        if let Some(kind) = &self.content_type {
            check_text(kind, limits::CONTENT_TYPE_BYTES_MAX).map_err(|reason| Invalid::new("content_type", reason))?;
        }
        self.validate_properties()?;
        if let Some(delay) = self.delay {
            delay.validate().map_err(|reason| Invalid::new(delay.field(), reason))?;
        }
        if let Some(key) = &self.idempotency_key {
            check_idempotency_key(key).map_err(|reason| Invalid::new("idempotency_key", reason))?;
        }
        if self.ttl_ms.is_some_and(|ttl| ttl > limits::TTL_MS_MAX) {
            return Err(Invalid::new("ttl_ms", format!("at most {} ms", limits::TTL_MS_MAX)));
        }
        if self.priority > limits::PRIORITY_MAX {
            return Err(Invalid::new("priority", "0 to 9"));
        }
        Ok(())
    }

    fn validate_properties(&self) -> Result<(), Invalid> {
        if self.properties.len() > limits::PROPERTIES_MAX {
            return Err(Invalid::new("properties", format!("at most {} properties", limits::PROPERTIES_MAX)));
        }
        let mut bytes = 0;
        for (key, value) in &self.properties {
            if !name::is_well_formed(key) {
                return Err(Invalid::new(format!("properties/{key}"), name::Error::Malformed.to_string()));
            }
            if value.chars().any(char::is_control) {
                return Err(Invalid::new(format!("properties/{key}"), "no control characters"));
            }
            bytes += key.len() + value.len();
        }
        if bytes > limits::PROPERTIES_BYTES_MAX {
            return Err(Invalid::new("properties", format!("at most {} bytes", limits::PROPERTIES_BYTES_MAX)));
        }
        Ok(())
    }
}

/// Checks a tag: 1 to 128 bytes, no control characters, no `|`, no outer blanks, not `*`.
///
/// # Errors
/// What is wrong, in words.
pub fn check_tag(tag: &str) -> Result<(), String> {
    check_text(tag, limits::TAG_BYTES_MAX)?;
    if tag.contains('|') {
        return Err("a tag holds no `|`".into());
    }
    if tag.trim() != tag {
        return Err("a tag has no outer blanks".into());
    }
    if tag == "*" {
        return Err("`*` is no tag".into());
    }
    Ok(())
}

/// Checks an idempotency key as it is stored: that of one message of many has its place behind the caller's.
///
/// # Errors
/// What is wrong, in words.
pub fn check_stored_idempotency_key(key: &str) -> Result<(), String> {
    check_visible(key, limits::IDEMPOTENCY_KEY_STORED_BYTES_MAX)
}

/// Checks an idempotency key: 1 to 256 visible ASCII characters.
///
/// # Errors
/// What is wrong, in words.
pub fn check_idempotency_key(key: &str) -> Result<(), String> {
    check_visible(key, limits::IDEMPOTENCY_KEY_BYTES_MAX)
}

fn check_visible(key: &str, bytes_max: usize) -> Result<(), String> {
    check_text(key, bytes_max)?;
    if key.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err("visible ASCII characters only".into()) }
}

fn check_text(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if text.len() > bytes_max {
        return Err(format!("at most {bytes_max} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("no control characters".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut NewMessage), expected: Option<&str>) {
        let mut message = NewMessage::default();
        change(&mut message);
        assert_eq!(message.validate().err().map(|e| e.field).as_deref(), expected);
    }

    #[test]
    fn limits_one_below_at_and_above() {
        for (length, bad) in [(127, None), (128, None), (129, Some("tag"))] {
            check(|m| m.tag = Some("t".repeat(length)), bad);
        }
        for (count, bad) in [(15, None), (16, None), (17, Some("keys"))] {
            check(|m| m.keys = vec!["k".into(); count], bad);
        }
        for (length, bad) in [(255, None), (256, None), (257, Some("keys/0"))] {
            check(|m| m.keys = vec!["k".repeat(length)], bad);
        }
        for (length, bad) in [(255, None), (256, None), (257, Some("ordering_key"))] {
            check(|m| m.ordering_key = Some("k".repeat(length)), bad);
        }
        for (length, bad) in [(0, Some("idempotency_key")), (255, None), (256, None), (257, Some("idempotency_key"))] {
            check(|m| m.idempotency_key = Some("k".repeat(length)), bad);
        }
        for bad in ["a b", "\t", "é"] {
            check(|m| m.idempotency_key = Some(bad.into()), Some("idempotency_key"));
        }
        for (count, bad) in [(63, None), (64, None), (65, Some("properties"))] {
            check(|m| m.properties = (0..count).map(|i| (format!("p{i}"), String::new())).collect(), bad);
        }
        for (length, bad) in [(16_382, None), (16_383, None), (16_384, Some("properties"))] {
            check(|m| m.properties = vec![("p".into(), "v".repeat(length))], bad);
        }
        for (priority, bad) in [(8, None), (9, None), (10, Some("priority"))] {
            check(|m| m.priority = priority, bad);
        }
    }

    #[test]
    fn tags() {
        for bad in ["", "a|b", " a", "a ", "*", "a\nb"] {
            assert!(check_tag(bad).is_err(), "{bad:?}");
        }
        assert!(check_tag("paid").is_ok());
        assert!(check_tag("a b*").is_ok());
    }
}
