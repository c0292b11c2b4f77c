//! Calls that fail: what is refused, what is poisoned, what heals.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use pointsman_model::ids::LogIndex;

use super::oracle::{DIR, Expect, Setting, check, read_all};
use super::workload::frame;
use crate::Error;
use crate::disk::ensure_dir;
use crate::disk::sim::{Call, Fault, Injection, SimDisk};
use crate::log::CommitLog;

const SETTING: Setting = Setting { zero_ahead: false, tail_cache_bytes: 0, mutant: None };

fn fresh() -> (SimDisk, CommitLog) {
    let disk = SimDisk::default();
    ensure_dir(&disk, Path::new(DIR)).expect("mkdir");
    let log = SETTING.open(&disk).expect("open").0;
    (disk, log)
}

fn append(log: &CommitLog, index: u64, size: usize) -> Result<Receiver<Result<(), Error>>, Error> {
    let (done, answer) = channel();
    log.append(
        vec![frame(1, index, index, &[size])],
        Box::new(move |result| done.send(result).expect("someone waits")),
    )?;
    Ok(answer)
}

fn commit_one(log: &CommitLog, index: u64, size: usize) {
    let answer = append(log, index, size).expect("append");
    log.barrier().expect("barrier");
    answer.recv().expect("called").expect("flushed");
}

fn once(call: Call, path_contains: &'static str, kind: io::ErrorKind) -> Injection {
    Injection { call, path_contains, skip: 0, times: 1, fault: Fault::Error(kind) }
}

/// The first failure of this call ends all writing, and nothing is synced or written after it.
fn check_poisons(call: Call) {
    let (disk, log) = fresh();
    commit_one(&log, 1, 100);
    let promised = Expect { lineage: read_all(&log).expect("read"), durable: 1, ..Expect::default() };
    let first = append(&log, 2, 100).expect("append");
    let second = append(&log, 3, 100).expect("append");
    disk.inject(once(call, "", io::ErrorKind::Other));
    assert!(matches!(log.step(), Err(Error::Poisoned(_))), "{call:?}");
    for answer in [first, second] {
        assert!(matches!(answer.recv().expect("called"), Err(Error::Poisoned(_))), "{call:?}");
    }
    let operations = disk.world().operations();
    assert!(matches!(append(&log, 4, 100), Err(Error::Poisoned(_))));
    assert!(matches!(log.barrier(), Err(Error::Poisoned(_))));
    assert!(matches!(log.step(), Err(Error::Poisoned(_))));
    assert!(matches!(log.truncate_after(None), Err(Error::Poisoned(_))));
    assert!(matches!(log.purge((pointsman_model::ids::Term(1), LogIndex(1))), Err(Error::Poisoned(_))));
    assert!(matches!(log.check_room(1), Err(Error::Poisoned(_))));
    assert!(log.wait_flushed(LogIndex(2), std::time::Duration::from_secs(60)).is_err(), "waiting ends at once");
    assert_eq!(disk.world().operations(), operations, "{call:?}: the disk is left alone");
    assert_eq!(log.flushed(), Some(LogIndex(1)));
    assert_eq!(read_all(&log).expect("what is there can be read").len(), 3);
    let appended = read_all(&log).expect("read");
    let may_have = Expect { lineage: appended, ..promised };
    let world = disk.world();
    let atoms = world.atoms();
    for choice in crate::disk::sim::choices(&atoms, 1, 20) {
        check(world.crash(&atoms, choice).0, &may_have, &SETTING).expect("the first entry survives");
    }
}

#[test]
fn a_failed_write_poisons() {
    check_poisons(Call::Write);
}

#[test]
fn a_failed_sync_poisons_and_is_never_tried_again() {
    check_poisons(Call::Sync);
}

