//! The log against a list: random operations, every answer compared; and positions against a log that never knew them.

use std::path::Path;
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, Term};

use super::oracle::{DIR, Expect, Setting, read_all};
use super::random::Random;
use super::workload::{Run, frame};
use crate::disk::ensure_dir;
use crate::disk::sim::SimDisk;
use crate::log::{CommitLog, Frame};

fn setting(seed: u64) -> Setting {
    Setting {
        zero_ahead: seed.is_multiple_of(2),
        tail_cache_bytes: [0, 3_000, 1 << 20][seed as usize % 3],
        mutant: None,
    }
}

/// Compares every kind of read with the list.
fn compare(log: &CommitLog, list: &[Frame], random: &mut Random, name: &str) {
    assert_eq!(read_all(log).expect("read"), list, "{name}");
    assert_eq!(log.first_index(), list.first().map(|frame| frame.index), "{name}");
    assert_eq!(log.last(), list.last().map(|frame| (frame.term, frame.index, frame.stamp)), "{name}");
    let (Some(first), Some(last)) = (list.first(), list.last()) else { return };
    for _ in 0..3 {
        let from = random.between(first.index.0.saturating_sub(1), last.index.0 + 1);
        let to = random.between(from, last.index.0 + 2);
        let max = random.pick(&[0, 500, 5_000, usize::MAX]);
        let got = log.read(LogIndex(from)..LogIndex(to), max).expect("read");
        let wanted: Vec<_> = list.iter().filter(|frame| (from..to).contains(&frame.index.0)).collect();
        assert_eq!(got.is_empty(), wanted.is_empty(), "{name}: {from}..{to}");
        assert!(got.iter().zip(&wanted).all(|(a, b)| a == *b && a.location == b.location), "{name}: {from}..{to}");
        let bytes: usize = got.iter().map(Frame::bytes).sum();
        assert!(got.len() <= 1 || bytes <= max, "{name}: {bytes} bytes of at most {max}");
        let all = wanted.len() == got.len() || bytes + wanted[got.len()].bytes() > max;
        assert!(all, "{name}: {} of {} entries", got.len(), wanted.len());
    }
    let one = &list[random.below(list.len() as u64) as usize];
    assert_eq!(log.term_at(one.index).expect("there"), one.term, "{name}");
    assert!(log.term_at(last.index.next()).is_err(), "{name}");
    if !one.records.is_empty() {
        let bytes = log.read_record(one.records_position(), one.records.len()).expect("there");
        assert_eq!(bytes, one.records, "{name}");
    }
    let mut starts: Vec<(Term, LogIndex)> = list.iter().map(|frame| (frame.term, frame.index)).collect();
    starts.dedup_by_key(|(term, _)| *term);
    assert_eq!(log.term_starts(first.index, last.index).expect("there"), starts, "{name}");
}

#[test]
fn a_log_is_a_list() {
    for seed in 0..24 {
        let disk = SimDisk::default();
        ensure_dir(&disk, Path::new(DIR)).expect("mkdir");
        let mut run = Run::on(disk, Expect::default(), setting(seed), seed);
        let mut random = Random::new(seed);
        for step in 0..60 {
            run.go(1).expect("no faults");
            let log = run.log().expect("open");
            let first = log.purged().map_or(0, |base| base.index.0 + 1);
            let list: Vec<Frame> =
                run.expect.lock().lineage.iter().filter(|frame| frame.index.0 >= first).cloned().collect();
            compare(&log, &list, &mut random, &format!("seed {seed}, step {step}"));
        }
        run.finish();
    }
}

#[test]
fn positions_and_bytes_are_a_function_of_the_entries_alone() {
    for seed in 0..8 {
        let disk = SimDisk::default();
        ensure_dir(&disk, Path::new(DIR)).expect("mkdir");
        let mut run = Run::on(disk.clone(), Expect::default(), setting(seed), seed);
        let mut random = Random::new(seed);
        for _ in 0..40 {
            run.append().expect("append");
            let log = run.log().expect("open");
            if let (0, Some((_, last, _))) = (random.below(4), log.last()) {
                run.truncate_to(&log, random.between(last.0 / 2, last.0)).expect("truncate");
            }
            if random.below(6) == 0 {
                run.commit().expect("commit");
                run.reopen().expect("reopen");
            }
        }
        run.commit().expect("commit");
        let list = read_all(&run.log().expect("open")).expect("read");
        run.finish();

        let plain = SimDisk::default();
        ensure_dir(&plain, Path::new(DIR)).expect("mkdir");
        let (log, _) = setting(seed + 1).open(&plain).expect("open");
        for frame in &list {
            log.append(vec![frame.clone()], Box::new(|_| ())).expect("append");
        }
        log.barrier().expect("barrier");
        for (there, here) in list.iter().zip(read_all(&log).expect("read")) {
            assert_eq!(there.location, here.location, "seed {seed}, entry {}", here.index);
        }
        let segments = |disk: &SimDisk| -> Vec<(String, Vec<u8>)> {
            let files = disk.world().files().into_iter().filter(|(path, _)| path.ends_with(".seg"));
            files.map(|(path, bytes)| (path, masked(bytes))).collect()
        };
        assert_eq!(segments(&disk), segments(&plain), "seed {seed}");
    }
}

/// The watermark slots are the one exception.
fn masked(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[512..1_536].fill(0);
    bytes
}

#[test]
fn threads_append_read_and_wait_at_the_same_time() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = crate::log::LogConfig {
        segment_bytes: 64 << 10,
        tail_cache_bytes: 20_000,
        ..crate::log::LogConfig::new(dir.path().to_owned(), [1; 16], pointsman_model::ids::ShardId(0))
    };
    let disk = Arc::new(crate::disk::RealDisk);
    let (log, _) = CommitLog::open(disk.clone(), config.clone()).expect("open");
    const ENTRIES: u64 = 600;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let log = log.clone();
            scope.spawn(move || {
                let mut next = LogIndex(1);
                while next.0 <= ENTRIES {
                    for found in log.read(next..LogIndex(u64::MAX), 10_000).expect("read") {
                        assert_eq!(found, frame(1, next.0, next.0, &[next.0 as usize % 900]));
                        next = next.next();
                    }
                }
            });
        }
        for index in 1..=ENTRIES {
            log.append(
                vec![frame(1, index, index, &[index as usize % 900])],
                Box::new(|result| result.expect("flushed")),
            )
            .expect("append");
            if index % 50 == 0 {
                for full in log.full_segments() {
                    if log.wait_flushed(full.last_index, std::time::Duration::from_secs(30)).expect("no failure") {
                        log.seal(full.base).expect("seal");
                    }
                }
            }
        }
    });
    drop(log);
    let (log, report) = CommitLog::open(disk, config).expect("open");
    assert_eq!(report.last.map(|last| last.1.0), Some(ENTRIES), "dropping the last handle drains the queue");
    assert_eq!(log.read(LogIndex(1)..LogIndex(u64::MAX), usize::MAX).expect("read").len() as u64, ENTRIES);
}
