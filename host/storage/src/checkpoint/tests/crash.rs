//! Power cuts while a checkpoint is written and the oldest one is removed.

use parking_lot::Mutex;

use super::*;
use crate::disk::sim::{SimDisk, World, choices};

#[test]
fn a_power_cut_leaves_the_new_checkpoint_or_the_ones_before() {
    let (disk, dir, state) = (SimDisk::default(), Path::new("/checkpoint"), model());
    let checkpoints = Checkpoints::open(Arc::new(disk.clone()), OWNER, dir).expect("opens");
    disk.sync_dir(Path::new("/")).expect("syncs");
    let mut exported = Vec::new();
    let worlds: Arc<Mutex<Vec<World>>> = Arc::default();
    for index in [5, 10, 15] {
        fill(&state, index);
        if index == 15 {
            let seen = Arc::clone(&worlds);
            disk.observe(Box::new(move |world| seen.lock().push(world.clone())));
        }
        exported.push(checkpoints.export(&*state.snapshot(), &meta(index)).expect("exports"));
        checkpoints.retain(|found| found.0 + 10 > index).expect("removes");
    }
    disk.stop_observing();
    let worlds = std::mem::take(&mut *worlds.lock());

    let mut found = [0; 3];
    for (n, world) in worlds.iter().enumerate() {
        let atoms = world.atoms();
        for choice in choices(&atoms, n as u64, 4) {
            let crashed = Arc::new(SimDisk::with(world.crash(&atoms, choice).0));
            let checkpoints = Checkpoints::open(crashed, OWNER, dir).expect("opens");
            let newest = checkpoints.newest_at_or_below(LogIndex(99)).expect("reads").expect("one is whole");
            let at = exported.iter().position(|exported| *exported == newest).expect("one that was exported");
            assert_eq!(checkpoints.list().expect("lists").last(), Some(&newest.meta.index), "a damaged one has a name");
            found[at] += 1;
            // What the new one replaces goes only once the new one is durable.
            assert!(at == 2 || checkpoints.list().expect("lists").len() == 2, "operation {n}, {choice:?}");
            if n + 1 == worlds.len() {
                assert_eq!(at, 2, "exported, and gone after {choice:?}");
            }
        }
    }
    assert!(found[0] == 0 && found[1] > 10 && found[2] > 0, "{found:?}: the test shows nothing");
}
