//! The same for what is derived: a checkpoint, and the three sidecars of a segment.

use std::fmt::Write as _;

use bytes::Bytes;
use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{LogPosition, Ordinal, QueueId, QueueOffset, Timestamp, TopicId};

use super::*;
use crate::checkpoint::{Checkpoints, Meta};
use crate::queues::{Frame, QueueIndex, Sealed};
use crate::state::{Applied, Change, ModelState, StateStore};

const SEALED: Sealed = Sealed { base: LogPosition(0), first: LogIndex(1), last: LogIndex(3) };

fn write(root: &Path) {
    fs::create_dir_all(root).expect("mkdir");
    let (queues, _) = QueueIndex::open(Arc::new(RealDisk), OWNER, &root.join("sidecar"), &[]).expect("queues");
    for index in 1..=3_u64 {
        let entry = |ordinal: u16| QueueEntry {
            position: LogPosition(index * 1_000 + u64::from(ordinal)),
            index: LogIndex(index),
            length: 100,
            term: Term(2),
            ordinal: Ordinal(ordinal),
            priority: 1,
            flags: 0,
            tag_hash: 7,
            ordering_key_hash: 8,
            stamp: Timestamp(50 + index),
        };
        let entries = [
            (TopicId(1), QueueId(0), QueueOffset(index + 4), entry(0)),
            (TopicId(2), QueueId(1), QueueOffset(index - 1), entry(1)),
        ];
        let keys = [(TopicId(1), 77, Ordinal(0))];
        let (segment, position) = (SEALED.base, LogPosition(index * 1_000 - 48));
        queues.append(&Frame { segment, index: LogIndex(index), position, entries: &entries, keys: &keys });
    }
    queues.seal(SEALED.base).expect("seals");
    let state = ModelState::new(Arc::new(|| None));
    let applied = Applied { index: LogIndex(9), meta: Bytes::from_static(b"progress") };
    let changes: [Change<'_>; 2] = [(b"\x01a", Some(b"one")), (b"\x02b", Some(b""))];
    state.write(&applied, &mut changes.into_iter()).expect("writes");
    let meta = Meta { term: Term(2), index: LogIndex(9), extra: Bytes::from_static(b"extra") };
    let checkpoints = Checkpoints::open(Arc::new(RealDisk), OWNER, &root.join("checkpoint")).expect("checkpoints");
    checkpoints.export(&*state.snapshot(), &meta).expect("exports");
}

fn dump(root: &Path) -> String {
    let mut out = String::new();
    let (queues, missing) =
        QueueIndex::open(Arc::new(RealDisk), OWNER, &root.join("sidecar"), &[SEALED]).expect("queues");
    writeln!(out, "missing {missing:?}").expect("text");
    for (topic, queue) in [(1, 0), (2, 1)] {
        let (topic, queue) = (TopicId(topic), QueueId(queue));
        let range = queues.range(topic, queue).expect("a range");
        let read = queues.read(topic, queue, range.earliest, 9).expect("reads");
        writeln!(out, "queue {}/{}: {range:?} {read:?}", topic.0, queue.0).expect("text");
    }
    writeln!(out, "key 77: {:?}", queues.by_key(TopicId(1), 77, 9).expect("keys")).expect("text");
    writeln!(out, "entry 2: {:?}", queues.position_at_or_before(LogIndex(2)).expect("positions")).expect("text");
    let checkpoints = Checkpoints::open(Arc::new(RealDisk), OWNER, &root.join("checkpoint")).expect("checkpoints");
    let import = checkpoints.import(LogIndex(9)).expect("imports");
    writeln!(out, "checkpoint {:?}", import.meta()).expect("text");
    for item in import {
        writeln!(out, "  {:?}", item.expect("whole")).expect("text");
    }
    out
}

#[test]
fn a_checkpoint_and_sidecars_of_this_format_open_as_they_did() {
    let root = golden("derived");
    let mode_write = std::env::var("POINTSMAN_GOLDEN").is_ok_and(|mode| mode == "write");
    if mode_write {
        if root.exists() {
            fs::remove_dir_all(&root).expect("remove");
        }
        write(&root);
    }
    let place = tempfile::tempdir().expect("tempdir");
    copy(&root, place.path());
    let said = dump(place.path());
    if mode_write {
        fs::write(root.join("expected.txt"), &said).expect("write");
    }
    assert_eq!(said, fs::read_to_string(root.join("expected.txt")).expect("expected.txt"));
    assert!(said.contains("missing []"), "nothing was made again: {said}");
}
