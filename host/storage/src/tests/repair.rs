//! Lost, cut, swapped and overwritten segment files come again from another replica's entries, byte for byte.

mod harm;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::ids::LogIndex;

use super::oracle::read_all;
use super::random::Random;
use super::workload::frame;
use crate::Error;
use crate::disk::sim::{SimDisk, choices};
use crate::log::{CommitLog, Frame, Gap, GapEnd, Rebuild};
use harm::{HARMS, Harm, Whole, durable_bytes, harm, open, segments_of, whole};

/// Fills a gap with what the other replica has.
fn fill(mut rebuild: Rebuild, frames: &[Frame]) -> Result<Rebuild, Error> {
    let to_the_end = matches!(rebuild.gap().end, GapEnd::Log { .. });
    while to_the_end || !rebuild.is_filled() {
        let Some(frame) = frames.get(rebuild.next().0 as usize) else { break };
        rebuild.push(frame)?;
    }
    Ok(rebuild)
}

/// Opens a log and repairs it from the other replica; true if there was something to repair.
fn repair(disk: &SimDisk, frames: &[Frame]) -> Result<bool, Error> {
    let log = open(disk)?;
    let damaged = !log.damages().is_empty();
    if damaged {
        for gap in log.gaps()? {
            fill(log.rebuild(gap)?, frames)?.finish()?;
        }
        log.reopen()?;
    }
    for segment in log.segments() {
        let Err(error) = log.verify_sealed(segment.base) else { continue };
        assert!(matches!(error, Error::Damaged { .. } | Error::DamagedFile { .. } | Error::Foreign { .. }), "{error}");
        let gap = log.gap_of_sealed(segment.base, "found later")?;
        log.replace_sealed(fill(log.rebuild(gap)?, frames)?)?;
        log.verify_sealed(segment.base)?;
    }
    let read = read_all(&log)?;
    assert!(read == frames, "{} entries of {}", read.len(), frames.len());
    // It goes on.
    log.check_room(100)?;
    Ok(damaged)
}

#[test]
fn every_harm_to_every_segment_is_repaired_byte_for_byte() {
    let mut repaired = BTreeMap::<String, usize>::new();
    for seed in 0..12 {
        let sealed = seed % 2 == 0;
        let whole = whole(seed, sealed);
        let mut random = Random::new(seed);
        let segments = whole.segments.len();
        for at in 0..segments {
            for one in HARMS {
                // A log whose last file is gone looks like a shorter one, which is for consensus to notice.
                let gone = match one {
                    Harm::Delete => at + 1 == segments,
                    Harm::DeleteTwo => at + 2 >= segments,
                    Harm::Flip | Harm::ZeroPage | Harm::Cut => durable_bytes(&whole, at) == 0,
                    _ => false,
                };
                if gone {
                    continue;
                }
                let name = format!("seed {seed}, {one:?} of segment {at} of {segments}");
                let disk = harm(&whole, at, one, &mut random);
                repair(&disk, &whole.frames).unwrap_or_else(|error| panic!("{name}: {error}"));
                let found = segments_of(&disk.world());
                for (path, expected) in whole.expected() {
                    let same = found.get(&path) == Some(&expected);
                    assert!(same, "{name}: {path} differs, {:?} bytes", found.get(&path).map(Vec::len));
                }
                let extra: Vec<_> = found.keys().filter(|path| path.ends_with(".seg")).collect();
                assert_eq!(extra.len(), segments, "{name}");
                *repaired.entry(format!("{one:?}")).or_default() += 1;
            }
        }
    }
    assert_eq!(repaired.len(), HARMS.len(), "{repaired:?}");
    assert!(repaired.values().all(|count| *count > 30), "{repaired:?}");
}

#[test]
fn a_power_cut_at_any_operation_of_a_repair_leaves_something_to_repair_and_nothing_lost() {
    let (mut states, mut undone) = (0, 0);
    for seed in 20..22 {
        let whole = whole(seed, seed % 2 == 0);
        let mut random = Random::new(seed);
        for one in HARMS {
            let at = 1 + random.below(whole.segments.len() as u64 - 3) as usize;
            let disk = harm(&whole, at, one, &mut random);
            let worlds = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&worlds);
            disk.observe(Box::new(move |world| seen.lock().push(world.clone())));
            repair(&disk, &whole.frames).expect("repaired");
            disk.stop_observing();
            let worlds = std::mem::take(&mut *worlds.lock());
            for (operation, world) in worlds.iter().enumerate() {
                let atoms = world.atoms();
                for choice in choices(&atoms, seed << 16 | operation as u64, 2).into_iter().take(12) {
                    let name = format!("seed {seed}, {one:?} of segment {at}, operation {operation}, {choice:?}");
                    let crashed = SimDisk::with(world.crash(&atoms, choice).0);
                    let damaged = repair(&crashed, &whole.frames).unwrap_or_else(|error| panic!("{name}: {error}"));
                    let found = segments_of(&crashed.world());
                    assert!(whole.expected().iter().all(|(path, bytes)| found.get(path) == Some(bytes)), "{name}");
                    states += 1;
                    undone += usize::from(damaged);
                }
            }
        }
    }
    println!("{states} states, {undone} of them still damaged");
    assert!(states > 1_000 && undone > 200 && undone < states, "{states} states, {undone} still damaged");
}

/// What is done to an entry.
type Change<'a> = &'a dyn Fn(&mut Frame);

/// The gap of a log whose second segment is gone.
fn gap(whole: &Whole) -> (SimDisk, CommitLog, Gap) {
    let disk = harm(whole, 1, Harm::Delete, &mut Random::new(1));
    let log = open(&disk).expect("open");
    let gaps = log.gaps().expect("survey");
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    (disk, log, gap.clone())
}

