//! The contract as files: the SDK's copy, and what is in our own components.

use std::path::Path;

use super::*;
use crate::{builtins, encode, inspect};

#[test]
fn the_sdk_carries_the_contract_word_for_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |dir: &str| {
        let entries = std::fs::read_dir(root.join(dir)).expect("a directory");
        let mut files: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let text = std::fs::read_to_string(&path).expect("a text");
                (path.file_name().expect("a name").to_owned(), text)
            })
            .collect();
        files.sort();
        files
    };
    let contract = read("wit");
    assert_eq!(contract.len(), 6);
    assert!(contract == read("plugin-sdk/wit"), "copy wit/ to plugin-sdk/wit/");
}

#[test]
fn our_components_are_of_their_worlds_and_ask_for_nothing_but_log() {
    for component in builtins()
        .iter()
        .chain(examples())
        .chain(fixtures().iter().filter(|fixture| fixture.name != "toolchain-filter"))
    {
        let found = inspect(component.bytes).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", component.name));
        assert_eq!((found.kind, found.digest), (component.kind, component.digest), "{}", component.name);
        assert!(found.imports.iter().all(|import| import == "log"), "{}: {:?}", component.name, found.imports);
        assert!(found.warnings.is_empty());
        let size = component.bytes.len();
        assert!(size < 144 << 10, "{} has grown to {size} bytes", component.name);
    }
}

#[test]
fn a_component_is_encoded_once() {
    let component = builtins()[0].bytes;
    assert_eq!(encode(component).expect("as it is"), component);
    let worldless = encode(b"\0asm\x01\0\0\0").expect("a component that does nothing");
    assert!(inspect(&worldless).is_err(), "and no plugin");
    assert!(encode(b"random").is_err());
}

#[test]
fn no_path_of_the_builder_is_in_a_component() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a path");
    let root = root.to_str().expect("UTF-8").as_bytes();
    for component in builtins() {
        let found = component.bytes.windows(root.len()).any(|window| window == root);
        assert!(!found, "{}: the digest depends on where it was built", component.name);
    }
}
