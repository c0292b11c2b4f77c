//! Round trips, damage, and equal bytes for equal states.

use std::fs;
use std::ops::Bound;

use pointsman_model::ShardId;

use super::*;
use crate::disk::RealDisk;
use crate::scratch;
use crate::state::{Applied, Change, ModelState, Read, StateConfig, StateStore, StateTree};

const OWNER: Owner = Owner { cluster: [7; 16], shard: ShardId(3) };

fn applied(index: u64) -> Applied {
    Applied { index: LogIndex(index), meta: Bytes::from_static(b"membership") }
}

fn meta(index: u64) -> Meta {
    Meta { term: Term(4), index: LogIndex(index), extra: Bytes::from_static(b"members and a stamp") }
}

fn checkpoints(dir: &Path) -> Checkpoints {
    Checkpoints::open(Arc::new(RealDisk), OWNER, dir).expect("opens")
}

fn model() -> ModelState {
    ModelState::new(Arc::new(|| None))
}

/// Enough for several blocks, with values of 0 B, 1 B and more than a block.
fn fill(state: &dyn StateStore, index: u64) {
    let long = vec![9; format::BLOCK_BYTES_TARGET + 5];
    let keys: Vec<[u8; 5]> =
        (0..2_000_u32).map(|n| [[1].as_slice(), &n.to_be_bytes()].concat().try_into().expect("5")).collect();
    let value = |key: &[u8; 5]| vec![key[4]; usize::from(key[4])];
    let values: Vec<Vec<u8>> = keys.iter().map(value).collect();
    let mut changes: Vec<Change<'_>> = keys.iter().zip(&values).map(|(k, v)| (&k[..], Some(&v[..]))).collect();
    changes.push((b"\x02long", Some(&long)));
    changes.push((b"\xff", Some(b"")));
    state.write(&applied(index), &mut changes.into_iter()).expect("writes");
}

fn items(state: &dyn Read) -> Vec<(Bytes, Bytes)> {
    let mut found = Vec::new();
    let scan = state.scan((Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        std::ops::ControlFlow::Continue(())
    });
    scan.expect("scans");
    found
}

#[test]
fn what_is_exported_is_imported() {
    let dir = scratch::dir();
    let (state, checkpoints) = (model(), checkpoints(dir.path()));
    fill(&state, 7);
    let snapshot = state.snapshot();
    state.write(&applied(8), &mut [(&b"\x01later"[..], Some(&b"x"[..]))].into_iter()).expect("writes");
    let exported = checkpoints.export(&*snapshot, &meta(7)).expect("exports");
    assert_eq!(exported.bytes, fs::metadata(checkpoints.path(LogIndex(7))).expect("file").len());

    let mut import = checkpoints.import(LogIndex(7)).expect("opens");
    assert_eq!(*import.meta(), meta(7));
    let other = model();
    other.replace(&applied(7), &mut import).expect("replaces");
    assert_eq!(items(&other), items(&*snapshot));
    assert_eq!(checkpoints.import(LogIndex(7)).and_then(Import::verify).expect("whole"), exported);
}