#[test]
fn a_damaged_log_serves_what_is_whole_and_takes_nothing() {
    let whole = whole(31, false);
    let (disk, log, gap) = gap(&whole);
    let before = disk.world().files();
    let first = gap.damage.first_index;
    assert_eq!(first, whole.segments[1].first_index);
    assert_eq!(log.read(LogIndex(0)..first, usize::MAX).expect("before"), whole.frames[..first.0 as usize]);
    let behind = gap.damage.next_index.expect("known");
    let read = log.read(behind..LogIndex(u64::MAX), usize::MAX).expect("behind");
    assert_eq!(read.first(), whole.frames.get(behind.0 as usize));
    assert!(log.read(first..behind, 1).is_err(), "what is missing is an error");
    let (term, index, _) = log.last().expect("entries");
    let next = frame(term.0, index.0 + 1, 1, &[10]);
    assert!(matches!(log.append(vec![next], Box::new(|_| {})), Err(Error::ReadOnly { .. })));
    assert!(matches!(log.reopen(), Err(Error::SegmentMissing { .. })));
    assert_eq!(disk.world().files(), before, "nothing was written");
}

#[test]
fn entries_that_do_not_belong_are_refused_and_nothing_is_swapped_in() {
    let long = |whole: &Whole| whole.segments[1].last_index.0 > whole.segments[1].first_index.0 + 2;
    let whole = (35..).map(|seed| whole(seed, false)).find(long).expect("some seed has one");
    let (disk, log, gap) = gap(&whole);
    let first = gap.damage.first_index.0 as usize;
    let end = gap.damage.next_index.expect("known").0 as usize;
    let good = &whole.frames[first..end];
    assert!(good.len() > 2, "{} entries", good.len());
    let wrong: [(&str, Change<'_>); 6] = [
        ("term back", &|frame| frame.term.0 = 0),
        ("index", &|frame| frame.index.0 += 1),
        ("stamp", &|frame| frame.stamp.0 += 1),
        ("records", &|frame| frame.records = flipped(&frame.records)),
        ("place", &|frame| frame.location.position.0 += 8),
        ("segment", &|frame| frame.location.segment_base.0 += 8),
    ];
    let last = good.len() - 1;
    for (name, change) in wrong {
        let mut rebuild = log.rebuild(gap.clone()).expect("rebuild");
        let pushed = good.iter().enumerate().try_for_each(|(at, frame)| {
            let mut frame = frame.clone();
            // A stamp or a term is contradicted by the header behind, whose predecessor's checksum covers both.
            if at == last {
                change(&mut frame);
            }
            rebuild.push(&frame)
        });
        assert!(pushed.is_err(), "{name}: {pushed:?}");
    }
    let mut short = log.rebuild(gap.clone()).expect("rebuild");
    short.push(&good[0]).expect("good");
    assert!(matches!(short.finish(), Err(Error::DamagedFile { .. })), "entries are missing");
    let names: Vec<_> = disk.world().files().into_keys().filter(|path| path.ends_with(".seg")).collect();
    assert_eq!(names.len(), whole.segments.len() - 1, "{names:?}");
    fill(log.rebuild(gap).expect("rebuild"), &whole.frames).expect("good entries").finish().expect("swapped in");
    log.reopen().expect("whole");
}

/// Records with one bit that is not theirs; empty ones become one byte.
fn flipped(records: &bytes::Bytes) -> bytes::Bytes {
    let mut bytes = records.to_vec();
    match bytes.last_mut() {
        Some(last) => *last ^= 1,
        None => bytes.push(1),
    }
    bytes.into()
}

#[test]
fn the_end_of_a_log_may_be_given_up_and_is_whole_then() {
    let whole = whole(33, false);
    let last = whole.segments.len() - 1;
    for one in [Harm::Flip, Harm::ZeroHeader] {
        let disk = harm(&whole, last, one, &mut Random::new(3));
        let log = open(&disk).expect("open");
        let gaps = log.gaps().expect("survey");
        let [gap] = &gaps[..] else { panic!("{gaps:?}") };
        assert!(matches!(gap.end, GapEnd::Log { .. }), "{gap:?}");
        let first = gap.damage.first_index;
        log.rebuild(gap.clone()).expect("rebuild").finish().expect("cut");
        let report = log.reopen().expect("whole");
        assert_eq!(report.last.map(|last| last.1.next()), Some(first), "{one:?}");
        log.append(whole.frames[first.0 as usize..].to_vec(), Box::new(|_| {})).expect("it goes on");
        log.barrier().expect("barrier");
        drop(log);
        let found = segments_of(&disk.world());
        assert!(whole.expected().iter().all(|(path, bytes)| found.get(path) == Some(bytes)), "{one:?}");
    }
}

#[test]
fn a_reader_goes_on_while_a_sealed_segment_is_replaced() {
    let whole = whole(34, true);
    let disk = harm(&whole, 2, Harm::ZeroPage, &mut Random::new(4));
    let log = open(&disk).expect("sealed segments are taken unread");
    assert_eq!(log.damages(), []);
    assert!(read_all(&log).is_err(), "never served");
    let segment = whole.segments[2];
    let gap = log.gap_of_sealed(segment.base, "found by a reader").expect("sealed");
    let rebuild = fill(log.rebuild(gap).expect("rebuild"), &whole.frames).expect("filled");
    log.replace_sealed(rebuild).expect("swapped in");
    assert_eq!(read_all(&log).expect("whole"), whole.frames);
    let active = whole.segments.last().expect("some");
    assert!(matches!(log.gap_of_sealed(active.base, "active"), Err(Error::NotInLog { .. })));
}
