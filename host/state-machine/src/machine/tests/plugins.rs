//! Plugin components: pieces, versions, bytes.

use pointsman_model::limits::PLUGIN_CHUNK_BYTES;
use pointsman_model::record::kind;

use super::*;
use crate::command::{Author, BindingConfig, PluginChunk, PluginCommit, Slot};
use crate::outcome::Refusal;

const DIGEST: [u8; 32] = [7; 32];

fn chunk(chunk: u32, bytes: &[u8]) -> Command {
    let mut command = Command::new(kind::PLUGIN_CHUNK, &PluginChunk { digest: DIGEST, chunk });
    command.body = bytes.to_vec();
    command
}

fn commit(name: &str, version: &str, size: usize) -> Command {
    let commit = PluginCommit {
        name: name.into(),
        version: version.into(),
        digest: DIGEST,
        slot: Slot::Selector,
        size_bytes: size as u32,
        imports: vec!["log".into()],
        warnings: Vec::new(),
        compile_ms: 3,
        author: Author::default(),
    };
    Command::new(kind::PLUGIN_COMMIT, &commit)
}

fn created(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Configured { created: true, unchanged: false, .. })
}

fn bytes(shard: &Shard) -> Option<Vec<u8>> {
    shard.machine.plugin_bytes(&shard.rows, TENANT, &DIGEST).unwrap()
}

fn remove(name: &str, version: &str) -> Command {
    commands::delete(Target::PluginVersion(name.into(), version.into()))
}

#[test]
fn pieces_become_a_version_that_never_changes() {
    let mut shard = Shard::with_group();
    let whole: Vec<u8> = (0..PLUGIN_CHUNK_BYTES + 1_000).map(|i| ((i * 31) >> 3) as u8).collect();
    let (first, last) = whole.split_at(PLUGIN_CHUNK_BYTES);
    let incomplete = Outcome::Refused(Refusal::PluginIncomplete);

    assert_eq!(shard.one(commit("p", "1.0.0", whole.len())), incomplete);
    assert_eq!(shard.one(chunk(0, first)), Outcome::ChunkStored);
    assert_eq!(shard.one(commit("p", "1.0.0", whole.len())), incomplete);
    let outcomes = shard.entry(&[chunk(1, last), commit("p", "1.0.0", whole.len() + 1)]).outcomes;
    assert_eq!(outcomes, [Outcome::ChunkStored, incomplete.clone()]);
    assert_eq!(shard.one(commit("p", "1.0.0", first.len() - 1)), incomplete, "the first piece is too long");
    assert_eq!(bytes(&shard), None, "not before it is committed");

    assert!(created(&shard.entry(&[chunk(1, last), commit("p", "1.0.0", whole.len())]).outcomes[1]));
    assert_eq!(bytes(&shard).as_deref(), Some(&whole[..]));
    let again = shard.one(commit("p", "1.0.0", whole.len()));
    assert!(matches!(again, Outcome::Configured { unchanged: true, .. }), "{again:?}");
    assert_eq!(shard.one(chunk(0, b"other bytes")), Outcome::ChunkStored);
    assert_eq!(bytes(&shard).as_deref(), Some(&whole[..]));

    let mut other = commit("p", "1.0.0", 1);
    other.head = {
        let head: PluginCommit = postcard::from_bytes(&other.head).unwrap();
        postcard::to_stdvec(&PluginCommit { digest: [8; 32], ..head }).unwrap()
    };
    assert_eq!(shard.one(other), Outcome::Refused(Refusal::AlreadyExists("p@1.0.0".into())));

    assert!(created(&shard.one(commit("q", "2.0.0", whole.len()))), "the pieces are there");
    assert_eq!(shard.one(remove("p", "1.0.0")), Outcome::Deleted);
    assert_eq!(bytes(&shard).as_deref(), Some(&whole[..]), "q has them still");
    shard.reload();
    assert_eq!(shard.one(remove("q", "2.0.0")), Outcome::Deleted);
    assert_eq!(bytes(&shard), None);
    assert!(!shard.rows.0.keys().any(|key| [table::PLUGIN, table::PLUGIN_CHUNK].contains(&key[0])));
    shard.reload();
    shard.check_again();
}

#[test]
fn pieces_have_bounds() {
    let mut shard = Shard::with_group();
    let full = vec![1; PLUGIN_CHUNK_BYTES];
    for (command, fits) in [
        (chunk(0, &full), true),
        (chunk(0, &[&full[..], &[1]].concat()), false),
        (chunk(0, &full[1..]), true),
        (chunk(0, b""), false),
        (chunk(127, b"x"), true),
        (chunk(128, b"x"), false),
        (chunk(u32::MAX, b"x"), false),
    ] {
        assert_eq!(shard.one(command) == Outcome::ChunkStored, fits);
    }
    for size in [0, (32 << 20) + 1, u32::MAX as usize] {
        let outcome = shard.one(commit("p", "1.0.0", size));
        assert!(matches!(outcome, Outcome::Refused(Refusal::Malformed(_))), "{size}");
    }
    let foreign = chunk(0, b"x").change(|header| header.tenant.0 += 1);
    assert_eq!(shard.one(foreign), Outcome::Refused(Refusal::TenantNotFound));
}

#[test]
fn a_binding_holds_its_version() {
    let mut shard = Shard::with_group();
    shard.entry(&[chunk(0, b"wasm"), commit("p", "1.0.0", 4)]);
    let config = |slot, topic, group| BindingConfig {
        plugin: "p".into(),
        builtin_digest: None,
        ..commands::builtin(slot, topic, group, "{}")
    };
    let bind = |config| commands::put(Object::Binding { name: "b".into(), config });
    let wrong = shard.one(bind(config(Slot::Filter, None, Some("workers"))));
    assert_eq!(wrong, Outcome::Refused(Refusal::WrongSlot));
    assert!(created(&shard.one(bind(config(Slot::Selector, Some("orders"), None)))));
    assert_eq!(shard.machine.state().selector(shard.topic()).unwrap().digest, DIGEST);
    assert_eq!(shard.one(remove("p", "1.0.0")), Outcome::Refused(Refusal::InUse(vec!["b".into()])));
    shard.one(commands::delete(Target::Binding("b".into())));
    assert_eq!(shard.one(remove("p", "1.0.0")), Outcome::Deleted);
}
