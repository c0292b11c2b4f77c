//! Prefixes, and values that say when they are damaged.

use pointsman_model::{GroupId, TopicId};

use super::*;

#[test]
fn a_prefix_covers_its_keys_and_no_others() {
    let prefix = retry_prefix(TenantId(7), GroupId(u32::MAX), Some(TopicId(u32::MAX)));
    let end = after(&prefix);
    let inside = retry_key(TenantId(7), GroupId(u32::MAX), u32::MAX, u16::MAX, u64::MAX);
    assert!(prefix < inside && inside < end);
    assert!(end <= retry_prefix(TenantId(8), GroupId(0), None));
}

#[test]
fn values_say_when_they_are_damaged() {
    let value = encode(&(7_u32, "text"));
    assert_eq!(decode::<(u32, String)>(b"k", &value).unwrap(), (7, "text".into()));
    for length in 0..value.len() {
        assert!(decode::<(u32, String)>(b"k", &value[..length]).is_err(), "{length} bytes");
    }
    let longer = [&value[..], &[0]].concat();
    assert!(decode::<(u32, String)>(b"k", &longer).is_err());
    let newer = [&[VERSION + 1], &value[1..]].concat();
    assert!(decode::<(u32, String)>(b"k", &newer).is_err());
    assert_eq!(decode_borrowed::<&[u8]>(b"k", &encode_bytes(&[9; 300])).unwrap(), [9; 300]);
}
