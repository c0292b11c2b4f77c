//! The index against a list of frames, with seals, restarts, damage, rebuilds and retention in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_model::{ShardId, Term, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::disk::RealDisk;
use crate::identity::Owner;
use crate::{Error, scratch};

const OWNER: Owner = Owner { cluster: [7; 16], shard: ShardId(3) };
const TOPICS: u32 = 2;
const QUEUES: u16 = 2;
const KEYS: u64 = 3;

type Entries = Vec<(TopicId, QueueId, QueueOffset, QueueEntry)>;

/// A frame as the log holds it: what every rebuild starts from.
#[derive(Clone, Debug)]
struct Logged {
    segment: LogPosition,
    index: LogIndex,
    position: LogPosition,
    entries: Entries,
    keys: Vec<(TopicId, u64, Ordinal)>,
}

impl Logged {
    fn frame(&self) -> Frame<'_> {
        let Self { segment, index, position, entries, keys } = self;
        Frame { segment: *segment, index: *index, position: *position, entries, keys }
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// A frame of so many bytes with these messages: topic, queue, key.
    Append(u64, Vec<(u32, u16, Option<u64>)>),
    NextSegment,
    Seal,
    Restart,
    /// Damages one file of a sealed segment at a relative place, and restarts.
    Damage(u8, u8, u16),
    Drop,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let message = (1..=TOPICS, 0..QUEUES, proptest::option::of(0..KEYS));
    let op = prop_oneof![
        12 => (48..100_000_u64, proptest::collection::vec(message, 0..6)).prop_map(|(bytes, m)| Op::Append(bytes, m)),
        3 => Just(Op::NextSegment),
        3 => Just(Op::Seal),
        1 => Just(Op::Restart),
        2 => (any::<u8>(), 0..3_u8, any::<u16>()).prop_map(|(segment, file, at)| Op::Damage(segment, file, at)),
        1 => Just(Op::Drop),
    ];
    proptest::collection::vec(op, 1..60)
}

/// The log, and the index over it.
struct Model {
    dir: tempfile::TempDir,
    index: QueueIndex,
    frames: Vec<Logged>,
    sealed: Vec<Sealed>,
    segment: LogPosition,
    end: LogPosition,
    next: BTreeMap<(u32, u16), u64>,
    next_index: u64,
}

impl Model {
    fn new() -> Self {
        let dir = scratch::dir();
        let (index, missing) = open(dir.path(), &[]).expect("opens");
        assert_eq!(missing, []);
        let (frames, sealed) = (Vec::new(), Vec::new());
        let (segment, end) = (LogPosition(0), LogPosition(0));
        Self { dir, index, frames, sealed, segment, end, next: BTreeMap::new(), next_index: 1 }
    }

    fn append(&mut self, bytes: u64, messages: &[(u32, u16, Option<u64>)]) {
        let index = LogIndex(self.next_index);
        self.next_index += 1;
        let (mut entries, mut keys) = (Entries::new(), Vec::new());
        for (ordinal, &(topic, queue, key)) in (0_u16..).zip(messages) {
            let next = self.next.entry((topic, queue)).or_default();
            let entry = QueueEntry {
                position: LogPosition(self.end.0 + 48 + u64::from(ordinal)),
                index,
                length: 100 + u32::from(ordinal),
                term: Term(2),
                ordinal: Ordinal(ordinal),
                stamp: Timestamp(index.0 / 3 * 10),
                tag_hash: *next,
                ..QueueEntry::default()
            };
            entries.push((TopicId(topic), QueueId(queue), QueueOffset(*next), entry));
            *next += 1;
            keys.extend(key.map(|key| (TopicId(topic), key, Ordinal(ordinal))));
        }
        let logged = Logged { segment: self.segment, index, position: self.end, entries, keys };
        self.end.0 += bytes;
        self.index.append(&logged.frame());
        self.frames.push(logged);
    }

    fn segments(&self) -> Vec<LogPosition> {
        let mut found: Vec<LogPosition> = self.frames.iter().map(|frame| frame.segment).collect();
        found.dedup();
        found
    }

    fn walk(&self, segment: LogPosition) -> SegmentEntries {
        let mut entries = SegmentEntries::new(segment);
        self.frames.iter().filter(|frame| frame.segment == segment).for_each(|frame| entries.append(&frame.frame()));
        entries
    }

    fn seal(&mut self) {
        let sealed: Vec<LogPosition> = self.sealed.iter().map(|sealed| sealed.base).collect();
        let full = self.segments().into_iter().find(|segment| !sealed.contains(segment) && *segment != self.segment);
        let Some(base) = full else { return };
        self.index.seal(base).expect("seals");
        self.index.seal(base).expect("seals once");
        let mut indexes = self.frames.iter().filter(|frame| frame.segment == base).map(|frame| frame.index);
        let first = indexes.next().expect("a frame");
        self.sealed.push(Sealed { base, first, last: indexes.next_back().unwrap_or(first) });
        assert_eq!(self.index.sealed(), self.sealed);
    }

