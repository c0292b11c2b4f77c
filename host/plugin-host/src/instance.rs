//! One instance of a plugin in a store of its own, and one bounded call into it.
//!
//! INVARIANT: after any trap the store is dead (`Trap::CannotEnterComponent` for ever), so whoever gets a
//! [`Stop`] from a call drops the instance.

use std::sync::Arc;
use std::time::Duration;

use pointsman_model::judge::{CallLimits, Failure, Plan, Verdict};
use pointsman_model::limits;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::InstancePre;
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};

use crate::wit::log::{LogShare, Logs};
use crate::wit::{World, types};

/// What the host keeps beside a plugin instance.
pub(crate) struct Guest {
    caps: Caps,
    pub(crate) log: LogShare,
    pace: Pace,
}

/// Why a call or an instance was stopped.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) failure: Failure,
    pub(crate) words: String,
}

/// How `init` ended without a plan.
#[derive(Debug)]
pub(crate) enum InitFailure {
    /// The plugin refused the config, in its words, or its plan breaks the contract.
    Refused(String),
    /// The host stopped it.
    Stopped(Stop),
}

/// Memory and tables of an instance, counted together.
struct Caps {
    memory_bytes_max: usize,
    memory_bytes: usize,
    table_elements: usize,
    /// Something was refused in this call: what trapped next did so for want of memory.
    refused: bool,
}

/// The wall-clock stop of a call. The first half of its time passes unseen; at its end the thread's CPU time is
/// noted. A call that got less than half of the CPU in its second half was preempted and gets half its time again.
#[derive(Default)]
struct Pace {
    half_ticks: u64,
    checks: u8,
    may_extend: bool,
    cpu_at_half: Duration,
}

/// The budget of one call.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) fuel: u64,
    pub(crate) wall_ms: u32,
    /// Whether a preempted call gets more time.
    pub(crate) may_extend: bool,
}

/// A live instance of world `W`.
pub(crate) struct Instance<W: World> {
    store: Store<Guest>,
    exports: W::Exports,
    pub(crate) calls: u32,
}

/// What a call came to.
pub(crate) struct Called<W: World> {
    pub(crate) verdicts: Result<Vec<Verdict<W::Decision>>, Stop>,
    pub(crate) fuel: u64,
}

impl Budget {
    /// The budget of a call with `n` messages.
    pub(crate) fn of_call(limits: &CallLimits, n: usize) -> Self {
        let fuel = limits.fuel.saturating_add(limits::PLUGIN_FUEL_PER_MESSAGE.saturating_mul(n as u64));
        Self { fuel, wall_ms: limits.wall_ms, may_extend: true }
    }

    /// The budget of instantiation and `init`.
    pub(crate) fn of_init(limits: &CallLimits) -> Self {
        let fuel = limits.fuel.saturating_mul(u64::from(limits::PLUGIN_INIT_WALL_FACTOR));
        Self { fuel, wall_ms: limits.wall_ms.saturating_mul(limits::PLUGIN_INIT_WALL_FACTOR), may_extend: true }
    }
}

