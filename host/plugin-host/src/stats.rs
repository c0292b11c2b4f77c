//! What is counted of a binding.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pointsman_model::judge::Failure;

use crate::breaker::BreakerState;

/// Counters of a binding since it was made on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Calls, one for each batch.
    pub calls: u64,
    /// Messages handed to it.
    pub messages: u64,
    /// Messages without an answer, by class, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// Messages it failed itself, in its own words.
    pub failed: u64,
    /// The breaker.
    pub breaker: BreakerState,
    /// Fuel burnt.
    pub fuel: u64,
    /// Nanoseconds a message, over all calls.
    pub ns_per_message: u64,
}

impl Stats {
    /// Messages without an answer of that class.
    #[must_use]
    pub fn of(&self, failure: Failure) -> u64 {
        self.failures[failure as usize]
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) calls: AtomicU64,
    messages: AtomicU64,
    failures: [AtomicU64; Failure::ALL.len()],
    failed: AtomicU64,
    fuel: AtomicU64,
    /// The same over all bindings of the tenant, also those that are gone.
    fuel_of_tenant: Arc<AtomicU64>,
    nanoseconds: AtomicU64,
}

impl Counters {
    pub(crate) fn new(fuel_of_tenant: Arc<AtomicU64>) -> Self {
        Self { fuel_of_tenant, ..Self::default() }
    }

    /// Counts a call and returns its number, from 1.
    pub(crate) fn call(&self, messages: usize) -> u64 {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn cost(&self, fuel: u64, nanoseconds: u64) {
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
        self.fuel_of_tenant.fetch_add(fuel, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn failure(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, breaker: BreakerState) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let messages = read(&self.messages);
        Stats {
            calls: read(&self.calls),
            messages,
            failures: std::array::from_fn(|i| read(&self.failures[i])),
            failed: read(&self.failed),
            breaker,
            fuel: read(&self.fuel),
            ns_per_message: read(&self.nanoseconds) / messages.max(1),
        }
    }
}
