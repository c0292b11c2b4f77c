//! The loop that asks about transactions without a verdict, on the leader.
//!
//! What is due is written down first, many checks in one entry: attempt n of the timetable happens once, and the next one
//! is due from then on, whatever becomes of the question. Then it is asked. A transaction whose last check went
//! unanswered ends as expired.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_model::record::{Header, kind};
use pointsman_model::{TenantId, Term, limits};
use pointsman_state_machine::command::{
    CheckVia, Durability, ResolvedBy, TransactionChecked, TransactionResolve, TransactionVerdict,
};
use pointsman_state_machine::outcome::Outcome;
use pointsman_state_machine::state::{Transaction, TransactionState};
use tokio::sync::{Notify, Semaphore};

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
    plugins: Arc<Semaphore>,
    outside: Arc<dyn Outside>,
}

impl Checks {
    pub(crate) fn new(outside: Arc<dyn Outside>) -> Self {
        let plugins = Arc::new(Semaphore::new(limits::CHECK_BACKS_AT_ONCE_MAX));
        Self { producers: Producers::default(), wake: Notify::new(), plugins, outside }
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
        let mut tenants: BTreeMap<TenantId, Vec<Transaction>> = BTreeMap::new();
        for due in parts.port.transactions_due(parts.port.now(), limits::CHECKS_AT_ONCE_MAX)? {
            tenants.entry(due.tenant).or_default().push(due.transaction);
        }
        let deadline = Instant::now() + Duration::from_millis(limits::TIMEOUT_MS_DEFAULT);
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
            for (transaction, outcome) in due.into_iter().zip(answer.outcomes()) {
                if *outcome == Outcome::Checked {
                    self.put(parts, tenant, transaction).await;
                }
            }
        }
        Ok(())
    }

    /// Asks about a transaction whose check was written down.
    async fn put(&self, parts: &ShardParts, tenant: TenantId, transaction: Transaction) {
        let attempt = transaction.attempt + 1;
        match transaction.check.via {
            CheckVia::Producer => {
                let offer = Offer { transaction: transaction.id(), attempt };
                self.producers.offer(tenant, &transaction.producer_group, offer);
            }
            CheckVia::Plugin => {
                // Slow plugins hold the timetable up; they are bounded by their wall time and the requests they may make.
                let Ok(permit) = Arc::clone(&self.plugins).acquire_owned().await else { return };
                let parts = parts.clone();
                let question = Question { tenant, transaction, attempt };
                let tasks = parts.tasks.clone();
                tasks.spawn(async move {
                    let stop = parts.stop.clone();
                    stop.run_until_cancelled(ask::ask(&parts, &question)).await;
                    drop(permit);
                });
            }
        }
    }
}

/// Puts what is due of one tenant into an entry: a check each, or the end.
fn submit(
    parts: &ShardParts,
    term: Term,
    tenant: TenantId,
    due: &[Transaction],
    deadline: Instant,
) -> Result<Ticket, Error> {
    let request = Request { tenant, term, deadline, ack: Durability::Quorum };
    parts.batcher.submit(request, 0, |writer| {
        for transaction in due {
            let id = transaction.id();
            if transaction.attempt < transaction.check.max {
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
