//! A node's state, whose every entry is compared with what the other nodes made of it.
//!
//! The rows of an entry hold the outcome hash, and its meta holds term, stamp, place in the log and membership. So equal
//! changes are equal entries with equal outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pointsman_model::{LogIndex, hash};
use pointsman_state_machine::table;
use pointsman_storage::state::{
    Applied, Change, Items, KeyRange, ModelState, Read, Snapshot, StateStore, Value, Visit,
};

type Result<T> = std::result::Result<T, pointsman_storage::Error>;

/// What each entry came to, on whichever node applied it first.
#[derive(Default)]
pub(super) struct Ledger {
    entries: Mutex<BTreeMap<LogIndex, (u64, usize)>>,
    broken: Mutex<Vec<String>>,
}

impl Ledger {
    fn applied(&self, node: usize, index: LogIndex, sum: u64) {
        let mut entries = self.entries.lock();
        let (first, by) = *entries.entry(index).or_insert((sum, node));
        if first != sum {
            self.broken.lock().push(format!("node {node} made something else of entry {index} than node {by}"));
        }
    }

    /// Entries that any node applied.
    pub(super) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// The first difference between two nodes.
    pub(super) fn broken(&self) -> Option<String> {
        self.broken.lock().first().cloned()
    }
}

/// The state of a node in one of its lives.
pub(super) struct WatchedState {
    pub(super) model: ModelState,
    pub(super) node: usize,
    pub(super) ledger: Arc<Ledger>,
    /// Off once the power is cut: what a dead node makes of its memory is nobody's business.
    pub(super) alive: Arc<AtomicBool>,
    /// A bug: checkpoints come without the keys of messages that are stored once.
    pub(super) forgets_keys: bool,
}

impl Read for WatchedState {
    fn applied(&self) -> Option<Applied> {
        self.model.applied()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.model.get(key)
    }

    fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<()> {
        self.model.scan(range, visit)
    }
}

impl StateStore for WatchedState {
    fn write(&self, applied: &Applied, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<()> {
        let changes: Vec<Change<'_>> = changes.collect();
        if self.alive.load(Ordering::Relaxed) {
            let mut sum = applied.meta.to_vec();
            for (key, value) in &changes {
                sum.extend_from_slice(&(key.len() as u64).to_le_bytes());
                sum.extend_from_slice(key);
                sum.extend_from_slice(&value.map_or(u64::MAX, |value| value.len() as u64).to_le_bytes());
                sum.extend_from_slice(value.unwrap_or_default());
            }
            self.ledger.applied(self.node + 1, applied.index, hash::hash(&sum));
        }
        self.model.write(applied, &mut changes.into_iter())
    }

    fn flushed(&self) -> Option<Applied> {
        self.model.flushed()
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.model.snapshot()
    }

    fn replace(&self, applied: &Applied, items: &mut Items<'_>) -> Result<()> {
        let forgets = self.forgets_keys;
        let mut kept = items.filter(|item| !forgets || item.as_ref().is_ok_and(|(key, _)| key[0] != table::DEDUP));
        self.model.replace(applied, &mut kept)
    }

    fn flush_now(&self) -> Result<Option<Applied>> {
        self.model.flush_now()
    }
}
