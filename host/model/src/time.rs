//! Time as a value: timestamps, the clock seam, and the stamps a leader gives to entries.
//!
//! Nothing in the broker reads the system clock but [`SystemClock`]. A leader stamps its entries with a
//! [`Stamper`]: anchored at max(last stamp, wall clock) when its term starts, then anchor + monotonic
//! elapsed, slewing at most 5 ms a second towards the wall. Stamps never go back and never stop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The plain milliseconds.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// This time and `ms` more; stays at the greatest time instead of wrapping.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; 0 if it is not earlier.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Where time comes from; replaced by [`FakeClock`] in tests.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May jump.
    fn wall(&self) -> Timestamp;
    /// Time since some fixed moment of this process. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the machine.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves when a test says so.
#[derive(Debug)]
pub struct FakeClock {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl FakeClock {
    /// A clock that stands at `wall`.
    #[must_use]
    pub fn new(wall: Timestamp) -> Self {
        Self { wall_ms: AtomicU64::new(wall.0), monotonic_ms: AtomicU64::new(0) }
    }

    /// Lets `ms` pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn jump_to(&self, wall: Timestamp) {
        self.wall_ms.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.wall_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

/// Gives out the stamps of one leader's term.
#[derive(Clone, Copy, Debug)]
pub struct Stamper {
    last: Timestamp,
    last_monotonic: Duration,
    /// Monotonic milliseconds whose slewing allowance is not yet used, times the slew rate.
    slew_budget: u64,
}

impl Stamper {
    /// Anchors at max(last stamp of the log's tail, wall clock).
    #[must_use]
    pub fn anchored(last_stamp: Timestamp, clock: &dyn Clock) -> Self {
        Self { last: last_stamp.max(clock.wall()), last_monotonic: clock.monotonic(), slew_budget: 0 }
    }

    /// The stamp of an entry proposed now; never smaller than the one before.
    pub fn stamp(&mut self, clock: &dyn Clock) -> Timestamp {
        let monotonic = clock.monotonic();
        let elapsed_ms = u64::try_from(monotonic.saturating_sub(self.last_monotonic).as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms == 0 {
            return self.last;
        }
        self.last_monotonic += Duration::from_millis(elapsed_ms);
        let straight = self.last.plus_ms(elapsed_ms);
        self.slew_budget = (self.slew_budget + elapsed_ms * limits::STAMP_SLEW_MS_PER_S)
            .min(3_600 * 1_000 * limits::STAMP_SLEW_MS_PER_S);
        let wall = clock.wall();
        let apart = wall.0.abs_diff(straight.0);
        let step = apart.min(self.slew_budget / 1_000).min(if wall > straight { u64::MAX } else { elapsed_ms });
        self.slew_budget -= step * 1_000;
        self.last = if wall > straight { straight.plus_ms(step) } else { Timestamp(straight.0 - step) };
        if apart == 0 {
            self.slew_budget = 0;
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_follows_elapsed_time_and_slews_towards_the_wall() {
        let clock = FakeClock::new(Timestamp(1_000_000));
        let mut stamper = Stamper::anchored(Timestamp(5), &clock);
        clock.advance_ms(10);
        assert_eq!(stamper.stamp(&clock), Timestamp(1_000_010));
        clock.jump_to(Timestamp(5_000_000));
        clock.advance_ms(2_000);
        assert_eq!(stamper.stamp(&clock), Timestamp(1_002_020), "2 s elapsed and 10 ms of slew");
    }

    #[test]
    fn a_stamp_never_goes_back() {
        let clock = FakeClock::new(Timestamp(1_000_000));
        let mut stamper = Stamper::anchored(Timestamp(2_000_000), &clock);
        let mut last = stamper.stamp(&clock);
        assert_eq!(last, Timestamp(2_000_000), "the log's tail is ahead of the wall");
        for step in [1, 7, 1_000, 1, 60_000] {
            clock.advance_ms(step);
            let next = stamper.stamp(&clock);
            assert!(next >= last);
            assert!(next.0 <= last.0 + step, "slews down, towards the wall");
            last = next;
        }
    }
}