#[test]
fn equal_states_give_equal_bytes() {
    let dirs = [(); 3].map(|()| scratch::dir());
    let tree = StateTree::open(&dirs[2].path().join("state"), StateConfig::new(Arc::new(|| Some(LogIndex(7)))));
    let tree = tree.expect("opens");
    let model = model();
    // The same state on other ways: another store, another history, a flush in between.
    tree.write(&applied(3), &mut [(&b"\x01gone"[..], Some(&b"x"[..]))].into_iter()).expect("writes");
    tree.flush_now().expect("flushes");
    tree.write(&applied(4), &mut [(&b"\x01gone"[..], None)].into_iter()).expect("writes");
    let states: [&dyn StateStore; 2] = [&tree, &model];
    let bytes = [0, 1].map(|n| {
        fill(states[n], 7);
        let checkpoints = checkpoints(dirs[n].path());
        checkpoints.export(&*states[n].snapshot(), &meta(7)).expect("exports");
        fs::read(checkpoints.path(LogIndex(7))).expect("reads")
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn an_empty_state_is_a_checkpoint_too() {
    let dir = scratch::dir();
    let (state, checkpoints) = (model(), checkpoints(dir.path()));
    state.write(&applied(1), &mut std::iter::empty()).expect("writes");
    checkpoints.export(&*state.snapshot(), &meta(1)).expect("exports");
    assert_eq!(checkpoints.import(LogIndex(1)).expect("opens").count(), 0);
}

#[test]
#[should_panic(expected = "a snapshot of another entry")]
fn the_snapshot_is_of_the_entry_that_is_named() {
    let dir = scratch::dir();
    let state = model();
    fill(&state, 7);
    let _ = checkpoints(dir.path()).export(&*state.snapshot(), &meta(8));
}

#[test]
fn every_flipped_bit_and_every_cut_is_an_error() {
    let dir = scratch::dir();
    let (state, checkpoints) = (model(), checkpoints(dir.path()));
    let changes: [Change<'_>; 2] = [(b"\x01a", Some(b"value")), (b"\x02b", Some(b""))];
    state.write(&applied(7), &mut changes.into_iter()).expect("writes");
    checkpoints.export(&*state.snapshot(), &meta(7)).expect("exports");
    let path = checkpoints.path(LogIndex(7));
    let good = fs::read(&path).expect("reads");
    let check = |bytes: &[u8], what: &str| {
        let damaged = dir.path().join("damaged");
        fs::write(&damaged, bytes).expect("writes");
        let read = Import::open(&RealDisk, &OWNER, &damaged).and_then(Import::verify);
        assert!(matches!(read, Err(Error::DamagedFile { .. })), "{what}: {read:?}");
    };
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, &format!("bit {bit}"));
    }
    for length in 0..good.len() {
        check(&good[..length], &format!("{length} bytes"));
    }
    check(&[&good[..], b"x"].concat(), "one byte more");
    check(&[&good[..], &good[..]].concat(), "twice");
}

#[test]
fn sampled_damage_of_a_long_file_is_an_error_and_hands_out_nothing_wrong() {
    let dir = scratch::dir();
    let (state, checkpoints) = (model(), checkpoints(dir.path()));
    fill(&state, 7);
    checkpoints.export(&*state.snapshot(), &meta(7)).expect("exports");
    let expected = items(&state);
    let path = checkpoints.path(LogIndex(7));
    let good = fs::read(&path).expect("reads");
    let damaged = dir.path().join("damaged");
    for at in (100..good.len()).step_by(good.len() / 97) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        fs::write(&damaged, bytes).expect("writes");
        let import = Import::open(&RealDisk, &OWNER, &damaged).expect("the header is whole");
        let read: Vec<Result<_>> = import.collect();
        let (last, before) = read.split_last().expect("an item");
        assert!(last.is_err(), "byte {at}");
        assert!(
            before.iter().zip(&expected).all(|(found, expected)| found.as_ref().is_ok_and(|found| found == expected))
        );
    }
}

#[test]
fn a_replica_takes_over_whole_files_only() {
    let dirs = [(); 2].map(|()| scratch::dir());
    let (state, from, to) = (model(), checkpoints(dirs[0].path()), checkpoints(dirs[1].path()));
    fill(&state, 7);
    let exported = from.export(&*state.snapshot(), &meta(7)).expect("exports");
    let path = from.path(LogIndex(7));
    assert_eq!(to.adopt(&path).expect("adopts"), exported);
    assert!(fs::read(to.path(LogIndex(7))).expect("reads") == fs::read(&path).expect("reads"));
    let cut = dirs[0].path().join("cut");
    let good = fs::read(&path).expect("reads");
    fs::write(&cut, &good[..good.len() - 100]).expect("writes");
    let other = checkpoints(&dirs[1].path().join("other"));
    assert!(matches!(other.adopt(&cut), Err(Error::DamagedFile { .. })));
    assert_eq!(other.list().expect("lists"), []);
}

#[test]
fn what_is_kept_is_said_and_the_newest_whole_one_is_found() {
    let dir = scratch::dir();
    let (state, checkpoints) = (model(), checkpoints(dir.path()));
    for index in [5, 10, 15] {
        fill(&state, index);
        checkpoints.export(&*state.snapshot(), &meta(index)).expect("exports");
    }
    // Exporting again replaces.
    checkpoints.export(&*state.snapshot(), &meta(15)).expect("exports");
    assert_eq!(checkpoints.list().expect("lists"), [LogIndex(5), LogIndex(10), LogIndex(15)]);
    checkpoints.retain(|index| index != LogIndex(5)).expect("removes");
    assert_eq!(checkpoints.list().expect("lists"), [LogIndex(10), LogIndex(15)]);
    let newest = |at| {
        let found = checkpoints.newest_at_or_below(LogIndex(at)).expect("reads");
        found.map(|checkpoint| checkpoint.meta.index.0)
    };
    for (at, expected) in [(9, None), (10, Some(10)), (14, Some(10)), (15, Some(15)), (99, Some(15))] {
        assert_eq!(newest(at), expected, "at {at}");
    }
    let path = checkpoints.path(LogIndex(15));
    let bytes = fs::read(&path).expect("reads");
    fs::remove_file(&path).expect("removes");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
    assert_eq!(newest(99), Some(10));
    // Under another name it is not what the name says.
    fs::rename(checkpoints.path(LogIndex(10)), &path).expect("renames");
    assert_eq!(newest(99), None);
    // An unfinished one is removed at the next start.
    fs::write(dir.path().join("00000000000000000020.tmp"), b"x").expect("writes");
    assert_eq!(self::checkpoints(dir.path()).list().expect("lists"), [LogIndex(15)]);
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
}

mod crash;