#[test]
fn a_failed_directory_sync_of_a_new_segment_poisons() {
    let (disk, log) = fresh();
    disk.inject(once(Call::SyncDir, "log", io::ErrorKind::Other));
    let answer = append(&log, 1, 100).expect("append");
    assert!(matches!(log.barrier(), Err(Error::Poisoned(_))));
    assert!(matches!(answer.recv().expect("called"), Err(Error::Poisoned(_))));
}

#[test]
fn a_full_disk_is_refused_before_anything_is_accepted_and_heals() {
    for call in [Call::Reserve, Call::Create] {
        let (disk, log) = fresh();
        commit_one(&log, 1, 10_000);
        disk.inject(Injection { times: u64::MAX, ..once(call, "spare", io::ErrorKind::StorageFull) });
        let before = (log.last(), log.end(), log.segments());
        for _ in 0..3 {
            assert!(matches!(append(&log, 2, 10_000), Err(Error::DiskFull { .. })), "{call:?}");
            assert!(matches!(log.check_room(10_000), Err(Error::DiskFull { .. })));
        }
        assert_eq!((log.last(), log.end(), log.segments()), before, "nothing changed");
        log.check_room(100).expect("there is room in the active segment");
        commit_one(&log, 2, 100);
        disk.heal();
        log.check_room(10_000).expect("room again");
        commit_one(&log, 3, 10_000);
        drop(log);
        let (log, _) = SETTING.open(&disk).expect("open");
        assert_eq!(log.last().map(|last| last.1), Some(LogIndex(3)));
        let left = disk.world().files().keys().filter(|path| path.contains("spare")).count();
        assert_eq!(left, 0, "a start removes what was reserved and not used");
    }
}

#[test]
fn too_many_open_files_are_no_reason_to_stop_writing() {
    let (disk, log) = fresh();
    commit_one(&log, 1, 10_000);
    disk.inject(once(Call::Create, "spare", io::ErrorKind::Other));
    log.step().expect("the next segment cannot be made ahead, which is no failure");
    commit_one(&log, 2, 10_000);
    assert_eq!(log.segments().len(), 2, "made when it was needed");
}

#[test]
fn short_writes_are_finished() {
    let (disk, log) = fresh();
    disk.inject(Injection { call: Call::Write, path_contains: "", skip: 0, times: u64::MAX, fault: Fault::Short });
    for index in 1..6 {
        commit_one(&log, index, 1_000);
    }
    drop(log);
    disk.heal();
    let (log, report) = SETTING.open(&disk).expect("open");
    assert_eq!((report.torn_bytes, log.last().map(|last| last.1)), (0, Some(LogIndex(5))));
}

#[test]
fn a_read_error_is_an_error_of_that_read_alone() {
    let (disk, log) = fresh();
    commit_one(&log, 1, 100);
    disk.inject(once(Call::Read, "", io::ErrorKind::Other));
    assert!(matches!(read_all(&log), Err(Error::Io { operation: "read", .. })));
    assert_eq!(read_all(&log).expect("read").len(), 1);
    commit_one(&log, 2, 100);
    disk.inject(once(Call::Read, ".seg", io::ErrorKind::Other));
    drop(log);
    assert!(matches!(SETTING.open(&disk), Err(Error::Io { .. })), "not taken for a torn tail");
    assert_eq!(SETTING.open(&disk).expect("open").1.last.map(|last| last.1), Some(LogIndex(2)));
}

#[test]
fn a_failed_save_of_a_vote_is_final() {
    let (disk, _log) = fresh();
    let mut votes = super::oracle::open_vote(&disk).expect("open");
    votes.save(crate::vote::Vote::default()).expect("save");
    disk.inject(once(Call::Sync, "vote", io::ErrorKind::Other));
    for _ in 0..2 {
        let vote = crate::vote::Vote { node: 9, ..Default::default() };
        assert!(matches!(votes.save(vote), Err(Error::Poisoned(_))));
    }
    assert_eq!(votes.load(), Some(crate::vote::Vote::default()));
}
