//! Settle: how leases end. What happens to each is in `lease::settling`.

use pointsman_model::limits;

use crate::lease::check;
use crate::view::{SettleOp, SettleRequest, SettleResult};
use crate::{Action, Broker, Call, Error};

impl Broker {
    /// Ends or extends leases; one result an item, in order.
    ///
    /// # Errors
    /// What refuses the call as a whole: limits, no leader, an unknown outcome.
    pub async fn settle(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        items: Vec<SettleRequest>,
    ) -> Result<Vec<SettleResult>, Error> {
        self.authorize(call, tenant, Action::Consume(group))?;
        if items.len() > limits::SETTLE_ITEMS_MAX {
            return Err(Error::invalid("/items", format!("at most {} items", limits::SETTLE_ITEMS_MAX)));
        }
        for (i, item) in items.iter().enumerate() {
            check_item(i, item)?;
        }
        let (home, group) = self.group(tenant, group)?;
        group.settle(home.tenant, items, call.deadline).await
    }
}

/// Refuses fields that the operation does not take.
fn check_item(i: usize, item: &SettleRequest) -> Result<(), Error> {
    let refuse = |field: &str, detail: &str| Err(Error::invalid(format!("/items/{i}/{field}"), detail));
    if let Some(delay) = item.delay_ms {
        match item.op {
            SettleOp::Nack | SettleOp::Release => {
                check(&format!("/items/{i}/delay_ms"), delay, 0, limits::DELAY_MS_MAX)?;
            }
            SettleOp::Ack | SettleOp::Extend | SettleOp::DeadLetter => {
                return refuse("delay_ms", "only of a nack or a release");
            }
        }
    }
    if let Some(lease_ms) = item.lease_ms {
        if item.op != SettleOp::Extend {
            return refuse("lease_ms", "only of an extend");
        }
        check(&format!("/items/{i}/lease_ms"), lease_ms, limits::LEASE_MS_MIN, limits::LEASE_MS_MAX)?;
    }
    if let Some(reason) = &item.reason {
        if !matches!(item.op, SettleOp::Nack | SettleOp::DeadLetter) {
            return refuse("reason", "only of a nack or a dead-letter");
        }
        if reason.len() > limits::REASON_BYTES_MAX {
            return refuse("reason", "too long");
        }
    }
    Ok(())
}
