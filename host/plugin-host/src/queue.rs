//! Calls waiting for a worker, shared fairly between tenants by fuel.
//!
//! Every tenant has a virtual time: the fuel its calls burnt. The tenant that is furthest behind goes first; one
//! that was away starts at the present, so idleness saves up nothing. A call is charged in advance with what its
//! binding's last call took, and the difference is settled when it ends. No tenant occupies the last free worker
//! beside others it already has.

use std::collections::{HashMap, VecDeque};

use parking_lot::{Condvar, Mutex};
use pointsman_model::{TenantId, limits};

use crate::Error;
use crate::worker::Worker;

/// Least charge of a call, so that calls that burn next to nothing still take turns.
const CHARGE_MIN: u64 = 1_000;

/// A call that waits. The job returns the fuel it took.
pub(crate) struct Task {
    pub(crate) tenant: TenantId,
    pub(crate) charged: u64,
    pub(crate) job: Box<dyn FnOnce(&mut Worker) -> u64 + Send>,
}

pub(crate) struct Queue {
    waiting_max: usize,
    /// Workers one tenant may occupy.
    running_max: usize,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    lanes: HashMap<TenantId, Lane>,
    waiting: usize,
    /// Virtual time of the lane that was served last.
    now: u64,
    closed: bool,
}

#[derive(Default)]
struct Lane {
    time: u64,
    waiting: VecDeque<Task>,
    running: usize,
}

impl Queue {
    pub(crate) fn new(workers: usize, waiting_max: usize) -> Self {
        let running_max = workers.saturating_sub(1).max(1);
        Self { waiting_max, running_max, state: Mutex::default(), ready: Condvar::new() }
    }

    /// Hands in a call.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait, of this tenant or altogether; [`Error::Stopped`] after `close`.
    pub(crate) fn put(&self, mut task: Task) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::Stopped);
        }
        if state.waiting >= self.waiting_max {
            return Err(Error::Busy);
        }
        task.charged = task.charged.max(CHARGE_MIN);
        let now = state.now;
        let lane = state.lanes.entry(task.tenant).or_insert_with(|| Lane { time: now, ..Lane::default() });
        if lane.waiting.len() >= self.waiting_max / 2 {
            return Err(Error::Busy);
        }
        lane.waiting.push_back(task);
        state.waiting += 1;
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// The next call; waits for one. `None` after `close`.
    pub(crate) fn take(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(task) = state.next(self.running_max) {
                return Some(task);
            }
            self.ready.wait(&mut state);
        }
    }

    /// Says that a call ended.
    pub(crate) fn done(&self, tenant: TenantId, charged: u64, fuel: u64) {
        let mut state = self.state.lock();
        let Some(lane) = state.lanes.get_mut(&tenant) else {
            return;
        };
        lane.running -= 1;
        lane.time = (lane.time - charged).saturating_add(fuel.max(CHARGE_MIN));
        let unblocked = !lane.waiting.is_empty();
        if lane.running == 0 && !unblocked && lane.time <= state.now {
            state.lanes.remove(&tenant);
        }
        state.forget_idle();
        drop(state);
        if unblocked {
            self.ready.notify_one();
        }
    }

    /// Drops what waits and sends the workers home.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.lanes.values_mut().for_each(|lane| lane.waiting.clear());
        drop(state);
        self.ready.notify_all();
    }
}

impl State {
    fn next(&mut self, running_max: usize) -> Option<Task> {
        let able = self.lanes.iter_mut().filter(|(_, lane)| !lane.waiting.is_empty() && lane.running < running_max);
        let (_, lane) = able.min_by_key(|(tenant, lane)| (lane.time, **tenant))?;
        let task = lane.waiting.pop_front()?;
        self.now = self.now.max(lane.time);
        lane.time += task.charged;
        lane.running += 1;
        self.waiting -= 1;
        Some(task)
    }

    /// A tenant with nothing to do is forgotten once the present has caught up with it, or when there are many:
    /// what it burnt ahead of the others is then forgiven.
    fn forget_idle(&mut self) {
        let now = self.now;
        if self.lanes.len() > limits::PLUGIN_WAITING_MAX {
            self.lanes.retain(|_, lane| lane.running > 0 || !lane.waiting.is_empty() || lane.time > now);
        }
        if self.lanes.len() > 2 * limits::PLUGIN_WAITING_MAX {
            self.lanes.retain(|_, lane| lane.running > 0 || !lane.waiting.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(tenant: u32) -> Task {
        Task { tenant: TenantId(tenant), charged: 0, job: Box::new(|_| 0) }
    }

    fn take(queue: &Queue) -> u32 {
        queue.take().expect("a task").tenant.0
    }

    #[test]
    fn who_burns_more_waits_longer() {
        let queue = Queue::new(2, 1_000);
        for _ in 0..100 {
            queue.put(task(1)).expect("room");
            queue.put(task(2)).expect("room");
        }
        let mut turns = [0; 2];
        for _ in 0..55 {
            let tenant = take(&queue);
            turns[tenant as usize - 1] += 1;
            // Tenant 1 burns ten times as much a call.
            queue.done(TenantId(tenant), CHARGE_MIN, if tenant == 1 { 100_000 } else { 10_000 });
        }
        assert_eq!(turns, [5, 50]);
    }

    #[test]
    fn idleness_saves_up_nothing() {
        let queue = Queue::new(2, 1_000);
        for _ in 0..10 {
            queue.put(task(1)).expect("room");
            assert_eq!(take(&queue), 1);
            queue.done(TenantId(1), CHARGE_MIN, 1_000_000);
        }
        for _ in 0..10 {
            queue.put(task(1)).expect("room");
            queue.put(task(2)).expect("room");
        }
        let mut last = 0;
        for _ in 0..4 {
            last = take(&queue);
            queue.done(TenantId(last), CHARGE_MIN, 10_000_000);
        }
        assert_eq!(last, 1, "tenant 1 has its turn again soon");
    }

    #[test]
    fn one_tenant_leaves_a_worker_to_others() {
        let queue = Queue::new(2, 1_000);
        queue.put(task(1)).expect("room");
        queue.put(task(1)).expect("room");
        assert_eq!(take(&queue), 1);
        queue.put(task(2)).expect("room");
        assert_eq!(take(&queue), 2, "though tenant 1 waits longer");
        queue.done(TenantId(1), CHARGE_MIN, 0);
        assert_eq!(take(&queue), 1);
    }

    #[test]
    fn bounds_one_below_at_and_above() {
        let queue = Queue::new(2, 10);
        for i in 0..5 {
            assert!(queue.put(task(1)).is_ok(), "{i}");
        }
        assert!(matches!(queue.put(task(1)), Err(Error::Busy)), "half of it is one tenant's share");
        for i in 2..7 {
            assert!(queue.put(task(i)).is_ok(), "{i}");
        }
        assert!(matches!(queue.put(task(9)), Err(Error::Busy)));
        queue.close();
        assert!(queue.take().is_none());
        assert!(matches!(queue.put(task(9)), Err(Error::Stopped)));
    }
}
