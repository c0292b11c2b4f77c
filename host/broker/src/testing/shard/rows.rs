//! The rows of a fake shard.

use std::collections::BTreeMap;
use std::ops::Bound;

use pointsman_state_machine::{Store, StoreError};

/// Rows in memory.
#[derive(Default)]
pub(super) struct MemoryStore(pub(super) BTreeMap<Vec<u8>, Vec<u8>>);

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
        let range = (Bound::Included(from.to_vec()), Bound::Excluded(to.to_vec()));
        for (key, value) in self.0.range(range) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}
