//! Tests of the log on a real disk, with its own threads.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::BytesMut;
use pointsman_model::ids::{LogIndex, ShardId, Term};
use pointsman_model::record;
use pointsman_model::time::Timestamp;

use super::*;
use crate::disk::RealDisk;

pub(crate) fn batch(term: u64, index: u64, bodies: &[&[u8]]) -> Frame {
    let mut records = BytesMut::new();
    for body in bodies {
        let header = record::Header { kind: record::kind::PUBLISH, ..Default::default() };
        record::encode(&mut records, &header, &index.to_le_bytes(), body);
    }
    let records = records.freeze();
    Frame {
        kind: FrameKind::Batch,
        count: bodies.len() as u32,
        records_crc: record::records_crc(&records).expect("whole records"),
        records,
        ..Frame::blank(Term(term), LogIndex(index), Timestamp(1_000 + index))
    }
}

fn sized(term: u64, index: u64, bytes: usize) -> Frame {
    batch(term, index, &[&vec![index as u8 ^ 0x5A; bytes]])
}

fn config(dir: &std::path::Path, segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, ..LogConfig::new(dir.to_owned(), [7; 16], ShardId(1)) }
}

fn open(config: &LogConfig) -> (CommitLog, RecoveryReport) {
    CommitLog::open(Arc::new(RealDisk), config.clone()).expect("open")
}

fn append(log: &CommitLog, frames: Vec<Frame>) {
    let (done, answer) = mpsc::channel();
    log.append(frames, Box::new(move |result| done.send(result).expect("someone waits"))).expect("append");
    answer.recv().expect("called").expect("flushed");
}

fn indexes(range: std::ops::Range<u64>) -> std::ops::Range<LogIndex> {
    LogIndex(range.start)..LogIndex(range.end)
}

#[test]
fn what_was_appended_is_read_back_before_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    for tail_cache_bytes in [0, 1 << 20] {
        let dir = dir.path().join(tail_cache_bytes.to_string());
        std::fs::create_dir(&dir).expect("mkdir");
        let config = LogConfig { tail_cache_bytes, ..config(&dir, 16 << 10) };
        let frames: Vec<Frame> = (1..=60).map(|i| sized(i / 20 + 1, i, 100 * i as usize)).collect();
        let (log, report) = open(&config);
        assert_eq!(report, RecoveryReport::default());
        for chunk in frames.chunks(7) {
            append(&log, chunk.to_vec());
        }
        assert_eq!(log.read(indexes(1..100), usize::MAX).expect("read"), frames);
        let segments = log.segments();
        assert!(segments.len() > 5, "{} segments", segments.len());
        drop(log);
        let (log, report) = open(&config);
        assert_eq!(report.torn_bytes, 0);
        assert_eq!(report.last, Some((Term(4), LogIndex(60), Timestamp(1_060))));
        assert_eq!(log.read(indexes(0..100), usize::MAX).expect("read"), frames);
        assert_eq!(log.segments(), segments);
        assert_eq!(log.read(indexes(30..40), 1).expect("read"), frames[29..30]);
        assert_eq!(
            log.term_starts(LogIndex(1), LogIndex(60)).expect("terms"),
            [(Term(1), LogIndex(1)), (Term(2), LogIndex(20)), (Term(3), LogIndex(40)), (Term(4), LogIndex(60))]
        );
        for segment in log.full_segments() {
            log.seal(segment.base).expect("seal");
        }
        assert_eq!(log.full_segments(), []);
        assert_eq!(log.read(indexes(0..100), usize::MAX).expect("read"), frames, "mapped");
        append(&log, vec![sized(4, 61, 10)]);
        drop(log);
        let (log, report) = open(&config);
        assert!(report.scanned <= 2, "sealed segments are not scanned: {report:?}");
        assert_eq!(log.read(indexes(0..61), usize::MAX).expect("read"), frames);
        let frame = &log.read(indexes(50..51), 1).expect("read")[0];
        let bytes = log.read_record(frame.records_position(), frame.records.len()).expect("record");
        assert_eq!(record::decode(&bytes).expect("good").body, vec![50 ^ 0x5A; 5_000]);
    }
}

