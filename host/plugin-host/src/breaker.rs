//! The breaker of a binding: a plugin that fails over and over is left alone for a while.
//!
//! Closed → (several calls in a row without one judged message) → open → (its time has passed) → half open: one
//! call goes through as a trial → closed if a message was judged, else open for twice as long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_model::judge::Failure;
use pointsman_model::limits;
use pointsman_model::time::SharedClock;

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// Calls are answered at once with the failure that opened it.
    Open,
    /// One call goes through as a trial.
    HalfOpen,
}

impl BreakerState {
    /// The state's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

pub(crate) struct Breaker {
    clock: SharedClock,
    /// Nothing to look at: closed, and the last call was good. The common case, without the lock.
    calm: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    in_a_row: u32,
    open: Option<Open>,
}

struct Open {
    failure: Failure,
    until: Duration,
    wait_ms: u64,
    trial: bool,
}

impl Inner {
    fn blocks(&self, clock: &SharedClock) -> Option<Failure> {
        let open = self.open.as_ref()?;
        (open.trial || clock.monotonic() < open.until).then_some(open.failure)
    }
}

impl Breaker {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { clock, calm: AtomicBool::new(true), inner: Mutex::default() }
    }

    /// Asks whether a call may go through.
    ///
    /// # Errors
    /// The failure that opened the breaker, if not.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        if self.calm.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut inner = self.inner.lock();
        if let Some(failure) = inner.blocks(&self.clock) {
            return Err(failure);
        }
        if let Some(open) = &mut inner.open {
            open.trial = true;
        }
        Ok(())
    }

    /// The failure that opened the breaker, if no call may go through now. Takes no trial.
    pub(crate) fn is_open(&self) -> Option<Failure> {
        if self.calm.load(Ordering::Acquire) {
            return None;
        }
        self.inner.lock().blocks(&self.clock)
    }

    /// Says how a call that went through ended: `Err` if not one message was judged.
    pub(crate) fn leave(&self, outcome: Result<(), Failure>) {
        if outcome.is_ok() && self.calm.load(Ordering::Acquire) {
            return;
        }
        let mut inner = self.inner.lock();
        let Err(failure) = outcome else {
            *inner = Inner::default();
            self.calm.store(true, Ordering::Release);
            return;
        };
        self.calm.store(false, Ordering::Release);
        inner.in_a_row += 1;
        let wait_ms = match &inner.open {
            Some(open) => (open.wait_ms * 2).min(limits::PLUGIN_BREAKER_OPEN_MS_MAX),
            None if inner.in_a_row >= limits::PLUGIN_BREAKER_FAILURES => limits::PLUGIN_BREAKER_OPEN_MS_MIN,
            None => return,
        };
        let until = self.clock.monotonic() + Duration::from_millis(wait_ms);
        inner.open = Some(Open { failure, until, wait_ms, trial: false });
    }

    pub(crate) fn state(&self) -> BreakerState {
        match &self.inner.lock().open {
            None => BreakerState::Closed,
            Some(open) if open.trial || self.clock.monotonic() >= open.until => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pointsman_model::Timestamp;
    use pointsman_model::time::FakeClock;

    use super::*;

    const BAD: Result<(), Failure> = Err(Failure::Trap);

    fn breaker() -> (Breaker, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::new(Timestamp(0)));
        (Breaker::new(clock.clone()), clock)
    }

    fn open(breaker: &Breaker) {
        for _ in 0..limits::PLUGIN_BREAKER_FAILURES {
            assert_eq!(breaker.enter(), Ok(()));
            breaker.leave(BAD);
        }
    }

    #[test]
    fn opens_at_the_limit_and_not_before() {
        let (breaker, _) = breaker();
        for _ in 0..limits::PLUGIN_BREAKER_FAILURES - 1 {
            breaker.leave(BAD);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.leave(Ok(()));
        breaker.leave(BAD);
        assert_eq!(breaker.state(), BreakerState::Closed, "a good call in between");
        breaker.leave(Ok(()));
        open(&breaker);
        assert_eq!((breaker.state(), breaker.enter()), (BreakerState::Open, BAD));
    }

    #[test]
    fn closes_by_itself_after_one_good_trial() {
        let (breaker, clock) = breaker();
        open(&breaker);
        clock.advance_ms(limits::PLUGIN_BREAKER_OPEN_MS_MIN - 1);
        assert_eq!(breaker.enter(), BAD);
        clock.advance_ms(1);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert_eq!(breaker.enter(), Ok(()), "the trial");
        assert_eq!(breaker.enter(), BAD, "one at a time");
        breaker.leave(Ok(()));
        assert_eq!((breaker.state(), breaker.enter()), (BreakerState::Closed, Ok(())));
    }

    #[test]
    fn stays_open_twice_as_long_after_a_bad_trial_up_to_a_limit() {
        let (breaker, clock) = breaker();
        open(&breaker);
        let mut wait_ms = limits::PLUGIN_BREAKER_OPEN_MS_MIN;
        for _ in 0..10 {
            clock.advance_ms(wait_ms - 1);
            assert_eq!(breaker.enter(), BAD, "after {wait_ms} ms");
            clock.advance_ms(1);
            assert_eq!(breaker.enter(), Ok(()), "after {wait_ms} ms");
            breaker.leave(BAD);
            wait_ms = (wait_ms * 2).min(limits::PLUGIN_BREAKER_OPEN_MS_MAX);
        }
        assert_eq!(wait_ms, limits::PLUGIN_BREAKER_OPEN_MS_MAX);
    }
}
