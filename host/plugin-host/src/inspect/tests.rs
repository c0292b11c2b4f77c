//! Uploads that are no plugin, and why.

use super::*;
use crate::fixtures;

fn check(bytes: &[u8], expected: &[(&str, &str)]) {
    let complaints = inspect(bytes).expect_err("refused");
    let found: Vec<_> = complaints.iter().map(|complaint| (complaint.code, complaint.detail.as_str())).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((code, detail), (expected_code, part)) in found.iter().zip(expected) {
        assert!(code == expected_code && detail.contains(part), "{code} {detail} is not {expected_code} {part}");
    }
}

/// A component that imports and exports what the text says, in our own words and not from a toolchain: a core
/// module without code, lifted functions that trap.
fn component(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    build(&mut bytes);
    bytes
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.extend([id, content.len() as u8]);
    bytes.extend(content);
}

/// `(import "<name>" (func))`: a type section with `(func)`, then an import of it.
fn import_function(bytes: &mut Vec<u8>, name: &str) {
    section(bytes, 7, &[1, 0x40, 0, 1, 0]);
    let mut content = vec![1, 0, name.len() as u8];
    content.extend(name.as_bytes());
    content.extend([1, 0]);
    section(bytes, 10, &content);
}

#[test]
fn what_is_no_component_is_refused() {
    check(b"", &[("not-a-component", "no WebAssembly")]);
    check(b"random bytes, not Wasm", &[("not-a-component", "no WebAssembly")]);
    check(b"\0asm\x01\0\0\0", &[("not-a-component", "a core module")]);
    let whole = fixtures()[0].bytes;
    check(&whole[..whole.len() - 100], &[("not-a-component", "")]);
    check(&[whole, b"more"].concat(), &[("not-a-component", "")]);
}

#[test]
fn every_truncation_and_many_flipped_bits_never_panic() {
    let whole = fixtures()[0].bytes;
    for length in (0..whole.len()).step_by(997) {
        assert!(inspect(&whole[..length]).is_err(), "{length} bytes");
    }
    for at in (0..whole.len()).step_by(499) {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x10;
        // Some are plugins still: names and data may change.
        let _ = inspect(&damaged);
    }
}

#[test]
fn an_empty_component_lacks_its_exports() {
    let empty = component(|_| {});
    let judging = "`evaluate` of a filter, `evaluate` of a selector, `evaluate` of a dedup, `decide` of a retry, \
                   `check` and `answer` of a check-back";
    check(&empty, &[("missing-export", "`init`"), ("missing-export", judging)]);
}

#[test]
fn half_a_check_back_is_told_what_is_missing() {
    let half = component(|bytes| {
        import_function(bytes, "log2");
        section(bytes, 11, &[&[1, 0, 5][..], b"check", &[1, 0, 0]].concat());
    });
    let wrong = [
        ("forbidden-import", "`log2`"),
        ("missing-export", "`init`"),
        ("missing-export", "`answer`"),
        ("wrong-export", "`check` is exported as `func()`; the contract says `func(half: record<transaction: string"),
    ];
    check(&half, &wrong);
}

#[test]
fn a_forbidden_import_is_named() {
    let exports = [("missing-export", "`init`"), ("missing-export", "`evaluate`")];
    let fetch = component(|bytes| import_function(bytes, "fetch"));
    check(&fetch, &[&[("forbidden-import", "`fetch`")], &exports[..]].concat());
    let log = component(|bytes| import_function(bytes, "log"));
    let wrong = ("forbidden-import", "`log` is imported as `func()`");
    check(&log, &[&[wrong], &exports[..]].concat());
}

#[test]
fn only_stubbed_interfaces_of_wasi_are_let_in() {
    for (import, expected) in [
        ("wasi:io/streams@0.2.6", true),
        ("wasi:cli/environment@0.2.0", true),
        ("wasi:random/insecure-seed@0.2.12", true),
        ("wasi:clocks/wall-clock@0.2.3", true),
        ("wasi:filesystem/types@0.2.6", true),
        ("wasi:sockets/tcp@0.2.6", false),
        ("wasi:http/outgoing-handler@0.2.6", false),
        ("wasi:io/streams@0.3.0", false),
        ("wasi:io/streams", false),
        ("evil:io/streams@0.2.6", false),
    ] {
        assert_eq!(wasi::is_stubbed(import), expected, "{import}");
    }
}

#[test]
fn the_wrong_world_says_what_is_expected() {
    // `init` and `evaluate` of another shape, exported from imports of the same shape.
    let other = component(|bytes| {
        import_function(bytes, "log2");
        let mut exports = vec![2];
        for name in ["init", "evaluate"] {
            exports.extend([0, name.len() as u8]);
            exports.extend(name.as_bytes());
            exports.extend([1, 0, 0]);
        }
        section(bytes, 11, &exports);
    });
    let wrong = [
        ("forbidden-import", "`log2`"),
        ("wrong-export", "`init` is exported as `func()`; the contract says `func(config: list<u8>)"),
        ("wrong-export", "`evaluate` is exported as `func()`; the contract says `func(ctx: "),
    ];
    check(&other, &wrong);
}

#[test]
fn size_one_below_at_and_above() {
    let max = limits::PLUGIN_BYTES_CAP as usize;
    let mut bytes = vec![0; max - 1];
    for _ in 0..2 {
        check(&bytes, &[("not-a-component", "")]);
        bytes.push(0);
    }
    check(&bytes, &[("limit", "at most 33554432")]);
}

#[test]
fn the_contract_is_there() {
    assert_eq!(CONTRACT.log, "func(level: u8, text: string)");
    assert!(CONTRACT.init.starts_with("func(config: list<u8>) -> result<record<fields: list<variant<topic, tag, "));
    let text = |world: &World| world.exports.iter().map(|(_, ty)| ty.as_str()).collect::<String>();
    for world in &CONTRACT.worlds {
        let begins = match world.kind {
            Kind::Retry => "func(attempt: record<topic: string, ",
            Kind::CheckBack => "func(half: record<transaction: string, ",
            _ => "func(ctx: record<attempt-limit: u16, queues: ",
        };
        assert!(world.exports.iter().all(|(_, ty)| ty.starts_with(begins)), "{}: {}", world.kind, text(world));
        assert!(!text(world).contains('…'), "{}: longer than what is compared", world.kind);
    }
}