#[test]
fn a_frame_longer_than_a_segment_has_its_own() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 16 << 10);
    let frames: Vec<Frame> =
        [10, 100_000, 10, 50_000, 60_000, 5].into_iter().zip(1..).map(|(n, i)| sized(1, i, n)).collect();
    let (log, _) = open(&config);
    append(&log, frames.clone());
    assert_eq!(log.segments().iter().map(|s| s.first_index.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    drop(log);
    let (log, _) = open(&config);
    assert_eq!(log.read(indexes(1..7), usize::MAX).expect("read"), frames);
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (log, _) = open(&config(dir.path(), 16 << 10));
    append(&log, vec![sized(3, 7, 10)]);
    let refused = |frame| log.append(vec![frame], Box::new(|_| unreachable!("refused"))).expect_err("refused");
    assert!(matches!(refused(sized(3, 9, 1)), Error::NotContiguous { expected: LogIndex(8), found: LogIndex(9) }));
    assert!(matches!(refused(sized(3, 7, 1)), Error::NotContiguous { .. }));
    assert!(matches!(refused(sized(2, 8, 1)), Error::TermWentBack { .. }));
    append(&log, vec![sized(3, 8, 10)]);
}

#[test]
fn truncated_entries_are_gone_and_replaced() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 16 << 10);
    let frames: Vec<Frame> = (1..=30).map(|i| sized(1, i, 3_000)).collect();
    for last in [29, 26, 25, 11, 5, 1] {
        let (log, _) = open(&config);
        log.truncate_after(None).expect("truncate");
        assert_eq!((log.last(), log.end()), (None, LogPosition(0)));
        append(&log, frames.clone());
        log.truncate_after(Some(LogIndex(last))).expect("truncate");
        assert_eq!(log.read(indexes(0..99), usize::MAX).expect("read"), frames[..last as usize]);
        append(&log, vec![sized(2, last + 1, 50)]);
        let segments = log.segments();
        drop(log);
        let (log, report) = open(&config);
        assert_eq!(report.torn_bytes, 0, "{last}");
        assert_eq!(
            log.read(indexes(last..99), usize::MAX).expect("read"),
            [frames[last as usize - 1].clone(), sized(2, last + 1, 50)]
        );
        assert_eq!(log.segments(), segments);
    }
}

#[test]
fn cutting_back_to_a_sealed_segment_opens_it_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 16 << 10);
    let (log, _) = open(&config);
    append(&log, (1..=5).map(|i| sized(1, i, 2_500)).collect());
    let full = log.full_segments();
    assert_eq!(full.iter().map(|s| s.last_index.0).collect::<Vec<_>>(), [4]);
    log.seal(full[0].base).expect("seal");
    let old = log.read(indexes(1..2), 1).expect("read");
    assert_eq!(log.truncate_after(Some(LogIndex(4))).expect("truncate"), Some(full[0].base));
    append(&log, vec![sized(2, 5, 10)]);
    assert_eq!(log.segments().len(), 1, "a small frame fits where the large one did not");
    assert_eq!(old, [sized(1, 1, 2_500)]);
    drop(log);
    let (log, _) = open(&config);
    assert_eq!(log.last().map(|last| last.1), Some(LogIndex(5)));
}

#[test]
fn a_segment_whose_first_frame_was_lost_is_given_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 16 << 10);
    for (sealed, torn) in [(false, 0_usize), (false, 300), (true, 0), (true, 300)] {
        let (log, _) = open(&config);
        log.truncate_after(None).expect("truncate");
        append(&log, (1..=5).map(|i| sized(1, i, 2_500)).collect());
        let full = log.full_segments()[0];
        if sealed {
            log.seal(full.base).expect("seal");
        }
        let active = log.segments()[1];
        drop(log);
        // What a power cut leaves of a frame that was being written: zeros, or the first bytes of it.
        let path = super::segment::path(&config.segments_dir(), active.base);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[segment_header::HEADER_PAGE_BYTES as usize + torn..].fill(0);
        std::fs::write(&path, bytes).expect("write");
        let (log, report) = open(&config);
        assert_eq!((log.last().map(|last| last.1), report.segments), (Some(LogIndex(4)), 1));
        assert_eq!((report.torn_bytes > 0, report.successor_gone), (torn > 0, false));
        assert!(!path.exists());
        append(&log, vec![sized(2, 5, 10)]);
        assert_eq!(log.segments().len(), 1, "it fits where the lost one did not");
        drop(log);
        let (log, report) = open(&config);
        assert_eq!((log.last().map(|last| last.1), report.torn_bytes), (Some(LogIndex(5)), 0));
        append(&log, vec![sized(2, 6, 2_500)]);
        assert_eq!(log.segments().len(), 2);
    }
}

