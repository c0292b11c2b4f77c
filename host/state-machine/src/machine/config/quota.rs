//! Quotas: how much a tenant may use. What is counted here is decided here; rates are the leader's to keep.

use pointsman_model::TenantId;

use super::{Entry, Stop, check_expect, unchanged};
use crate::command::{Expect, Quota};
use crate::outcome::Outcome;
use crate::table;

impl Entry<'_> {
    /// Replaces a quota. One that was never put has revision 0, and there is nothing to create.
    pub(super) fn put_quota(&mut self, tenant: TenantId, expect: &Expect, quota: Quota) -> Result<Outcome, Stop> {
        self.check_tenant(tenant)?;
        let (held, revision) = self.state.quotas.get(&tenant).copied().unwrap_or_default();
        check_expect(expect, Some(revision))?;
        if held == quota {
            return Ok(unchanged(tenant.0, revision));
        }
        let revision = self.next_revision();
        self.changes.put(table::quota_key(tenant), table::encode(&(quota, revision)));
        self.changes.config_changed = true;
        self.state.quotas.insert(tenant, (quota, revision));
        Ok(Outcome::Configured { created: false, unchanged: false, revision, id: tenant.0 })
    }
}
