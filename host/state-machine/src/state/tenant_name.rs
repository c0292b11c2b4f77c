//! Look-ups by (tenant, name) without making a [`Name`] first.

use std::borrow::Borrow;
use std::cmp::Ordering;

use pointsman_model::{Name, TenantId};

/// What the keys of the name maps and a borrowed pair have in common.
pub(super) trait TenantName {
    fn pair(&self) -> (TenantId, &str);
}

impl TenantName for (TenantId, Name) {
    fn pair(&self) -> (TenantId, &str) {
        (self.0, self.1.as_str())
    }
}

impl TenantName for (TenantId, &str) {
    fn pair(&self) -> (TenantId, &str) {
        *self
    }
}

// INVARIANT: the order of pairs is the order of (TenantId, Name), which compares names as text.
impl<'a> Borrow<dyn TenantName + 'a> for (TenantId, Name) {
    fn borrow(&self) -> &(dyn TenantName + 'a) {
        self
    }
}

impl PartialEq for dyn TenantName + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.pair() == other.pair()
    }
}

impl Eq for dyn TenantName + '_ {}

impl PartialOrd for dyn TenantName + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn TenantName + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.pair().cmp(&other.pair())
    }
}