#[test]
fn a_purge_keeps_what_comes_after_and_says_where_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 16 << 10);
    let frames: Vec<Frame> = (1..=30).map(|i| sized(1, i, 3_000)).collect();
    let (mut log, _) = open(&config);
    append(&log, frames.clone());
    for upto in [3, 4, 17, 30, 40] {
        log.purge((Term(1), LogIndex(upto))).expect("purge");
        let kept = frames.get(upto as usize..).unwrap_or_default();
        assert_eq!(log.read(indexes(0..99), usize::MAX).expect("read"), kept);
        assert_eq!(log.purged().map(|base| base.index), Some(LogIndex(upto)));
        assert_eq!(log.first_index().is_some(), upto < 30);
        let before = (log.end(), log.segments(), log.purged(), log.last_stamp());
        drop(log);
        let (again, report) = open(&config);
        log = again;
        assert_eq!((log.end(), log.segments(), log.purged(), log.last_stamp()), before, "{upto}");
        assert_eq!(report.last.map(|last| last.1.0), (upto < 30).then_some(30));
    }
    let refused = log.append(vec![sized(1, 31, 1)], Box::new(|_| ())).expect_err("refused");
    assert!(matches!(refused, Error::NotContiguous { expected: LogIndex(41), .. }));
    append(&log, vec![sized(2, 41, 10)]);
}

#[test]
fn a_log_goes_on_after_the_base_it_was_reset_to() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 16 << 10);
    let (log, _) = open(&config);
    append(&log, (1..=8).map(|i| sized(1, i, 3_000)).collect());
    let base = Base { term: Term(3), index: LogIndex(100), end: LogPosition(1 << 20), stamp: Timestamp(9), crc: 4 };
    log.reset(base).expect("reset");
    append(&log, vec![sized(3, 101, 10)]);
    drop(log);
    let (log, _) = open(&config);
    assert_eq!(log.purged(), Some(base));
    assert_eq!(log.read(indexes(0..200), 1 << 20).expect("read")[0].location.position, LogPosition(1 << 20));
}

#[test]
fn a_bit_flipped_below_the_watermark_is_reported_and_changes_no_byte() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 64 << 10);
    let frames: Vec<Frame> = (1..=9).map(|i| sized(1, i, 3_000)).collect();
    let (log, _) = open(&config);
    for frame in &frames {
        append(&log, vec![frame.clone()]);
    }
    let third = log.read(indexes(3..4), 1).expect("read")[0].location.position;
    drop(log);
    let path = dir.path().join("log/00000000000000000000.seg");
    for (offset, what) in [(8, "header"), (1_000, "body")] {
        let good = std::fs::read(&path).expect("read");
        let mut bad = good.clone();
        bad[4_096 + third.0 as usize + offset] ^= 4;
        std::fs::write(&path, &bad).expect("write");
        let (log, report) = open(&config);
        assert_eq!(report.damages.len(), 1, "{what}");
        assert_eq!((report.damages[0].from, report.damages[0].first_index), (third, LogIndex(3)));
        assert_eq!(report.damages[0].next_index, Some(LogIndex(4)));
        assert_eq!(log.read(indexes(1..9), usize::MAX).expect("what is before"), frames[..2]);
        let error = log.read(indexes(3..9), usize::MAX).expect_err("damaged");
        assert!(matches!(error, Error::Damaged { position, .. } if position == third), "{error}");
        assert!(matches!(log.append(vec![sized(1, 10, 1)], Box::new(|_| ())), Err(Error::ReadOnly { .. })));
        assert!(matches!(log.truncate_after(None), Err(Error::ReadOnly { .. })));
        drop(log);
        assert_eq!(std::fs::read(&path).expect("read"), bad);
        std::fs::write(&path, &good).expect("write");
    }
}

