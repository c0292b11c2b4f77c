//! What the simulated shard forgets: trims, checkpoints, purges.

use openraft::storage::RaftLogStorage as _;
use pointsman_state_machine::command::{Trim, TrimStep};
use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::super::*;
use super::sim::{Bugs, Sim, now};
use crate::raft_types::log_id;

impl Sim {
    /// Writes checkpoints, and purges to the newest that a trim allows, as a replica does by itself.
    pub(super) fn keep_house(&mut self, bugs: Bugs) -> Result<(), String> {
        let mut target = self.core.keep_house().map_err(|error| error.to_string())?;
        if bugs.purge_unchecked {
            let purged = self.core.log.purged().map(|base| base.index);
            target = self.core.machine.read().state().released.upto().filter(|upto| Some(*upto) > purged);
        }
        let Some(target) = target else { return Ok(()) };
        let term = self.core.log.term_at(target).map_err(|error| error.to_string())?;
        now(self.store.purge(log_id(term.0, target.0))).map_err(|error| error.to_string())
    }

    /// Takes some of what the queues have, and gives up some of the segments.
    pub(super) fn trim(&self, rng: &mut SmallRng, records: &mut Records) {
        let machine = self.core.machine.read();
        let queues = [0, 1].map(|queue| {
            let ends = machine.state().ends(TOPIC, QueueId(queue));
            let to = rng.random_range(ends.earliest..=ends.latest);
            TrimStep { topic: TOPIC.0, queue, from: ends.earliest, to, bytes: ends.bytes / 2 }
        });
        let bases: Vec<u64> = machine.state().segments.keys().map(|base| base.0).collect();
        let base = (!bases.is_empty()).then(|| bases[rng.random_range(0..bases.len())]);
        let head = postcard::to_stdvec(&Trim { queues: queues.to_vec(), base }).unwrap();
        records.add(&Header { kind: kind::TRIM, ..Header::default() }, &head, b"");
    }
}