    fn restart(&mut self) -> Vec<LogPosition> {
        let (index, missing) = open(self.dir.path(), &self.sealed).expect("opens");
        for base in &missing {
            index.rebuild(self.walk(*base)).expect("rebuilds");
        }
        let sealed: Vec<LogPosition> = self.sealed.iter().map(|sealed| sealed.base).collect();
        for frame in self.frames.iter().filter(|frame| !sealed.contains(&frame.segment)) {
            index.append(&frame.frame());
        }
        self.index = index;
        missing
    }

    fn drop_oldest(&mut self) {
        if self.sealed.is_empty() {
            return;
        }
        let base = self.sealed.remove(0).base;
        self.index.drop_segment(base).expect("drops");
        self.frames.retain(|frame| frame.segment != base);
        for kind in file::Kind::ALL {
            assert!(!self.path(base, kind).exists());
        }
    }

    fn path(&self, base: LogPosition, kind: file::Kind) -> PathBuf {
        self.dir.path().join(kind.file_name(base))
    }

    fn damage(&mut self, segment: u8, file: u8, at: u16) {
        let Some(sealed) = self.sealed.get(usize::from(segment) % self.sealed.len().max(1)).copied() else { return };
        let before = file::Kind::ALL.map(|kind| fs::read(self.path(sealed.base, kind)).expect("reads"));
        let path = self.path(sealed.base, file::Kind::ALL[usize::from(file)]);
        let mut bytes = before[usize::from(file)].clone();
        let at = usize::from(at) * bytes.len() / usize::from(u16::MAX).max(1);
        match bytes.get_mut(at) {
            Some(byte) => *byte ^= 0x10,
            None => bytes.truncate(bytes.len() / 2),
        }
        fs::remove_file(&path).expect("removes");
        fs::write(&path, bytes).expect("writes");
        // Header, directory and lengths are verified when a sidecar is opened, blocks when they are read.
        let missing = self.restart();
        if missing.is_empty() {
            let damaged = self.read_all().expect_err("the damage is found");
            assert!(matches!(damaged, Error::SidecarDamaged { segment, .. } if segment == sealed.base), "{damaged}");
            self.index.rebuild(self.walk(sealed.base)).expect("rebuilds");
        } else {
            assert_eq!(missing, [sealed.base]);
        }
        let after = file::Kind::ALL.map(|kind| fs::read(self.path(sealed.base, kind)).expect("reads"));
        assert!(before == after, "a rebuild gives the same bytes");
    }

    /// Every read that touches every block.
    fn read_all(&self) -> Result<()> {
        for topic in 1..=TOPICS {
            for queue in 0..QUEUES {
                let from =
                    self.index.range(TopicId(topic), QueueId(queue)).map_or(QueueOffset(0), |range| range.earliest);
                self.index.read(TopicId(topic), QueueId(queue), from, usize::MAX)?;
            }
            for key in 0..KEYS {
                self.index.by_key(TopicId(topic), key, usize::MAX)?;
            }
        }
        for index in 0..self.next_index {
            self.index.position_at_or_before(LogIndex(index))?;
        }
        Ok(())
    }

    fn check(&self) -> TestCaseResult {
        for topic in 1..=TOPICS {
            for queue in 0..QUEUES {
                self.check_queue(TopicId(topic), QueueId(queue))?;
            }
            for key in 0..=KEYS {
                let places = self.frames.iter().flat_map(|f| f.keys.iter().map(move |key| (key, f.index)));
                let matching = places.filter(|(k, _)| (k.0, k.1) == (TopicId(topic), key));
                let mut expected: Vec<_> = matching.map(|(k, index)| (index, k.2)).collect();
                expected.reverse();
                for limit in [0, 1, 3, usize::MAX] {
                    let found = self.index.by_key(TopicId(topic), key, limit).expect("reads");
                    prop_assert_eq!(&found[..], &expected[..expected.len().min(limit)]);
                }
            }
        }
        for index in 0..=self.next_index {
            self.check_position(LogIndex(index))?;
        }
        Ok(())
    }

