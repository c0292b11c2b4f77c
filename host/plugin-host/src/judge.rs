//! Judging a batch: the call, the search for a guilty message, the audit. A question about one message, as the kinds
//! with records ask it, is a batch of one.
//!
//! A batch that was stopped is halved in fresh instances until the messages that stop the plugin stand alone;
//! all others are judged. Altogether a batch takes at most twice the binding's wall time: what is not reached by
//! then is [`Failure::Timeout`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pointsman_model::judge::{Failure, Verdict};
use pointsman_model::limits;

use crate::bound::Bound;
use crate::instance::{Budget, InitFailure, Instance, Stop};
use crate::wit::World;
use crate::worker::Cache;

/// Parts of the remaining time that one call of the search for a guilty message may take.
const SEARCH_SHARE: u32 = 4;

/// One batch on its way through one binding.
struct Judging<'a, W: World> {
    bound: &'a Bound,
    question: &'a W::Question,
    /// How many messages it is about.
    n: usize,
    fuel: u64,
    wall: Duration,
    deadline: Instant,
    spare: Option<Instance<W>>,
}

/// Judges a batch and returns one verdict a message, and the fuel it took.
pub(crate) fn judge<W: World>(
    cache: &mut Cache<W>,
    bound: &Bound,
    question: &W::Question,
) -> (Vec<Verdict<W::Decision>>, u64) {
    let n = W::messages(question);
    if n == 0 {
        return (Vec::new(), 0);
    }
    if let Err(failure) = bound.breaker.enter() {
        return (vec![Verdict::Stopped(failure); n], 0);
    }
    let started = Instant::now();
    let wall = Duration::from_millis(u64::from(bound.spec.limits.wall_ms));
    let mut judging = Judging { bound, question, n, fuel: 0, wall, deadline: started + wall * 2, spare: None };
    let number = bound.counters.call(n);
    let mut verdicts = judging.with_kept_instance(cache);
    if number % limits::PLUGIN_AUDIT_CALLS == 1 && !verdicts.iter().any(|v| matches!(v, Verdict::Stopped(_))) {
        judging.audit(&mut verdicts);
    }
    let fuel = judging.fuel;
    bound.counters.cost(fuel, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    settle(bound, &verdicts);
    (verdicts, fuel)
}

impl<W: World> Judging<'_, W> {
    fn with_kept_instance(&mut self, cache: &mut Cache<W>) -> Vec<Verdict<W::Decision>> {
        let bound = self.bound;
        let whole = 0..self.n;
        if let Some(instance) = cache.get(&bound.program) {
            let budget = Budget::of_call(&bound.spec.limits, self.n);
            let question = W::part(self.question, whole.clone());
            let called = instance.call(question, &bound.plan, budget, &bound.logs);
            self.fuel += called.fuel;
            let worn = instance.calls >= limits::PLUGIN_INSTANCE_CALLS_MAX;
            if worn || called.verdicts.is_err() {
                cache.remove(&bound.program);
            }
            return match called.verdicts {
                Ok(verdicts) => verdicts,
                // Perhaps what the instance had seen before is to blame, and not a message of this batch.
                Err(stop) => self.search(whole, stop.failure),
            };
        }
        match self.fresh(Budget::of_init(&bound.spec.limits)) {
            Ok(instance) => self.spare = Some(instance),
            Err(failure) => return vec![Verdict::Stopped(failure); self.n],
        }
        // The batch's time begins when there is someone to judge it.
        self.deadline = Instant::now() + self.wall * 2;
        match self.call(whole.clone(), Budget::of_call(&bound.spec.limits, self.n)) {
            Ok(verdicts) => {
                if let Some(instance) = self.spare.take() {
                    cache.insert(&bound.program, instance);
                }
                verdicts
            }
            Err(stop) if self.n == 1 => vec![Verdict::Stopped(stop.failure)],
            Err(stop) => self.search(whole, stop.failure),
        }
    }

    /// Finds the messages of a range that stop the plugin, and judges the others.
    fn search(&mut self, whole: std::ops::Range<usize>, failure: Failure) -> Vec<Verdict<W::Decision>> {
        let mut verdicts = Vec::with_capacity(whole.len());
        let mut todo = if whole.len() == 1 { vec![whole] } else { halves(whole) };
        while let Some(range) = todo.pop() {
            let (Some(budget), Some(init)) = (self.budget_of_search(range.len(), failure), self.budget_of_init())
            else {
                verdicts.extend(range.map(|_| Verdict::Stopped(Failure::Timeout)));
                continue;
            };
            if self.spare.is_none() {
                match self.fresh(init) {
                    Ok(instance) => self.spare = Some(instance),
                    Err(failure) => {
                        verdicts.extend(range.map(|_| Verdict::Stopped(failure)));
                        continue;
                    }
                }
            }
            let was_fresh = self.spare.as_ref().is_some_and(|instance| instance.calls == 0);
            match self.call(range.clone(), budget) {
                Ok(part) => verdicts.extend(part),
                Err(stop) if range.len() == 1 && was_fresh => verdicts.push(Verdict::Stopped(stop.failure)),
                Err(_) if range.len() == 1 => todo.push(range),
                Err(_) => todo.extend(halves(range)),
            }
        }
        verdicts
    }

    /// What a call of the search may use; `None` once the batch's time is up.
    fn budget_of_search(&self, n: usize, first: Failure) -> Option<Budget> {
        let left_ms = self.deadline.saturating_duration_since(Instant::now()).as_millis() as u32;
        let share_ms = if first == Failure::Timeout { left_ms / SEARCH_SHARE } else { left_ms };
        let wall_ms = share_ms.min(self.bound.spec.limits.wall_ms);
        (wall_ms > 0).then_some(Budget { wall_ms, may_extend: false, ..Budget::of_call(&self.bound.spec.limits, n) })
    }

    /// What a fresh instance may use in the search; `None` once the batch's time is up.
    fn budget_of_init(&self) -> Option<Budget> {
        let left_ms = self.deadline.saturating_duration_since(Instant::now()).as_millis() as u32;
        let budget = Budget::of_init(&self.bound.spec.limits);
        (left_ms > 0).then_some(Budget { wall_ms: budget.wall_ms.min(left_ms), may_extend: false, ..budget })
    }

    /// Judges every message again, alone and in another order, in a fresh instance.
    fn audit(&mut self, verdicts: &mut [Verdict<W::Decision>]) {
        self.spare = self.budget_of_init().and_then(|budget| self.fresh(budget).ok());
        for i in (0..self.n).rev() {
            let Some(budget) = self.budget_of_search(1, Failure::Impure) else {
                return;
            };
            if self.spare.is_none() {
                return;
            }
            match self.call(i..i + 1, budget) {
                Ok(again) if again.first() == verdicts.get(i) => {}
                _ => verdicts[i] = Verdict::Stopped(Failure::Impure),
            }
        }
    }

    /// Calls the spare instance with a part of the batch; keeps it if it lives.
    fn call(&mut self, range: std::ops::Range<usize>, budget: Budget) -> Result<Vec<Verdict<W::Decision>>, Stop> {
        let Some(mut instance) = self.spare.take() else {
            return Err(Stop { failure: Failure::Trap, words: "no instance".to_owned() });
        };
        let question = W::part(self.question, range.clone());
        let called = instance.call(question, &self.bound.plan, budget, &self.bound.logs);
        self.fuel += called.fuel;
        if let Err(stop) = &called.verdicts {
            let first = range.start;
            tracing::debug!(binding.id = self.bound.spec.binding.0, first, messages = range.len(), stop = ?stop, "plugin stopped");
        } else {
            self.spare = Some(instance);
        }
        called.verdicts
    }

    /// A fresh instance whose plan is the one the binding was made with.
    fn fresh(&mut self, budget: Budget) -> Result<Instance<W>, Failure> {
        let Bound { program, spec, logs, .. } = self.bound;
        let memory_bytes_max = spec.limits.memory_bytes as usize;
        match Instance::new(&program.pre, &program.config, memory_bytes_max, budget, logs) {
            Ok((instance, plan)) if plan == self.bound.plan => Ok(instance),
            // It took this config before, with this plan: a pure `init` does so again.
            Ok(_) | Err(InitFailure::Refused(_)) => Err(Failure::Impure),
            Err(InitFailure::Stopped(stop)) => Err(stop.failure),
        }
    }
}

fn halves(range: std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
    let middle = range.start + range.len() / 2;
    // The last is taken first, so verdicts come in order.
    vec![middle..range.end, range.start..middle]
}

/// Counts the verdicts and tells breaker and queue how the call went.
fn settle<T>(bound: &Bound, verdicts: &[Verdict<T>]) {
    let mut last_failure = None;
    let mut judged = false;
    let mut burned_out = false;
    for verdict in verdicts {
        match verdict {
            Verdict::Answer(_) => judged = true,
            Verdict::Failed(_) => {
                judged = true;
                bound.counters.failed();
            }
            Verdict::Stopped(failure) => {
                bound.counters.failure(*failure);
                // Either way it burned all that a call may.
                burned_out |= matches!(failure, Failure::Timeout | Failure::Fuel);
                last_failure = Some(*failure);
            }
        }
    }
    bound.breaker.leave(match last_failure {
        Some(failure) if !judged => Err(failure),
        _ => Ok(()),
    });
    if burned_out {
        bound.slow.store(limits::PLUGIN_SLOW_CALLS, Ordering::Relaxed);
    } else if bound.slow.load(Ordering::Relaxed) > 0 {
        bound.slow.fetch_sub(1, Ordering::Relaxed);
    }
}
