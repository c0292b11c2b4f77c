//! The scan against serde_json, and against hand-made faults.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::de::{self, Deserialize, MapAccess, SeqAccess, Visitor};

use super::*;

/// A value read by serde that refuses duplicate keys and counts depth: the model of the scan.
struct Model {
    depth: usize,
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Model;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Model, E> {
                Ok(Model { depth: 0 })
            }
            fn visit_i64<E>(self, _: i64) -> Result<Model, E> {
                Ok(Model { depth: 0 })
            }
            fn visit_u64<E>(self, _: u64) -> Result<Model, E> {
                Ok(Model { depth: 0 })
            }
            fn visit_f64<E>(self, _: f64) -> Result<Model, E> {
                Ok(Model { depth: 0 })
            }
            fn visit_str<E>(self, _: &str) -> Result<Model, E> {
                Ok(Model { depth: 0 })
            }
            fn visit_unit<E>(self) -> Result<Model, E> {
                Ok(Model { depth: 0 })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Model, A::Error> {
                let mut depth = 0;
                while let Some(item) = seq.next_element::<Model>()? {
                    depth = depth.max(item.depth);
                }
                Ok(Model { depth: depth + 1 })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
                let (mut depth, mut seen) = (0, BTreeMap::new());
                while let Some((key, value)) = map.next_entry::<String, Model>()? {
                    depth = depth.max(value.depth);
                    if seen.insert(key, ()).is_some() {
                        return Err(de::Error::custom("duplicate"));
                    }
                }
                Ok(Model { depth: depth + 1 })
            }
        }
        d.deserialize_any(Any)
    }
}

/// JSON text with short keys, some of them escaped spellings of others.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1".to_owned()),
        Just("-2.5e3".to_owned()),
        Just("null".to_owned()),
        Just("\"a,b:{}[]\\\"\\\\\"".to_owned()),
        Just("\"\u{e9}\\u00e9\"".to_owned()),
    ];
    let key =
        prop_oneof!["\"[a-f]\"", Just("\"\\u0061\"".to_owned()), Just("\"\\u0062\"".to_owned()), "\"[a-z]{1,3}\""];
    leaf.prop_recursive(6, 64, 12, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[ {}]", items.join(" ,"))),
            prop::collection::vec((key.clone(), inner), 0..14).prop_map(|items| {
                let items: Vec<_> = items.into_iter().map(|(k, v)| format!("{k} : {v}")).collect();
                format!("{{{}}}", items.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_serde(text in json(), depth_max in 1_usize..6) {
        let scanned = scan(text.as_bytes(), depth_max).map(|_| ()).map_err(|f| f.kind);
        match serde_json::from_str::<Model>(&text) {
            Ok(model) if model.depth <= depth_max => prop_assert_eq!(scanned, Ok(())),
            Ok(_) => prop_assert_eq!(scanned, Err(FaultKind::TooDeep)),
            Err(_) => prop_assert!(scanned.is_err()),
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b'['),
        Just(b']'), Just(b','), Just(b':'), Just(b'a'), Just(0xc3_u8), any::<u8>()], 0..64), offset in 0_usize..80) {
        let _ = scan(&bytes, 4);
        let _ = pointer_at(&bytes, offset);
    }
}

fn check(text: &str, expected: Option<(FaultKind, &str)>) {
    let found = scan(text.as_bytes(), 64).err().map(|f| (f.kind, pointer_at(text.as_bytes(), f.offset + 1)));
    assert_eq!(found, expected.map(|(kind, pointer)| (kind, pointer.to_owned())), "{text}");
}

#[test]
fn depth_one_below_at_and_above() {
    for (depth, expected) in [(63, None), (64, None), (65, Some((FaultKind::TooDeep, "/0".repeat(64))))] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let found = scan(text.as_bytes(), 64).err().map(|f| (f.kind, pointer_at(text.as_bytes(), f.offset + 1)));
        assert_eq!(found, expected, "{depth}");
    }
}

#[test]
fn duplicate_keys_are_told_by_pointer() {
    check(r#"{"a":1,"b":2}"#, None);
    check(r#"[{"a":1},{"a":1}]"#, None);
    check(r#"{"a":1,"a":2}"#, Some((FaultKind::DuplicateKey, "/a")));
    check(r#"{"x":[1,{"a/b":1,"a\/b":2}]}"#, Some((FaultKind::DuplicateKey, "/x/1/a~1b")));
    check(r#"{"a":"a","b":{"a":"\"a\":"}}"#, None);
    check(r#"{"a":1,"\u0061":2}"#, Some((FaultKind::DuplicateKey, "/a")));
    let many: Vec<_> = (0..100).map(|i| format!("\"k{}\":0", i % 97)).collect();
    check(&format!("{{{}}}", many.join(",")), Some((FaultKind::DuplicateKey, "/k0")));
}

#[test]
fn invalid_utf8_is_told_by_offset() {
    assert_eq!(scan(b"{\"a\":\"\xff\"}", 64), Err(Fault { kind: FaultKind::Utf8, offset: 6 }));
}

#[test]
fn pointers() {
    let text = r#"{"a": [1, {"b": "x", "c/d": tru}], "e": 5}"#;
    for (upto, expected) in [
        ("{", ""),
        (r#"{"a""#, "/a"),
        (r#"{"a": ["#, "/a"),
        (r#"{"a": [1"#, "/a/0"),
        (r#"{"a": [1, "#, "/a/0"),
        (r#"{"a": [1, {"#, "/a/1"),
        (r#"{"a": [1, {"b""#, "/a/1/b"),
        (r#"{"a": [1, {"b": "x""#, "/a/1/b"),
        (r#"{"a": [1, {"b": "x", "c/d""#, "/a/1/c~1d"),
        (r#"{"a": [1, {"b": "x", "c/d": tr"#, "/a/1/c~1d"),
        (r#"{"a": [1, {"b": "x", "c/d": tru}"#, "/a/1"),
        (r#"{"a": [1, {"b": "x", "c/d": tru}]"#, "/a"),
        (r#"{"a": [1, {"b": "x", "c/d": tru}], "e": 5"#, "/e"),
        (text, ""),
    ] {
        assert_eq!(pointer_at(text.as_bytes(), upto.len()), expected, "after {upto}");
    }
}
