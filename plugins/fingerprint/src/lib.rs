//! The built-in dedup `fingerprint`: one message of a kind within the topic's window.
//!
//! The key is the payload's xxh3-128 in hexadecimal. Config, all of it optional: `{"tag": true, "ttl_ms": 60000}`. With
//! `tag` the tag belongs to the key: the same payload under another tag is another message. `ttl_ms` is how long a key is
//! remembered, at most 7 days, where the topic's window is not meant.

use std::time::Duration;

use pointsman_plugin::{Dedup, Key, Message, Plan, export_dedup};
use serde::Deserialize;

/// Longest time that a key may be remembered.
const TTL_MS_MAX: u64 = 7 * 24 * 3_600_000;
const HEX: &[u8; 16] = b"0123456789abcdef";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fingerprint {
    #[serde(default)]
    tag: bool,
    ttl_ms: Option<u64>,
}

impl Dedup for Fingerprint {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        if config.ttl_ms.is_some_and(|ms| !(1..=TTL_MS_MAX).contains(&ms)) {
            return Err(format!("`ttl_ms` is from 1 to {TTL_MS_MAX}"));
        }
        Ok(config)
    }

    fn plan(&self) -> Plan {
        let plan = Plan::new().body_hash();
        if self.tag { plan.tag() } else { plan }
    }

    fn key(&self, message: &Message<'_>) -> Option<Key> {
        let mut hex = [0; 32];
        for (digits, byte) in hex.chunks_exact_mut(2).zip(message.body_hash().to_be_bytes()) {
            digits[0] = HEX[usize::from(byte >> 4)];
            digits[1] = HEX[usize::from(byte & 15)];
        }
        let mut text = String::from_utf8(hex.to_vec()).unwrap_or_default();
        if self.tag
            && let Some(tag) = message.tag()
        {
            text.push('/');
            text.push_str(tag);
        }
        let key = Key::new(text);
        Some(match self.ttl_ms {
            Some(ms) => key.remembered_for(Duration::from_millis(ms)),
            None => key,
        })
    }
}

export_dedup!(Fingerprint);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, keys};

    fn check(config: &str, sample: Sample, expected: &str) {
        let dedup = Fingerprint::new(config.as_bytes()).expect("valid");
        assert_eq!(keys(&dedup, &sample), Ok(Some(Key::new(expected))), "{config}");
    }

    #[test]
    fn the_payload_is_the_key_and_maybe_the_tag() {
        let hash = 0x0123_4567_89ab_cdef_0000_0000_0000_00ff;
        let text = "0123456789abcdef00000000000000ff";
        check("{}", Sample::new().body_hash(hash).tag("t"), text);
        check(r#"{"tag":true}"#, Sample::new().body_hash(hash).tag("t"), &format!("{text}/t"));
        check(r#"{"tag":true}"#, Sample::new().body_hash(hash), text);
        check("{}", Sample::new(), &"0".repeat(32));
    }

    #[test]
    fn it_says_how_long() {
        let dedup = Fingerprint::new(br#"{"ttl_ms":9}"#).expect("valid");
        let key = keys(&dedup, &Sample::new()).expect("judged").expect("a key");
        assert_eq!(key.time(), Some(Duration::from_millis(9)));
    }

    #[test]
    fn a_bad_config_is_refused() {
        for config in [r#"{"ttl_ms":0}"#, r#"{"ttl_ms":604800001}"#, r#"{"tags":true}"#] {
            assert!(Fingerprint::new(config.as_bytes()).is_err(), "{config}");
        }
    }
}
