//! What each tenant has used. Counted in `apply`, so that it survives and is the same on every replica.

use pointsman_model::TenantId;

use super::entry::Entry;

impl Entry<'_> {
    /// A message of so many bytes is stored.
    pub(super) fn count_stored(&mut self, tenant: TenantId, bytes: u64) {
        let usage = self.state.usage.entry(tenant).or_default();
        usage.messages += 1;
        usage.bytes += bytes;
        *self.state.stored_bytes.entry(tenant).or_default() += bytes;
        self.changes.usage.insert(tenant);
    }

    /// So many bytes are gone.
    pub(super) fn give_back_stored(&mut self, tenant: TenantId, bytes: u64) {
        if let Some(stored) = self.state.stored_bytes.get_mut(&tenant) {
            assert!(*stored >= bytes, "more given back than was stored");
            *stored -= bytes;
            if *stored == 0 {
                self.state.stored_bytes.remove(&tenant);
            }
        }
    }
}
