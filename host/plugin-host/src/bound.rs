//! A binding as this node runs it: the program, its plan, its counters, its breaker and its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use bytes::Bytes;
use pointsman_model::judge::{CallLimits, Failure, Kind, OnFailure, Plan};
use pointsman_model::time::SharedClock;
use pointsman_model::{BindingId, Generation, TenantId};
use wasmtime::component::InstancePre;

use crate::breaker::Breaker;
use crate::instance::Guest;
use crate::stats::{Counters, Stats};
use crate::wit::log::{LogLine, Logs};
use crate::{BreakerState, Digest};

/// What a binding says.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which it is.
    pub binding: BindingId,
    /// The generation under which it judges.
    pub generation: Generation,
    /// Its component.
    pub digest: Digest,
    /// The component's kind.
    pub kind: Kind,
    /// What `init` gets.
    pub config: Bytes,
    /// What a call may use.
    pub limits: CallLimits,
    /// What becomes of messages without an answer; kept for the caller.
    pub on_failure: OnFailure,
}

/// A component with a config in a tenant: what an instance is made of. Bindings that are equal in this share it.
pub(crate) struct Program {
    pub(crate) id: u64,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) config: Bytes,
}

/// A binding ready to judge.
pub struct Bound {
    pub(crate) spec: Spec,
    pub(crate) plan: Plan,
    pub(crate) program: Arc<Program>,
    pub(crate) counters: Counters,
    pub(crate) breaker: Breaker,
    pub(crate) logs: Arc<Logs>,
    /// Good calls to go until it leaves the low-priority thread; 0: it is not there.
    pub(crate) slow: AtomicU32,
    /// Fuel of its last call: what the next is charged in advance.
    pub(crate) last_fuel: AtomicU64,
}

impl Bound {
    pub(crate) fn new(
        spec: Spec,
        plan: Plan,
        program: Arc<Program>,
        clock: &SharedClock,
        fuel_of_tenant: Arc<AtomicU64>,
    ) -> Self {
        Self {
            spec,
            plan,
            program,
            counters: Counters::new(fuel_of_tenant),
            breaker: Breaker::new(Arc::clone(clock)),
            logs: Arc::new(Logs::new(Arc::clone(clock))),
            slow: AtomicU32::new(0),
            last_fuel: AtomicU64::new(0),
        }
    }

    /// What the binding says.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What the plugin wants to see: the columns of every call, in this order.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.read(self.breaker.state())
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// The last lines of its log, oldest first.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        self.logs.lines()
    }

    /// Counts a message that the hint would have skipped and the plugin accepts. The caller audits hints.
    pub fn record_bad_hint(&self) {
        self.counters.failure(Failure::BadHint);
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("spec", &self.spec).field("plan", &self.plan).finish_non_exhaustive()
    }
}
