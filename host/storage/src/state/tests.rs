//! The tree against the promises of [`super`], and the model against the same ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::{Error, scratch};
use tree::FsyncedIndex;

/// A log whose fsynced index a test sets; 0 is "nothing yet".
#[derive(Clone, Default)]
struct Log(Arc<AtomicU64>);

impl Log {
    fn all() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    fn fsynced(&self) -> FsyncedIndex {
        let index = Arc::clone(&self.0);
        Arc::new(move || match index.load(Ordering::SeqCst) {
            0 => None,
            index => Some(LogIndex(index)),
        })
    }

    fn set(&self, index: u64) {
        self.0.store(index, Ordering::SeqCst);
    }
}

fn open(dir: &Path, log: &Log) -> Result<StateTree> {
    StateTree::open(dir, StateConfig { threads: false, ..StateConfig::new(log.fsynced()) })
}

fn applied(index: u64) -> Applied {
    Applied { index: LogIndex(index), meta: Bytes::from(format!("meta {index}")) }
}

fn index_of(applied: Option<Applied>) -> Option<u64> {
    applied.map(|applied| applied.index.0)
}

fn write(state: &dyn StateStore, index: u64, changes: &[(&[u8], Option<&[u8]>)]) {
    state.write(&applied(index), &mut changes.iter().copied()).expect("writes");
}

fn dump(state: &dyn Read) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut last = Vec::new();
    let scan = state.scan((Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
        assert!(key > &last[..], "keys ascend");
        last = key.to_vec();
        found.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    });
    scan.expect("scans");
    found
}

/// Seven keys an entry, one of them written three times and one removed later.
fn write_entry(state: &dyn StateStore, expected: &mut BTreeMap<Vec<u8>, Vec<u8>>, index: u64) {
    let own: Vec<Vec<u8>> = (0..4_u8).map(|n| [&[1, n][..], &index.to_be_bytes()].concat()).collect();
    let value = index.to_le_bytes();
    let old = [&[1, 0][..], &index.saturating_sub(10).to_be_bytes()].concat();
    let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = own.into_iter().map(|key| (key, Some(value.to_vec()))).collect();
    changes.extend([b"first".to_vec(), b"second".to_vec(), vec![2]].map(|last| (vec![3, 3], Some(last))));
    changes.push((old, None));
    for (key, value) in &changes {
        match value {
            Some(value) => expected.insert(key.clone(), value.clone()),
            None => expected.remove(key),
        };
    }
    let mut changes = changes.iter().map(|(key, value)| (&key[..], value.as_deref()));
    state.write(&applied(index), &mut changes).expect("writes");
}

#[test]
fn a_restart_finds_exactly_the_flushed_entries() {
    let dir = scratch::dir();
    let dir = dir.path().join("state");
    let (mut expected, mut ignored) = (BTreeMap::new(), BTreeMap::new());
    let state = open(&dir, &Log::all()).expect("opens");
    assert_eq!(state.applied(), None);
    for index in 1..=600 {
        write_entry(&state, &mut expected, index);
    }
    assert_eq!(index_of(state.flush_now().expect("flushes")), Some(600));
    for index in 601..=1_000 {
        write_entry(&state, &mut ignored, index);
    }
    assert_eq!((index_of(state.applied()), index_of(state.flushed())), (Some(1_000), Some(600)));
    drop(state);

    let state = open(&dir, &Log::all()).expect("opens again");
    assert_eq!(state.applied(), Some(applied(600)));
    assert_eq!(dump(&state), expected);
    // The log gives the rest again, and the result is what it was.
    for index in 601..=1_000 {
        write_entry(&state, &mut expected, index);
    }
    assert_eq!(dump(&state), expected);
}