    fn check_queue(&self, topic: TopicId, queue: QueueId) -> TestCaseResult {
        let all = self.frames.iter().flat_map(|frame| &frame.entries);
        let all: Vec<_> = all.filter(|(t, q, ..)| (*t, *q) == (topic, queue)).map(|(_, _, o, e)| (*o, *e)).collect();
        let range = self.index.range(topic, queue);
        let expected =
            all.first().map(|first| QueueRange { earliest: first.0, end: QueueOffset(first.0.0 + all.len() as u64) });
        prop_assert_eq!(range, expected);
        let Some(range) = range else {
            prop_assert_eq!(
                self.index.read(topic, queue, QueueOffset(0), 5).expect("reads"),
                QueueRead::Entries(vec![])
            );
            prop_assert_eq!(self.index.first_at_or_after(topic, queue, Timestamp(0)).expect("reads"), None);
            return Ok(());
        };
        for from in 0..=range.end.0 + 1 {
            for max in [1, 2, 7, usize::MAX] {
                let found = self.index.read(topic, queue, QueueOffset(from), max).expect("reads");
                if from < range.earliest.0 {
                    prop_assert_eq!(found, QueueRead::Below { earliest: range.earliest });
                    continue;
                }
                let tail = all.iter().filter(|(offset, _)| offset.0 >= from).map(|(_, entry)| *entry);
                prop_assert_eq!(found, QueueRead::Entries(tail.take(max).collect()));
            }
        }
        for index in 0..=self.next_index {
            for ordinal in [0, 1, 5] {
                let place = (LogIndex(index), Ordinal(ordinal));
                let expected =
                    all.iter().find(|(_, entry)| entry.log_place() > place).map_or(range.end, |found| found.0);
                let found = self.index.first_after_place(topic, queue, place).expect("reads");
                prop_assert_eq!(found, Some(expected));
            }
            let time = Timestamp(index * 10 / 3);
            let expected = all.iter().find(|(_, entry)| entry.stamp >= time).map_or(range.end, |found| found.0);
            prop_assert_eq!(self.index.first_at_or_after(topic, queue, time).expect("reads"), Some(expected));
        }
        Ok(())
    }

    /// The indexed frame is at or before the one asked for, in its segment if that begins there, and less than
    /// [`POSITION_DISTANCE_BYTES`] away.
    fn check_position(&self, index: LogIndex) -> TestCaseResult {
        let found = self.index.position_at_or_before(index).expect("reads");
        let Some(frame) = self.frames.iter().rev().find(|frame| frame.index <= index) else {
            prop_assert_eq!(found, None);
            return Ok(());
        };
        let found = found.expect("a position");
        let indexed = self.frames.iter().find(|frame| frame.position == found).expect("a frame starts there");
        prop_assert_eq!(indexed.segment, frame.segment);
        prop_assert!(found <= frame.position && frame.position.0 - found.0 < POSITION_DISTANCE_BYTES.max(1));
        Ok(())
    }
}

fn open(dir: &Path, sealed: &[Sealed]) -> Result<(QueueIndex, Vec<LogPosition>)> {
    QueueIndex::open(Arc::new(RealDisk), OWNER, dir, sealed)
}

fn run(ops: &[Op]) -> TestCaseResult {
    let mut model = Model::new();
    for op in ops {
        match op {
            Op::Append(bytes, messages) => model.append(*bytes, messages),
            // A segment has a frame at least.
            Op::NextSegment if model.end > model.segment => model.segment = model.end,
            Op::NextSegment => {}
            Op::Seal => model.seal(),
            Op::Restart => assert_eq!(model.restart(), []),
            Op::Damage(segment, file, at) => model.damage(*segment, *file, *at),
            Op::Drop => model.drop_oldest(),
        }
    }
    model.check()?;
    model.restart();
    model.check()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_list_of_frames(ops in ops()) {
        run(&ops)?;
    }
}

/// Three segments, the first two sealed, with enough entries for several blocks.
fn three_segments() -> Model {
    let mut model = Model::new();
    for segment in 0..3 {
        for n in 0..40_u64 {
            model.append(5_000, &[(1, 0, Some(n % KEYS)), (1, 1, None), (2, 0, Some(n % 2)), (1, 0, Some(0))]);
        }
        if segment < 2 {
            model.segment = model.end;
            model.append(10, &[]);
            model.seal();
        }
    }
    assert_eq!(model.sealed.len(), 2);
    model
}

#[test]
fn every_flipped_byte_and_every_cut_is_found() {
    let mut model = three_segments();
    model.check().expect("agrees");
    for kind in file::Kind::ALL {
        let path = model.path(model.sealed[0].base, kind);
        let good = fs::read(&path).expect("reads");
        fs::remove_file(&path).expect("removes");
        let step = (good.len() / 200).max(1);
        let cuts = (0..good.len()).step_by(step).map(|at| good[..at].to_vec());
        let flips = (0..good.len()).step_by(step).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        });
        for bytes in cuts.chain(flips) {
            fs::write(&path, bytes).expect("writes");
            let (index, missing) = open(model.dir.path(), &model.sealed).expect("opens");
            model.index = index;
            if missing.is_empty() {
                assert!(matches!(model.read_all(), Err(Error::SidecarDamaged { .. })), "{kind:?}");
            }
            // The damaged files are gone if they were found at once; the other two are whole in any case.
            model.index.rebuild(model.walk(model.sealed[0].base)).expect("rebuilds");
            assert!(fs::read(&path).expect("reads") == good, "a rebuild gives the same bytes");
            fs::remove_file(&path).expect("removes");
        }
        fs::write(&path, good).expect("writes");
    }
}