#[test]
fn missing_foreign_and_swapped_segments_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 16 << 10);
    let (log, _) = open(&config);
    append(&log, (1..=20).map(|i| sized(1, i, 3_000)).collect());
    let paths: Vec<_> = log.segments().iter().map(|s| dir.path().join(format!("log/{:020}.seg", s.base.0))).collect();
    drop(log);
    let check = |expected: fn(&Error) -> bool| {
        let error = CommitLog::open(Arc::new(RealDisk), config.clone()).expect_err("refused");
        assert!(expected(&error), "{error}");
    };
    for missing in [0, 2] {
        let away = dir.path().join("away");
        std::fs::rename(&paths[missing], &away).expect("rename");
        check(|error| matches!(error, Error::SegmentMissing { .. }));
        std::fs::rename(&away, &paths[missing]).expect("rename");
    }
    let (first, second) = (std::fs::read(&paths[0]).expect("read"), std::fs::read(&paths[1]).expect("read"));
    std::fs::write(&paths[0], &second).expect("write");
    check(|error| matches!(error, Error::Foreign { .. }));
    std::fs::write(&paths[0], &first[..2_000]).expect("write");
    check(|error| matches!(error, Error::SegmentMissing { .. } | Error::DamagedFile { .. }));
    std::fs::write(&paths[0], &first).expect("write");
    let other = LogConfig { cluster: [8; 16], ..config.clone() };
    assert!(matches!(
        CommitLog::open(Arc::new(RealDisk), other),
        Err(Error::DamagedFile { .. } | Error::Foreign { .. })
    ));
    open(&config);
}

#[test]
fn waiting_for_an_entry_ends_when_it_is_durable() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (log, _) = open(&config(dir.path(), 16 << 10));
    assert!(!log.wait_flushed(LogIndex(1), Duration::from_millis(1)).expect("no failure"));
    log.append(vec![sized(1, 1, 10)], Box::new(|_| ())).expect("append");
    assert!(log.wait_flushed(LogIndex(1), Duration::from_secs(10)).expect("no failure"));
    assert_eq!(log.flushed(), Some(LogIndex(1)));
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (log, _) = open(&config(dir.path(), 16 << 10));
    let (done, answer) = mpsc::channel();
    let held = log.clone();
    log.append(
        vec![sized(1, 1, 10)],
        Box::new(move |_| {
            done.send(held.flushed()).expect("someone waits");
            drop(held);
        }),
    )
    .expect("append");
    drop(log);
    assert_eq!(answer.recv().expect("called"), Some(LogIndex(1)));
}

#[test]
fn tickets_hear_of_append_and_sync() {
    struct Ears(mpsc::Sender<String>);
    impl Ticket for Ears {
        fn appended(&self, term: Term, index: LogIndex) {
            self.0.send(format!("appended {term} {index}")).expect("someone listens");
        }
        fn fsynced(&self, ok: bool) {
            self.0.send(format!("fsynced {ok}")).expect("someone listens");
        }
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let config = LogConfig { writer: WriterMode::Manual, ..config(dir.path(), 16 << 10) };
    let (log, _) = open(&config);
    let (ears, heard) = mpsc::channel();
    let frame = Frame { ticket: Some(Arc::new(Ears(ears))), ..sized(2, 1, 10) };
    log.append(vec![frame], Box::new(|_| ())).expect("append");
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["appended 2 1"]);
    log.barrier().expect("barrier");
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["fsynced true"]);
    assert!(log.read(indexes(1..2), 1).expect("read")[0].ticket.is_none());
}

#[test]
fn a_file_cut_short_is_named_wherever_it_ends() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), 64 << 10);
    let (log, _) = open(&config);
    for index in 1..=6 {
        append(&log, vec![sized(1, index, 500)]);
    }
    let ends: Vec<u64> = log.read(indexes(1..6), usize::MAX).expect("read").iter().map(|frame| frame.end().0).collect();
    drop(log);
    let path = dir.path().join("log/00000000000000000000.seg");
    let good = std::fs::read(&path).expect("read");
    for (at, end) in ends.iter().enumerate() {
        for cut in [end - 100, *end, end + 8] {
            std::fs::write(&path, &good[..4_096 + cut as usize]).expect("write");
            let (_, report) = open(&config);
            let watermark = ends[4];
            assert_eq!(report.damages.len(), usize::from(cut < watermark), "cut to {cut} in or behind entry {at}");
        }
    }
}
