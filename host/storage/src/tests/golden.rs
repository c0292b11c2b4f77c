//! Directories written by earlier releases, kept for ever: each opens as it did, or is refused as it was.
//!
//! `POINTSMAN_GOLDEN=write cargo test -p pointsman-storage golden` writes those of the present format anew. Once a release
//! has the format they must not change; a new format gets new directories beside them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, ShardId, Term};
use pointsman_model::record;

use super::workload::frame;
use crate::disk::RealDisk;
use crate::identity::{Identity, Owner};
use crate::log::{CommitLog, Frame, LogConfig};
use crate::vote::{Vote, VoteFile};

mod derived;

const IDENTITY: Identity = Identity { cluster: *b"golden directory", node: 3, incarnation: 1 };
const OWNER: Owner = Owner { cluster: IDENTITY.cluster, shard: ShardId(2) };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

fn config(root: &Path) -> LogConfig {
    LogConfig {
        segment_bytes: 16 << 10,
        zero_ahead: false,
        ..LogConfig::new(root.join("shards/2"), IDENTITY.cluster, OWNER.shard)
    }
}

/// Everything a reader can tell of a directory, in words.
fn dump(root: &Path) -> String {
    let mut out = String::new();
    let identity = Identity::open(&RealDisk, root).expect("identity");
    writeln!(out, "identity {:?}", identity.map(|identity| (identity.node, identity.incarnation))).expect("text");
    let vote = VoteFile::open(&RealDisk, &root.join("shards/2"), OWNER).expect("vote").load();
    let vote = vote.map(|vote| (vote.term.0, vote.node, vote.committed));
    writeln!(out, "vote {vote:?}").expect("text");
    let (log, report) = CommitLog::open(Arc::new(RealDisk), config(root)).expect("log");
    let last = report.last.map(|(term, index, stamp)| (term.0, index.0, stamp.0));
    let base = log.purged().map(|base| (base.term.0, base.index.0, base.end.0, base.stamp.0, base.crc));
    writeln!(out, "torn bytes {}, last {last:?}, purged {base:?}", report.torn_bytes).expect("text");
    for damage in &report.damages {
        let name = damage.path.file_name().expect("a name").display();
        let (from, to) = (damage.from, damage.to);
        writeln!(out, "damage in {name} from {from} to {to}: {}", damage.reason).expect("text");
    }
    for segment in log.segments() {
        writeln!(out, "segment {} from index {} to {}", segment.base, segment.first_index, segment.end).expect("text");
        for index in segment.first_index.0..=segment.last_index.0 {
            match log.read(LogIndex(index)..LogIndex(index + 1), 0) {
                Ok(frames) => frames.iter().for_each(|frame| dump_frame(&mut out, frame)),
                Err(_) => writeln!(out, "  {index}: cannot be read").expect("text"),
            }
        }
    }
    out
}

fn dump_frame(out: &mut String, frame: &Frame) {
    let Frame { term, index, kind, stamp, location, .. } = frame;
    write!(out, "  {index}: term {term}, {kind:?}, {stamp}, at {}, records", location.position).expect("text");
    for range in record::ranges(&frame.records) {
        let record = record::decode(&frame.records.slice(range.expect("whole"))).expect("good");
        write!(out, " {}:{}", record.header.kind, record.body.len()).expect("text");
    }
    out.push('\n');
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("mkdir");
    for entry in fs::read_dir(from).expect("list") {
        let (path, target) = {
            let entry = entry.expect("entry");
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target)
        } else {
            fs::write(&target, fs::read(&path).expect("read")).expect("write")
        }
    }
}

/// Opens a copy and compares what it says; twice, for opening must not change what is said but for the tail it cut.
fn check(name: &str) {
    let place = tempfile::tempdir().expect("tempdir");
    copy(&golden(name), place.path());
    let expected = golden(name).join("expected.txt");
    let said = dump(place.path());
    if std::env::var("POINTSMAN_GOLDEN").is_ok_and(|mode| mode == "write") {
        fs::write(&expected, &said).expect("write");
    }
    assert_eq!(said, fs::read_to_string(&expected).expect("expected.txt"), "{name}");
    let again = dump(place.path());
    let lines =
        |text: &str| text.lines().filter(|line| !line.starts_with("torn")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&again), lines(&said), "{name}, the second time");
}

/// The directory of the present format: two segments, a purge, a vote.
fn write_good(root: &Path) {
    let shard = root.join("shards/2");
    fs::create_dir_all(&shard).expect("mkdir");
    Identity::open_or_create(&RealDisk, root, || IDENTITY).expect("identity");
    let mut votes = VoteFile::open(&RealDisk, &shard, OWNER).expect("vote");
    for (term, committed) in [(1, false), (1, true), (2, true)] {
        votes.save(Vote { term: Term(term), node: 3 << 32 | 1, committed }).expect("save");
    }
    let (log, _) = CommitLog::open(Arc::new(RealDisk), config(root)).expect("log");
    let sizes: [&[usize]; 9] = [&[], &[100], &[2_000, 10], &[7_000], &[500], &[], &[9_000], &[33, 1, 0], &[300]];
    for (sizes, index) in sizes.into_iter().zip(1..) {
        log.append(vec![frame(1 + index / 6, index, index, sizes)], Box::new(|_| ())).expect("append");
        log.barrier().expect("barrier");
    }
    log.purge((Term(1), LogIndex(2))).expect("purge");
    drop(log);
    for entry in fs::read_dir(shard.join("log")).expect("list") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(path).expect("remove");
        }
    }
}

/// Writes all directories of the present format.
fn write_all() {
    for name in ["good", "torn", "damaged"] {
        let root = golden(name);
        if root.exists() {
            fs::remove_dir_all(&root).expect("remove");
        }
        write_good(&root);
        let newest = root.join("shards/2/log").join(format!("{:020}.seg", 10_272));
        let change = |change: fn(&mut Vec<u8>)| {
            let mut bytes = fs::read(&newest).expect("the last segment");
            change(&mut bytes);
            fs::write(&newest, bytes).expect("write");
        };
        match name {
            "torn" => change(|bytes| bytes[16_000..16_100].fill(0xAB)),
            "damaged" => change(|bytes| bytes[5_000] ^= 1),
            _ => {}
        }
    }
}

#[test]
fn golden_directories_open_as_they_did() {
    if std::env::var("POINTSMAN_GOLDEN").is_ok_and(|mode| mode == "write") {
        write_all();
    }
    for name in ["good", "torn", "damaged"] {
        check(name);
    }
}
