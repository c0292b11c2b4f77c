//! Flipped bits and zeroed sectors in synced data: found and named, never served, never cut.

use std::path::{Path, PathBuf};

use super::crash::setting;
use super::oracle::{DIR, Setting, read_all};
use super::random::Random;
use super::workload::Run;
use crate::disk::sim::{SimDisk, World};
use crate::log::{Frame, SegmentInfo};

/// What became of bits that flipped.
#[derive(Debug, Default)]
pub(crate) struct Decay {
    /// Named when the log was opened or read.
    pub(crate) named: u64,
    /// Above the watermark: cut as a torn tail.
    pub(crate) doubted: u64,
    /// Nothing changed for a reader.
    pub(crate) harmless: u64,
    /// Lost or changed entries that nobody was told of.
    pub(crate) silent: Vec<String>,
}

/// A clean log with several segments, and its last group commit's first index.
fn clean(seed: u64, setting: &Setting) -> (World, Vec<Frame>, Vec<SegmentInfo>, u64) {
    let mut run = Run::on(SimDisk::default(), Default::default(), Setting { mutant: None, ..setting.clone() }, seed);
    crate::disk::ensure_dir(&run.disk, Path::new(DIR)).expect("mkdir");
    for _ in 0..25 {
        run.append().expect("append");
        run.commit().expect("commit");
    }
    let before = run.expect.lock().durable;
    run.append().expect("append");
    run.commit().expect("commit");
    let log = run.log().expect("open");
    let (frames, segments) = (read_all(&log).expect("read"), log.segments());
    drop(log);
    let world = run.disk.world();
    run.finish();
    (world, frames, segments, before + 1)
}

fn file_of(segment: &SegmentInfo) -> PathBuf {
    Path::new(DIR).join("log").join(format!("{:020}.seg", segment.base.0))
}

/// Flips one bit at a time, all over the frames, and looks what recovery says.
pub(crate) fn flip_everything(seed: u64, setting: &Setting) -> Decay {
    let (world, frames, segments, doubt_from) = clean(seed, setting);
    let mut random = Random::new(seed);
    let mut decay = Decay::default();
    for frame in &frames {
        let segment = segments.iter().find(|segment| segment.base == frame.location.segment_base).expect("a segment");
        let start = 4_096 + frame.location.position.0 - segment.base.0;
        for byte in [random.below(48), random.below(frame.bytes() as u64)] {
            let mut bad = world.clone();
            let bit = random.below(8);
            bad.corrupt(&file_of(segment), start + byte, |value| *value ^= 1 << bit).expect("a file");
            let name = format!("(seed {seed}) entry {}, byte {byte}, bit {bit}", frame.index);
            judge(&mut decay, bad, &frames, frame.index.0 >= doubt_from, setting, &name);
        }
    }
    decay
}

fn judge(decay: &mut Decay, bad: World, frames: &[Frame], in_doubt: bool, setting: &Setting, name: &str) {
    let disk = SimDisk::with(bad);
    let before = disk.world().files();
    let Ok((log, report)) = setting.open(&disk) else {
        decay.named += 1;
        return;
    };
    let found = read_all(&log);
    let intact = found.as_ref().is_ok_and(|found| found == frames);
    let prefix = found.as_ref().is_ok_and(|found| frames.starts_with(found));
    if !report.damages.is_empty() {
        decay.named += 1;
        if disk.world().files().iter().any(|(path, bytes)| path.ends_with(".seg") && before.get(path) != Some(bytes)) {
            decay.silent.push(format!("{name}: damage was reported and bytes were changed"));
        }
    } else if intact {
        decay.harmless += 1;
    } else if in_doubt && prefix {
        decay.doubted += 1;
    } else if found.is_err() {
        decay.named += 1;
    } else {
        decay.silent.push(format!(
            "{name}: {} entries of {} are left",
            found.map_or(0, |found| found.len()),
            frames.len()
        ));
    }
}

#[test]
fn a_flipped_bit_is_named_and_never_cut() {
    let mut total = Decay::default();
    for seed in 0..4 {
        let decay = flip_everything(seed, &setting(seed));
        total.named += decay.named;
        total.doubted += decay.doubted;
        total.harmless += decay.harmless;
        total.silent.extend(decay.silent);
    }
    assert!(total.silent.is_empty(), "{:#?}", total.silent);
    assert!(total.named > 300, "{total:?}");
    assert!(total.doubted > 0, "one group commit is in doubt: {total:?}");
}

#[test]
fn a_zeroed_sector_below_the_watermark_is_named() {
    let setting = setting(1);
    let (world, frames, segments, doubt_from) = clean(1, &setting);
    let mut decay = Decay::default();
    for segment in &segments {
        for sector in (0..(segment.end.0 - segment.base.0) / 512).step_by(3) {
            let mut bad = world.clone();
            for byte in 0..512 {
                bad.corrupt(&file_of(segment), 4_096 + sector * 512 + byte, |value| *value = 0).expect("a file");
            }
            let at = segment.base.0 + sector * 512;
            let hit = frames.iter().rfind(|frame| frame.location.position.0 <= at).expect("a frame");
            judge(
                &mut decay,
                bad,
                &frames,
                hit.index.0 + 1 >= doubt_from,
                &setting,
                &format!("sector {sector} of {segment:?}"),
            );
        }
    }
    assert!(decay.silent.is_empty(), "{:#?}", decay.silent);
    assert!(decay.named > 20, "{decay:?}");
}
