//! The loop that asks about transactions without a verdict, on the leader.
//!
//! What is due is written down first, many checks in one entry: attempt n of the timetable happens once, and the next one
//! is due from then on, whatever becomes of the question. Then it is asked. A transaction whose last check went
//! unanswered ends as expired.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pointsman_model::record::{Header, kind};
use pointsman_model::{TenantId, Term, limits};
use pointsman_state_machine::command::{
    CheckVia, Durability, ResolvedBy, TransactionChecked, TransactionResolve, TransactionVerdict,
};
use pointsman_state_machine::outcome::Outcome;
use pointsman_state_machine::state::{Transaction, TransactionState};
use tokio::sync::Notify;

use super::ask::{self, Question};
use super::producers::{Offer, Producers};
use crate::batcher::{Request, Ticket};
use crate::error::Error;
use crate::ports::Outside;
use crate::shard::ShardParts;

/// How often the loop looks for what is due.
const TICK: Duration = Duration::from_millis(limits::LEASE_TICK_MS);

/// The checks of one shard at run time.
pub(crate) struct Checks {
    producers: Producers,
    wake: Notify,
    asked: Arc<Mutex<Asked>>,
    outside: Arc<dyn Outside>,
}

impl Checks {
    pub(crate) fn new(outside: Arc<dyn Outside>) -> Self {
        Self { producers: Producers::default(), wake: Notify::new(), asked: Arc::default(), outside }
    }

    pub(super) fn producers(&self) -> &Producers {
        &self.producers
    }

    pub(super) fn outside(&self) -> &dyn Outside {
        &*self.outside
    }

    /// Looks now.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn look(&self) {
        self.wake.notify_one();
    }

    /// Asks about what is due until the broker stops.
    pub(crate) async fn run(self: Arc<Self>, parts: ShardParts) {
        loop {
            match parts.port.leadership() {
                Some(term) => {
                    if let Err(error) = self.see_to(&parts, term).await {
                        tracing::warn!(shard.id = parts.port.id().0, %error, "checks of transactions wait on");
                    }
                }
                None => self.producers.clear(),
            }
            tokio::select! {
                () = parts.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Sees to what is due now.
    async fn see_to(&self, parts: &ShardParts, term: Term) -> Result<(), Error> {
        let idle = |parts: &ShardParts| {
            parts.port.state().transactions.values().all(|counts| counts.of(TransactionState::Prepared) == 0)
        };
        if idle(parts) {
            return Ok(());
        }
        let mut tenants: BTreeMap<TenantId, Vec<Due>> = BTreeMap::new();
        for due in parts.port.transactions_due(parts.port.now(), limits::CHECKS_AT_ONCE_MAX)? {
            // What finds no plugin free stays due, and is looked at again in the next round.
            let asks = due.transaction.check.via == CheckVia::Plugin && !is_over(&due.transaction);
            let place = if asks { Some(AskedPlace::take(&self.asked, due.tenant)) } else { None };
            if !matches!(place, Some(None)) {
                tenants.entry(due.tenant).or_default().push((due.transaction, place.flatten()));
            }
        }
        let deadline = crate::call::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
        let mut tickets = Vec::with_capacity(tenants.len());
        for (tenant, due) in tenants {
            match submit(parts, term, tenant, &due, deadline) {
                Ok(ticket) => tickets.push((tenant, due, ticket)),
                // The tenant has as much under way as it may; the others have not.
                Err(Error::Overloaded(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for (tenant, due, ticket) in tickets {
            let answer = parts.batcher.wait(ticket, deadline).await?;
            for ((transaction, place), outcome) in due.into_iter().zip(answer.outcomes()) {
                if *outcome == Outcome::Checked {
                    self.put(parts, tenant, transaction, place);
                }
            }
        }
        Ok(())
    }

    /// Asks about a transaction whose check was written down.
    fn put(&self, parts: &ShardParts, tenant: TenantId, transaction: Transaction, place: Option<AskedPlace>) {
        let attempt = transaction.attempt + 1;
        if let Some(place) = place {
            let (parts, question) = (parts.clone(), Question { tenant, transaction, attempt });
            let tasks = parts.tasks.clone();
            tasks.spawn(async move {
                let stop = parts.stop.clone();
                stop.run_until_cancelled(ask::ask(&parts, &question)).await;
                drop(place);
            });
        } else {
            let offer = Offer { transaction: transaction.id(), attempt };
            self.producers.offer(tenant, &transaction.producer_group, offer);
        }
    }
}

/// A transaction about which something is due, with a place where a plugin is asked.
type Due = (Transaction, Option<AskedPlace>);

/// How many plugins are being asked.
#[derive(Default)]
struct Asked {
    all: usize,
    tenants: HashMap<TenantId, usize>,
}

/// One plugin being asked.
struct AskedPlace {
    asked: Arc<Mutex<Asked>>,
    tenant: TenantId,
}

impl AskedPlace {
    /// A place, unless so many are taken; a tenant holds at most a quarter of them.
    fn take(asked: &Arc<Mutex<Asked>>, tenant: TenantId) -> Option<Self> {
        let mut counts = asked.lock();
        let of_tenant = counts.tenants.get(&tenant).copied().unwrap_or_default();
        if counts.all >= limits::CHECK_BACKS_AT_ONCE_MAX || of_tenant >= limits::CHECK_BACKS_AT_ONCE_MAX / 4 {
            return None;
        }
        counts.all += 1;
        *counts.tenants.entry(tenant).or_default() += 1;
        Some(Self { asked: Arc::clone(asked), tenant })
    }
}

impl Drop for AskedPlace {
    fn drop(&mut self) {
        let mut counts = self.asked.lock();
        counts.all -= 1;
        if let Some(of_tenant) = counts.tenants.get_mut(&self.tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                counts.tenants.remove(&self.tenant);
            }
        }
    }
}

/// True if nobody is asked about it any more.
fn is_over(transaction: &Transaction) -> bool {
    transaction.attempt >= transaction.check.max
}

/// Puts what is due of one tenant into an entry: a check each, or the end.
fn submit(parts: &ShardParts, term: Term, tenant: TenantId, due: &[Due], deadline: Instant) -> Result<Ticket, Error> {
    let request = Request { tenant, term, deadline, ack: Durability::Quorum };
    parts.batcher.submit(request, 0, |writer| {
        for (transaction, _) in due {
            let id = transaction.id();
            if !is_over(transaction) {
                let (attempt, wait_ms) = (transaction.attempt + 1, transaction.check.interval_ms);
                let header = Header { kind: kind::TRANSACTION_CHECKED, tenant, ..Header::default() };
                writer.write(&header, &TransactionChecked { transaction: id, attempt, wait_ms }, &[]);
            } else {
                let header = Header { kind: kind::TRANSACTION_RESOLVE, tenant, ..Header::default() };
                let (verdict, by) = (TransactionVerdict::Expire, ResolvedBy::Timetable);
                writer.write(&header, &TransactionResolve { transaction: id, verdict, by }, &[]);
            }
        }
    })
}
