//! Settle: how leases end.

use crate::view::{SettleRequest, SettleResult};
use crate::{Broker, Call, Error};

impl Broker {
    /// Ends or extends leases; one result an item, in order.
    ///
    /// # Errors
    /// What refuses the call as a whole: limits, no leader, an unknown outcome.
    pub async fn settle(
        &self,
        _call: &Call,
        _tenant: &str,
        _group: &str,
        _items: Vec<SettleRequest>,
    ) -> Result<Vec<SettleResult>, Error> {
        Err(Error::NoLeader)
    }
}
