//! Lease: what a group's consumers get.

use crate::view::{Lease, LeaseRequest};
use crate::{Broker, Call, Error};

impl Broker {
    /// Leases messages to a consumer of a group; waits up to `wait_ms` for the first. A dropped future leases nothing.
    ///
    /// # Errors
    /// [`Error::TooManyInflight`] if no lease became free in that time.
    pub async fn lease(
        &self,
        _call: &Call,
        _tenant: &str,
        _group: &str,
        _request: LeaseRequest,
    ) -> Result<Vec<Lease>, Error> {
        Err(Error::NoLeader)
    }
}
