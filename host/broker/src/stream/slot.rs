//! How many streams are open: bounded for a tenant and for the node.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pointsman_model::{TenantId, limits};

use crate::broker::StreamCount;
use crate::error::Error;

/// One open stream.
pub struct StreamSlot {
    count: Arc<StreamCount>,
    tenant: TenantId,
}

impl StreamSlot {
    /// A place for one more stream.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub(crate) fn take(count: &Arc<StreamCount>, tenant: TenantId, tenant_max: usize) -> Result<Self, Error> {
        let mut tenants = count.tenants.lock();
        let open = tenants.get(&tenant).copied().unwrap_or_default();
        if open >= tenant_max {
            return Err(Error::QuotaExceeded(format!("the tenant may have {tenant_max} streams open")));
        }
        if count.node.load(Ordering::Relaxed) >= limits::STREAMS_PER_NODE_MAX {
            return Err(Error::QuotaExceeded(format!("at most {} streams a node", limits::STREAMS_PER_NODE_MAX)));
        }
        tenants.insert(tenant, open + 1);
        count.node.fetch_add(1, Ordering::Relaxed);
        Ok(Self { count: Arc::clone(count), tenant })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut tenants = self.count.tenants.lock();
        if let Some(of_tenant) = tenants.get_mut(&self.tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                tenants.remove(&self.tenant);
            }
        }
        self.count.node.fetch_sub(1, Ordering::Relaxed);
    }
}