#[test]
fn nothing_is_flushed_past_the_fsynced_index() {
    let dir = scratch::dir();
    let log = Log::default();
    let state = open(dir.path(), &log).expect("opens");
    write(&state, 1, &[(b"\x01a", Some(b"1"))]);
    write(&state, 2, &[(b"\x01a", Some(b"2"))]);
    for (fsynced, flushed) in [(0, None), (1, None), (2, Some(2))] {
        log.set(fsynced);
        assert_eq!(index_of(state.flush_now().expect("flushes")), flushed, "log at {fsynced}");
    }
    write(&state, 3, &[(b"\x01a", Some(b"3"))]);
    assert_eq!(index_of(state.flush_now().expect("flushes")), Some(2));
    drop(state);
    assert_eq!(index_of(open(dir.path(), &log).expect("opens").applied()), Some(2));
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_flusher_waits_for_the_log_and_writers_wait_for_the_flusher() {
    let dir = scratch::dir();
    let log = Log::default();
    let config = StateConfig { flush_bytes: 10_000, ..StateConfig::new(log.fsynced()) };
    let state = StateTree::open(dir.path(), config).expect("opens");
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for index in 1..=200_u64 {
                write(&state, index, &[(&[&[1][..], &index.to_be_bytes()].concat(), Some(&[7; 500]))]);
                written.store(index, Ordering::SeqCst);
            }
        });
        // One memtable sealed and one twice full: about 30 kB, 50 entries of 600 B. Then the writer must stand still.
        let mut before = 0;
        eventually("the writer never blocked", || {
            thread::sleep(Duration::from_millis(50));
            let now = written.load(Ordering::SeqCst);
            std::mem::replace(&mut before, now) == now && now > 0
        });
        assert!(before < 100, "{before} entries in memory");
        assert_eq!(state.flushed(), None);
        // The log gets on a little: enough for the sealed memtable, so the writer does too.
        let sealed = 20 + before / 3;
        log.set(sealed);
        eventually("the writer went on", || written.load(Ordering::SeqCst) > before);
        let flushed = index_of(state.flushed()).expect("flushed");
        assert!(flushed <= sealed, "flushed {flushed}, log at {sealed}");
        log.set(u64::MAX);
    });
    eventually("the flusher went on", || index_of(state.flushed()).is_some_and(|flushed| flushed > 100));
}

#[test]
fn the_flusher_seals_by_age() {
    let dir = scratch::dir();
    let config = StateConfig { flush_age: Duration::from_millis(20), ..StateConfig::new(Log::all().fsynced()) };
    let state = StateTree::open(dir.path(), config).expect("opens");
    for index in 1..=3 {
        write(&state, index, &[(b"\x01a", Some(b"1"))]);
        eventually("flushed by age", || index_of(state.flushed()) == Some(index));
    }
}

#[test]
fn hundreds_of_flushes_stay_openable_and_small() {
    let dir = scratch::dir();
    let state = open(dir.path(), &Log::all()).expect("opens");
    let mut expected = BTreeMap::new();
    for index in 1..=300 {
        write_entry(&state, &mut expected, index);
        assert_eq!(index_of(state.flush_now().expect("flushes")), Some(index));
    }
    drop(state);
    let state = open(dir.path(), &Log::all()).expect("opens again");
    assert_eq!(dump(&state), expected);
    assert!(state.first_level_runs() < flusher::FIRST_LEVEL_RUNS_MAX, "{}", state.first_level_runs());
}

#[test]
fn readers_outlive_flushes_compactions_and_replacement() {
    let dir = scratch::dir();
    let state = open(dir.path(), &Log::all()).expect("opens");
    let mut expected = BTreeMap::new();
    let mut moments = Vec::new();
    for index in 1..=60 {
        write_entry(&state, &mut expected, index);
        if index % 7 == 0 {
            moments.push((state.snapshot(), applied(index), expected.clone()));
        }
        if index % 5 == 0 {
            state.flush_now().expect("flushes");
        }
    }
    state.replace(&applied(100), &mut std::iter::empty()).expect("replaces");
    assert_eq!(dump(&state), BTreeMap::new());
    for (moment, at, expected) in moments {
        assert_eq!(moment.applied(), Some(at));
        assert_eq!(dump(&*moment), expected);
        let (key, value) = expected.first_key_value().expect("not empty");
        assert_eq!(moment.get(key).expect("reads").as_deref(), Some(&value[..]));
    }
}

#[test]
fn concurrent_readers_see_whole_entries() {
    let dir = scratch::dir();
    let config = StateConfig { flush_bytes: 20_000, ..StateConfig::new(Log::all().fsynced()) };
    let state = StateTree::open(dir.path(), config).expect("opens");
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for index in 1..=2_000_u64 {
                let value = index.to_be_bytes();
                let keys: Vec<[u8; 2]> = (0..5).map(|n| [1, n]).collect();
                let changes: Vec<(&[u8], Option<&[u8]>)> =
                    keys.iter().map(|key| (&key[..], Some(&value[..]))).collect();
                write(&state, index, &changes);
            }
            done.store(1, Ordering::SeqCst);
        });
        while done.load(Ordering::SeqCst) == 0 {
            let moment = state.snapshot();
            let values: Vec<Vec<u8>> = dump(&*moment).into_values().collect();
            let index = index_of(moment.applied());
            assert!(values.iter().all(|value| Some(value.clone()) == index.map(|i| i.to_be_bytes().to_vec())));
            assert!(matches!(values.len(), 0 | 5), "{} keys of 5", values.len());
        }
    });
    assert!(index_of(state.flushed()).is_some(), "the test flushed nothing");
}

fn items(pairs: &[(&[u8], &[u8])]) -> Vec<Result<(Bytes, Bytes)>> {
    pairs.iter().map(|(key, value)| Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))).collect()
}

