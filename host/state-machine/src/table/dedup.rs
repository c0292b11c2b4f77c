//! Keys of the tables that remember dedup keys, and the lists by which they are forgotten.

use pointsman_model::{LogIndex, TenantId, TopicId, limits};

use super::{DEDUP, DEDUP_COUNT, DEDUP_EXPIRY, Key, damaged, decode_borrowed, encode_bytes};
use crate::error::Error;

/// Bytes of a hash in a list.
const HASH_BYTES: usize = 16;

/// All keys of a topic: a prefix of [`dedup_key`].
pub(crate) fn dedup_prefix(tenant: TenantId, topic: TopicId) -> Vec<u8> {
    Key::new(DEDUP, tenant).u32(topic.0).0
}

pub(crate) fn dedup_key(tenant: TenantId, topic: TopicId, hash: u128) -> Vec<u8> {
    let mut key = dedup_prefix(tenant, topic);
    key.extend_from_slice(&hash.to_be_bytes());
    key
}

/// All lists of a topic: a prefix of [`dedup_list_key`].
pub(crate) fn dedup_lists_prefix(tenant: TenantId, topic: TopicId) -> Vec<u8> {
    Key::new(DEDUP_EXPIRY, tenant).u32(topic.0).0
}

/// The lists of one entry for one time: a prefix of [`dedup_list_key`].
pub(crate) fn dedup_lists_of(tenant: TenantId, topic: TopicId, expires: u64, index: LogIndex) -> Vec<u8> {
    Key(dedup_lists_prefix(tenant, topic)).u64(expires).u64(index.0).0
}

pub(crate) fn dedup_list_key(tenant: TenantId, topic: TopicId, expires: u64, index: LogIndex, list: u16) -> Vec<u8> {
    Key(dedup_lists_of(tenant, topic, expires, index)).u16(list).0
}

pub(crate) fn dedup_count_key(tenant: TenantId, topic: TopicId) -> Vec<u8> {
    Key::new(DEDUP_COUNT, tenant).u32(topic.0).0
}

/// Keys that are forgotten together; a row of [`DEDUP_EXPIRY`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DedupList(pub(crate) Vec<u128>);

impl DedupList {
    pub(crate) fn encode(&self) -> Vec<u8> {
        assert!(self.0.len() <= limits::DEDUP_LIST_KEYS_MAX, "a list of {} keys", self.0.len());
        let bytes: Vec<u8> = self.0.iter().flat_map(|hash| hash.to_be_bytes()).collect();
        encode_bytes(&bytes)
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8] = decode_borrowed(key, value)?;
        match bytes.as_chunks::<HASH_BYTES>() {
            (hashes, []) => Ok(Self(hashes.iter().map(|hash| u128::from_be_bytes(*hash)).collect())),
            _ => Err(damaged(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_and_says_when_it_is_damaged() {
        let list = DedupList(vec![0, u128::MAX, 7]);
        let value = list.encode();
        assert_eq!(DedupList::decode(b"k", &value).unwrap(), list);
        for length in 0..value.len() {
            assert!(DedupList::decode(b"k", &value[..length]).is_err(), "{length} bytes");
        }
        assert!(DedupList::decode(b"k", &encode_bytes(&[0; 17])).is_err());
    }

    #[test]
    fn lists_sort_by_their_time() {
        let key = |expires, index, list| dedup_list_key(TenantId(1), TopicId(2), expires, LogIndex(index), list);
        let sorted = [key(1, 9, 9), key(2, 1, 9), key(2, 2, 0), key(2, 2, 1), key(256, 0, 0)];
        assert!(sorted.is_sorted());
        assert!(sorted.iter().all(|key| key.starts_with(&dedup_lists_prefix(TenantId(1), TopicId(2)))));
        assert!(key(2, 2, 7).starts_with(&dedup_lists_of(TenantId(1), TopicId(2), 2, LogIndex(2))));
    }
}
