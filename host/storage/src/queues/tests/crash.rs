//! Power cuts while sidecars are written, and the same bytes on every disk.

use parking_lot::Mutex;

use super::*;
use crate::disk::Disk as _;
use crate::disk::sim::{SimDisk, World, choices};

const DIR: &str = "/sidecar";

fn serves(index: &QueueIndex, model: &Model, sealed: &Sealed) {
    let entries: Vec<_> = model.frames.iter().filter(|f| f.segment == sealed.base).flat_map(|f| &f.entries).collect();
    assert!(!entries.is_empty());
    for (topic, queue, offset, entry) in entries {
        assert_eq!(index.get(*topic, *queue, *offset).expect("no damage"), Some(*entry));
    }
    for key in 0..KEYS {
        index.by_key(TopicId(1), key, usize::MAX).expect("no damage");
    }
    for n in sealed.first.0..=sealed.last.0 {
        index.position_at_or_before(LogIndex(n)).expect("no damage");
    }
}

#[test]
fn without_a_map_the_same_files_are_read() {
    let model = three_segments();
    let disk = Arc::new(SimDisk::default());
    let dir = Path::new(DIR);
    let (index, _) = QueueIndex::open(disk.clone(), OWNER, dir, &[]).expect("opens");
    model.frames.iter().for_each(|frame| index.append(&frame.frame()));
    model.sealed.iter().for_each(|sealed| index.seal(sealed.base).expect("seals"));
    let (index, missing) = QueueIndex::open(disk.clone(), OWNER, dir, &model.sealed).expect("opens");
    assert_eq!(missing, []);
    model.frames.iter().filter(|f| f.segment == model.segment).for_each(|frame| index.append(&frame.frame()));
    for (base, kind) in model.sealed.iter().flat_map(|sealed| file::Kind::ALL.map(|kind| (sealed.base, kind))) {
        let name = kind.file_name(base);
        let file = disk.open_read(&dir.join(&name)).expect("opens");
        let mut bytes = vec![0; file.len().expect("length") as usize];
        file.read_exact_at(&mut bytes, 0).expect("reads");
        assert!(bytes == fs::read(model.dir.path().join(name)).expect("reads"), "equal on every disk");
    }
    let model = Model { index, ..model };
    model.check().expect("agrees");
}

/// The first segment is sealed for good; the second is being sealed when the power fails.
#[test]
fn a_power_cut_leaves_whole_sidecars_or_missing_ones() {
    let model = three_segments();
    let disk = SimDisk::default();
    let (index, _) = QueueIndex::open(Arc::new(disk.clone()), OWNER, Path::new(DIR), &[]).expect("opens");
    disk.sync_dir(Path::new("/")).expect("syncs");
    model.frames.iter().for_each(|frame| index.append(&frame.frame()));
    index.seal(model.sealed[0].base).expect("seals");

    let worlds: Arc<Mutex<Vec<World>>> = Arc::default();
    let seen = Arc::clone(&worlds);
    disk.observe(Box::new(move |world| seen.lock().push(world.clone())));
    index.seal(model.sealed[1].base).expect("seals");
    disk.stop_observing();
    let worlds = std::mem::take(&mut *worlds.lock());

    let (mut whole, mut missing_ones) = (0, 0);
    for (n, world) in worlds.iter().enumerate() {
        let atoms = world.atoms();
        for choice in choices(&atoms, n as u64, 6) {
            let crashed = Arc::new(SimDisk::with(world.crash(&atoms, choice).0));
            let (index, missing) = QueueIndex::open(crashed, OWNER, Path::new(DIR), &model.sealed).expect("opens");
            serves(&index, &model, &model.sealed[0]);
            if missing.is_empty() {
                whole += 1;
            } else {
                assert_eq!(missing, [model.sealed[1].base], "operation {n}, {choice:?}");
                index.rebuild(model.walk(model.sealed[1].base)).expect("rebuilds");
                missing_ones += 1;
            }
            serves(&index, &model, &model.sealed[1]);
            if n + 1 == worlds.len() {
                assert_eq!(missing, [], "sealed, and gone after {choice:?}");
            }
        }
    }
    assert!(whole > 0 && missing_ones > 100, "{whole} whole, {missing_ones} missing: the test shows nothing");
}