fn check_replace(state: &dyn StateStore) {
    write(state, 1, &[(b"\x01old", Some(b"1"))]);
    let pairs: [(&[u8], &[u8]); 2] = [(b"\x01a", b"x"), (b"\x02b", b"y")];
    state.replace(&applied(50), &mut items(&pairs).into_iter()).expect("replaces");
    assert_eq!(state.applied(), Some(applied(50)));
    assert_eq!(state.flushed(), Some(applied(50)));
    write(state, 51, &[(b"\x01a", Some(b"z")), (b"\x02b", None)]);
    assert_eq!(dump(state), BTreeMap::from([(b"\x01a".to_vec(), b"z".to_vec())]));
    let unordered = state.replace(&applied(60), &mut items(&[(b"\x02b", b"y"), (b"\x01a", b"x")]).into_iter());
    assert!(matches!(unordered, Err(Error::KeysOutOfOrder)), "{unordered:?}");
    assert_eq!((state.applied(), dump(state)), (None, BTreeMap::new()));
    state.replace(&applied(70), &mut items(&pairs).into_iter()).expect("replaces after a failure");
    write(state, 71, &[(b"\x01c", Some(b"c"))]);
    assert_eq!(dump(state).len(), 3);
}

#[test]
fn a_checkpoint_replaces_everything() {
    let dir = scratch::dir();
    let state = open(dir.path(), &Log::default()).expect("opens");
    check_replace(&state);
    drop(state);
    let state = open(dir.path(), &Log::all()).expect("opens");
    assert_eq!(state.applied(), Some(applied(70)));
    assert_eq!(dump(&state).len(), 2);
    write(&state, 71, &[(b"\x01a", Some(b"newer"))]);
    assert_eq!(index_of(state.flush_now().expect("flushes")), Some(71));
    drop(state);
    let state = open(dir.path(), &Log::all()).expect("opens");
    assert_eq!(state.get(b"\x01a").expect("reads").as_deref(), Some(&b"newer"[..]));
    check_replace(&ModelState::new(Log::default().fsynced()));
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("lists") {
        let path = entry.expect("entry").path();
        let target = to.join(path.file_name().expect("name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

type Found = (Option<u64>, BTreeMap<Vec<u8>, Vec<u8>>);

/// Opens, reads everything, and tells what was found, or `None` for damage. Any other error fails the test.
fn open_damaged(dir: &Path) -> Option<Found> {
    let found = open(dir, &Log::all()).and_then(|state| {
        let mut found = BTreeMap::new();
        state.scan((Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok((index_of(state.applied()), found))
    });
    match found {
        Ok(found) => Some(found),
        Err(Error::StateDamaged { .. }) => {
            // Whoever found it, the next start must find it too, until the directory is destroyed.
            assert!(matches!(open(dir, &Log::all()), Err(Error::StateDamaged { .. })), "damage was forgotten");
            StateTree::destroy(dir).expect("destroys");
            assert_eq!(open(dir, &Log::all()).expect("opens empty").applied(), None);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn damaged_files_are_damage_or_change_nothing() {
    let root = scratch::dir();
    let good = root.path().join("good");
    let state = open(&good, &Log::all()).expect("opens");
    let mut expected = BTreeMap::new();
    for index in 1..=120 {
        write_entry(&state, &mut expected, index);
        if index % 40 == 0 {
            state.flush_now().expect("flushes");
        }
    }
    drop(state);
    let whole = (Some(120), expected);
    let seed = 11;
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut damaged = 0;
    for (n, file) in files(&good).into_iter().enumerate() {
        let name = file.strip_prefix(&good).expect("below").to_path_buf();
        let length = fs::metadata(&file).expect("file").len();
        for round in 0..14 {
            let dir = root.path().join(format!("{n}-{round}"));
            copy(&good, &dir);
            let path = dir.join(&name);
            match round {
                0 => fs::remove_file(&path).expect("removes"),
                1 => fs::write(&path, b"").expect("empties"),
                2 => {
                    let file = fs::File::options().write(true).open(&path).expect("opens");
                    file.set_len(length - 1).expect("cuts");
                }
                _ => {
                    let mut bytes = fs::read(&path).expect("reads");
                    let at = random.random_range(0..bytes.len());
                    bytes[at] ^= 1 << random.random_range(0..8);
                    fs::write(&path, bytes).expect("writes");
                }
            }
            match open_damaged(&dir) {
                None => damaged += 1,
                // A bit that nothing reads, as in padding, may go unseen; a wrong value may not.
                Some(found) => assert_eq!(found, whole, "{} round {round}", name.display()),
            }
        }
    }
    assert!(damaged > 40, "only {damaged} damages were found");
}

#[test]
fn a_stray_directory_among_the_tables_is_damage() {
    let dir = scratch::dir();
    drop(open(dir.path(), &Log::all()).expect("opens"));
    fs::create_dir(dir.path().join("tables/stray")).expect("creates");
    assert_eq!(open_damaged(dir.path()), None);
}

#[test]
fn a_failed_flush_poisons() {
    let dir = scratch::dir();
    let dir = dir.path().join("state");
    let state = open(&dir, &Log::all()).expect("opens");
    write(&state, 1, &[(b"\x01a", Some(b"1"))]);
    fs::remove_dir_all(&dir).expect("removes");
    for _ in 0..2 {
        assert!(matches!(state.flush_now(), Err(Error::StatePoisoned { .. })));
    }
    let refused = state.write(&applied(2), &mut std::iter::empty());
    assert!(matches!(refused, Err(Error::StatePoisoned { .. })), "{refused:?}");
    assert_eq!(state.flushed(), None);
}

#[test]
fn a_thread_that_dies_leaves_no_writer_waiting() {
    let dir = scratch::dir();
    let config = StateConfig { flush_bytes: 1_000, ..StateConfig::new(Arc::new(|| panic!("the log is gone"))) };
    let state = StateTree::open(dir.path(), config).expect("opens");
    let failed = (1..).find_map(|index| state.write(&applied(index), &mut [(&b"\x01a"[..], None)].into_iter()).err());
    assert!(matches!(failed, Some(Error::StatePoisoned { .. })), "{failed:?}");
}

#[test]
#[should_panic(expected = "applied after")]
fn an_entry_is_applied_once() {
    let dir = scratch::dir();
    let state = open(dir.path(), &Log::all()).expect("opens");
    write(&state, 1, &[]);
    write(&state, 1, &[]);
}

#[test]
fn ranges() {
    let dir = scratch::dir();
    let tree = open(dir.path(), &Log::all()).expect("opens");
    let model = ModelState::new(Log::all().fsynced());
    for state in [&tree as &dyn StateStore, &model] {
        write(
            state,
            1,
            &[(b"\x01", Some(b"1")), (b"\x01\xff", Some(b"2")), (b"\x02", Some(b"3")), (b"\xff\xff", Some(b"4"))],
        );
        let check = |range: KeyRange<'_>, expected: &[&[u8]]| {
            let mut found: Vec<Vec<u8>> = Vec::new();
            let scan = state.scan(range, &mut |_, value| {
                found.push(value.to_vec());
                ControlFlow::Continue(())
            });
            scan.expect("scans");
            assert_eq!(found, expected, "{range:?}");
        };
        let (mut end, mut end_of_all) = (Vec::new(), Vec::new());
        check(prefix_range(b"\x01", &mut end), &[b"1", b"2"]);
        check(prefix_range(b"\x01\xff", &mut end), &[b"2"]);
        check(prefix_range(b"\xff", &mut end_of_all), &[b"4"]);
        check((Bound::Unbounded, Bound::Unbounded), &[b"1", b"2", b"3", b"4"]);
        check((Bound::Excluded(b"\x01"), Bound::Included(b"\x02")), &[b"2", b"3"]);
        check((Bound::Included(b"\x02"), Bound::Excluded(b"\x02")), &[]);
        check((Bound::Excluded(b"\x02"), Bound::Excluded(b"\x02")), &[]);
        check((Bound::Included(b"\x03"), Bound::Included(b"\x02")), &[]);
        check((Bound::Unbounded, Bound::Included(b"\0applied")), &[]);
        let mut first = 0;
        let stop = &mut |_: &[u8], _: &[u8]| {
            first += 1;
            ControlFlow::Break(())
        };
        state.scan((Bound::Unbounded, Bound::Unbounded), stop).expect("scans");
        assert_eq!(first, 1);
    }
}

#[test]
fn a_crash_of_the_model_leaves_any_durable_entry_or_nothing() {
    let log = Log::default();
    let model = ModelState::new(log.fsynced());
    let mut expected = vec![BTreeMap::new()];
    let mut state = BTreeMap::new();
    for index in 1..=9 {
        write_entry(&model, &mut state, index);
        expected.push(state.clone());
    }
    assert_eq!(model.survivors(None), [None]);
    let survivors = model.survivors(Some(LogIndex(6)));
    assert_eq!(survivors.len(), 7);
    for survivor in survivors {
        let after = model.crash(survivor, log.fsynced());
        assert_eq!(after.applied().map(|applied| applied.index), survivor);
        assert_eq!(dump(&after), expected[survivor.map_or(0, |index| index.0 as usize)]);
    }
    log.set(4);
    assert_eq!(index_of(model.flush_now().expect("flushes")), Some(4));
}
