//! The one hash (xxh3-64, seed 0) and the one body fingerprint (xxh3-128) of the formats.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::limits;

/// Hashes bytes with xxh3-64, seed 0.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The hash of a tag as a ConsumeQueue entry holds it; 0 stands for "no tag" alone.
#[must_use]
pub fn tag_hash(tag: Option<&str>) -> u64 {
    tag.map_or(0, |tag| hash(tag.as_bytes()).max(1))
}

/// The hash of an ordering key as a ConsumeQueue entry holds it; 0 stands for "no key" alone.
#[must_use]
pub fn ordering_key_hash(key: Option<&str>) -> u64 {
    tag_hash(key)
}

/// The key slot of an ordering key (`DESIGN.md` §5): its hash mod 4,096.
#[must_use]
pub fn key_slot(ordering_key: &str) -> u16 {
    (hash(ordering_key.as_bytes()) % u64::from(limits::KEY_SLOTS)) as u16
}

/// Names a dedup key in a topic's table: xxh3-128 of who named it and the key. Their keys never meet.
///
/// # Panics
/// If the key is longer than [`limits::IDEMPOTENCY_KEY_STORED_BYTES_MAX`].
#[must_use]
pub fn dedup_hash(by: u8, key: &str) -> u128 {
    let mut bytes = [0; 1 + limits::IDEMPOTENCY_KEY_STORED_BYTES_MAX];
    bytes[0] = by;
    bytes[1..=key.len()].copy_from_slice(key.as_bytes());
    xxh3_128(&bytes[..=key.len()])
}

/// Fingerprints a message body with xxh3-128.
#[must_use]
pub fn fingerprint(body: &[u8]) -> u128 {
    xxh3_128(body)
}