#[test]
fn sidecars_of_another_place_are_not_served() {
    let model = three_segments();
    let [a, b] = [model.sealed[0].base, model.sealed[1].base];
    for kind in file::Kind::ALL {
        fs::remove_file(model.path(a, kind)).expect("removes");
        fs::copy(model.path(b, kind), model.path(a, kind)).expect("copies");
    }
    let (_, missing) = open(model.dir.path(), &model.sealed).expect("opens");
    assert_eq!(missing, [a]);
    // Another shard's files of the same names.
    let foreign = Owner { shard: ShardId(4), ..OWNER };
    let (_, missing) = QueueIndex::open(Arc::new(RealDisk), foreign, model.dir.path(), &model.sealed).expect("opens");
    assert_eq!(missing, [a, b]);
}

#[test]
fn a_segment_the_log_knows_otherwise_is_missing_and_strays_are_removed() {
    let model = three_segments();
    let stray = model.dir.path().join("00000000000000000001.keys.tmp");
    fs::write(&stray, b"x").expect("writes");
    let mut other = model.sealed.clone();
    other[1].last = other[1].last.next();
    let (_, missing) = open(model.dir.path(), &other).expect("opens");
    assert_eq!(missing, [other[1].base]);
    assert!(!stray.exists());
}

#[test]
fn a_rebuild_that_overlaps_its_neighbour_is_refused() {
    let model = three_segments();
    let mut frames: Vec<Logged> = model.frames.iter().filter(|f| f.segment == model.sealed[0].base).cloned().collect();
    let (index, _) = open(model.dir.path(), &model.sealed[1..]).expect("opens");
    for frame in &mut frames {
        frame.entries.iter_mut().for_each(|entry| entry.2.0 += 1);
    }
    let mut entries = SegmentEntries::new(model.sealed[0].base);
    frames.iter().for_each(|frame| entries.append(&frame.frame()));
    assert!(matches!(index.rebuild(entries), Err(Error::QueueGap { .. })));
}

fn one(index: u64, offset: u64) -> Logged {
    let entry = QueueEntry { index: LogIndex(index), ..QueueEntry::default() };
    let entries = vec![(TopicId(1), QueueId(0), QueueOffset(offset), entry)];
    Logged { segment: LogPosition(0), index: LogIndex(index), position: LogPosition(index), entries, keys: vec![] }
}

#[test]
#[should_panic(expected = "offset 7 of topic 1 queue 0")]
fn an_offset_that_is_not_the_next_is_refused() {
    let dir = scratch::dir();
    let (index, _) = open(dir.path(), &[]).expect("opens");
    index.append(&one(1, 5).frame());
    index.append(&one(2, 7).frame());
}

#[test]
#[should_panic(expected = "offset 7 of topic 1 queue 0")]
fn an_offset_that_is_not_the_next_is_refused_in_the_next_segment() {
    let dir = scratch::dir();
    let (index, _) = open(dir.path(), &[]).expect("opens");
    index.append(&one(1, 5).frame());
    index.append(&Logged { segment: LogPosition(2), ..one(2, 7) }.frame());
}

#[test]
#[should_panic(expected = "takes no more")]
fn a_sealed_segment_takes_no_more() {
    let dir = scratch::dir();
    let (index, _) = open(dir.path(), &[]).expect("opens");
    index.append(&one(1, 5).frame());
    index.seal(LogPosition(0)).expect("seals");
    index.append(&one(2, 6).frame());
}

#[test]
fn a_seal_that_failed_can_be_tried_again() {
    let model = three_segments();
    let dir = scratch::dir();
    let blocked = dir.path().join("sidecar");
    let (index, _) = open(&blocked, &[]).expect("opens");
    model.frames.iter().for_each(|frame| index.append(&frame.frame()));
    fs::remove_dir(&blocked).expect("removes");
    assert!(matches!(index.seal(LogPosition(0)), Err(Error::Io { .. })));
    let from_memory = index.read(TopicId(1), QueueId(0), QueueOffset(0), 9).expect("still served");
    fs::create_dir(&blocked).expect("creates");
    index.seal(LogPosition(0)).expect("seals");
    assert_eq!(index.read(TopicId(1), QueueId(0), QueueOffset(0), 9).expect("reads"), from_memory);
    assert!(matches!(index.seal(LogPosition(1)), Err(Error::SidecarMissing { .. })));
}

mod concurrent;
mod crash;