impl<W: World> Instance<W> {
    /// Makes an instance and calls `init`.
    pub(crate) fn new(
        pre: &InstancePre<Guest>,
        config: &[u8],
        memory_bytes_max: usize,
        budget: Budget,
        logs: &Arc<Logs>,
    ) -> Result<(Self, Plan), InitFailure> {
        let caps = Caps { memory_bytes_max, memory_bytes: 0, table_elements: 0, refused: false };
        let mut store = Store::new(pre.engine(), Guest { caps, log: LogShare::default(), pace: Pace::default() });
        store.limiter(|guest| &mut guest.caps);
        store.set_hostcall_fuel(limits::PLUGIN_ANSWER_BYTES_MAX);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().pace.check()));
        begin(&mut store, budget, logs).map_err(|error| InitFailure::Stopped(stopped(&error, store.data())))?;
        let made = init::<W>(&mut store, pre, config);
        let (exports, answer) = made.map_err(|error| InitFailure::Stopped(stopped(&error, store.data())))?;
        let plan = answer.map_err(|words| InitFailure::Refused(types::cut(words)))?;
        let plan = plan.check(W::KIND).map_err(InitFailure::Refused)?;
        Ok((Self { store, exports, calls: 0 }, plan))
    }

    /// Asks within `budget`.
    pub(crate) fn call(&mut self, question: W::Question, plan: &Plan, budget: Budget, logs: &Arc<Logs>) -> Called<W> {
        self.calls += 1;
        let called =
            begin(&mut self.store, budget, logs).and_then(|()| W::ask(&self.exports, &mut self.store, question, plan));
        let left = self.store.get_fuel().unwrap_or(0);
        let verdicts = match called {
            Err(error) => Err(stopped(&error, self.store.data())),
            Ok(judged) => judged
                .map_err(|failure| Stop { failure, words: "the answer has not the shape of the contract".to_owned() }),
        };
        Called { verdicts, fuel: budget.fuel.saturating_sub(left) }
    }
}

type Made<W> = (<W as World>::Exports, Result<types::Plan, String>);

fn init<W: World>(store: &mut Store<Guest>, pre: &InstancePre<Guest>, config: &[u8]) -> wasmtime::Result<Made<W>> {
    let instance = pre.instantiate(&mut *store)?;
    let exports = W::exports(store, &instance)?;
    let init = instance.get_typed_func::<(&[u8],), (Result<types::Plan, String>,)>(&mut *store, "init")?;
    let (answer,) = init.call(&mut *store, (config,))?;
    Ok((exports, answer))
}

fn begin(store: &mut Store<Guest>, budget: Budget, logs: &Arc<Logs>) -> wasmtime::Result<()> {
    store.set_fuel(budget.fuel)?;
    let guest = store.data_mut();
    guest.caps.refused = false;
    guest.log.begin(logs);
    // The tick under way is a part of one only.
    let half_ticks = u64::from(budget.wall_ms / 2).max(1);
    guest.pace = Pace { half_ticks, checks: 0, may_extend: budget.may_extend, cpu_at_half: Duration::ZERO };
    store.set_epoch_deadline(half_ticks + 1);
    Ok(())
}

/// Sorts an error into its class.
fn stopped(error: &wasmtime::Error, guest: &Guest) -> Stop {
    let failure = if guest.caps.refused {
        Failure::Memory
    } else {
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Failure::Fuel,
            Some(Trap::Interrupt) => Failure::Timeout,
            Some(_) => Failure::Trap,
            None if error.is::<crate::wit::wasi::NotThere>() => Failure::Trap,
            // What is left are values that cannot be read: bad UTF-8, ranges outside memory, more than we copy.
            None => Failure::Output,
        }
    };
    Stop { failure, words: types::cut(error.root_cause().to_string()) }
}

impl Pace {
    fn check(&mut self) -> UpdateDeadline {
        self.checks += 1;
        match self.checks {
            1 => {
                self.cpu_at_half = thread_cpu_time();
                UpdateDeadline::Continue(self.half_ticks)
            }
            2 if self.may_extend && self.starved() => UpdateDeadline::Continue(self.half_ticks),
            _ => UpdateDeadline::Interrupt,
        }
    }

    fn starved(&self) -> bool {
        thread_cpu_time().saturating_sub(self.cpu_at_half) < Duration::from_millis(self.half_ticks) / 2
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

impl ResourceLimiter for Caps {
    fn memory_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let fits = total <= self.memory_bytes_max;
        if fits {
            self.memory_bytes = total;
        }
        self.refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _max: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        let fits = total <= limits::PLUGIN_TABLE_ELEMENTS_MAX;
        if fits {
            self.table_elements = total;
        }
        self.refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        limits::PLUGIN_PARTS_MAX
    }

    fn tables(&self) -> usize {
        limits::PLUGIN_PARTS_MAX
    }

    fn memories(&self) -> usize {
        limits::PLUGIN_PARTS_MAX
    }
}
