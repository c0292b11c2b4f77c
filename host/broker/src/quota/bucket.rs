//! A token bucket, and a window that tells how fast something flows.

use std::time::Duration;

const NS_PER_S: i128 = 1_000_000_000;
/// When to come back to a bucket that never fills.
const NEVER: Duration = Duration::from_secs(60);
/// Longest debt, in seconds' worth: what was charged beyond is forgiven.
const DEBT_S: i128 = 60;

/// Fills with `rate` a second up to one second's worth. What is more than that at once is let in by a full bucket, and
/// paid back afterwards.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// In billionths, as of `at`. Negative: a debt.
    level: i128,
    /// `None`: never used, hence full.
    at: Option<Duration>,
}

impl Bucket {
    fn level(&self, rate: u64, now: Duration) -> i128 {
        let full = i128::from(rate) * NS_PER_S;
        match self.at {
            None => full,
            Some(at) => {
                let elapsed = i128::try_from(now.saturating_sub(at).as_nanos()).unwrap_or(i128::MAX);
                self.level.saturating_add(elapsed.saturating_mul(i128::from(rate))).min(full)
            }
        }
    }

    /// Whether `n` may flow now; else how long to wait.
    pub(super) fn check(&self, rate: u64, n: u64, now: Duration) -> Result<(), Duration> {
        if rate == 0 {
            return if n == 0 { Ok(()) } else { Err(NEVER) };
        }
        let wanted = i128::from(n.min(rate)) * NS_PER_S;
        let missing = wanted - self.level(rate, now);
        if missing <= 0 {
            return Ok(());
        }
        // Rounded up: who waits so long is let in.
        let ns = (missing + i128::from(rate) - 1) / i128::from(rate);
        Err(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }

    /// Takes `n` out, whatever is in.
    pub(super) fn charge(&mut self, rate: u64, n: u64, now: Duration) {
        let least = -(i128::from(rate) * NS_PER_S * DEBT_S);
        self.level = (self.level(rate, now) - i128::from(n) * NS_PER_S).max(least);
        self.at = Some(now);
    }
}

/// How much flowed in this second and in the one before.
#[derive(Debug, Default)]
pub(super) struct Window {
    second: u64,
    this: u64,
    before: u64,
}

impl Window {
    fn turn(&mut self, now: Duration) {
        let second = now.as_secs();
        match second.saturating_sub(self.second) {
            0 => return,
            1 => self.before = self.this,
            _ => self.before = 0,
        }
        (self.second, self.this) = (second, 0);
    }

    pub(super) fn count(&mut self, n: u64, now: Duration) {
        self.turn(now);
        self.this = self.this.saturating_add(n);
    }

    /// The last whole second, faded into what has flowed since.
    pub(super) fn rate(&mut self, now: Duration) -> u64 {
        self.turn(now);
        let left_ms = u128::from(1_000 - now.subsec_millis());
        let faded = u128::from(self.before) * left_ms / 1_000;
        self.this.saturating_add(u64::try_from(faded).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Takes if it may.
    fn take(bucket: &mut Bucket, rate: u64, n: u64, now: Duration) -> Result<(), Duration> {
        bucket.check(rate, n, now).map(|()| bucket.charge(rate, n, now))
    }

    #[test]
    fn one_second_at_once_and_then_as_it_fills() {
        let mut bucket = Bucket::default();
        for i in 0..10 {
            assert_eq!(take(&mut bucket, 10, 1, ms(0)), Ok(()), "{i}");
        }
        assert_eq!(take(&mut bucket, 10, 1, ms(0)), Err(ms(100)));
        assert_eq!(take(&mut bucket, 10, 1, ms(99)), Err(ms(1)));
        assert_eq!(take(&mut bucket, 10, 1, ms(100)), Ok(()));
        assert_eq!(take(&mut bucket, 10, 2, ms(200)), Err(ms(100)));
        assert_eq!(take(&mut bucket, 10, 10, ms(100_000)), Ok(()), "no more than a second's worth is saved up");
        assert_eq!(take(&mut bucket, 10, 1, ms(100_000)), Err(ms(100)));
    }

    #[test]
    fn more_than_a_second_is_paid_back() {
        let mut bucket = Bucket::default();
        assert_eq!(take(&mut bucket, 10, 30, ms(0)), Ok(()));
        assert_eq!(take(&mut bucket, 10, 1, ms(2_000)), Err(ms(100)));
        assert_eq!(take(&mut bucket, 10, 1, ms(2_100)), Ok(()));
        assert_eq!(take(&mut bucket, 10, 30, ms(2_100)), Err(ms(1_000)), "only from full");
    }

    #[test]
    fn a_rate_of_nothing_lets_nothing_in_and_a_debt_is_bounded() {
        let mut bucket = Bucket::default();
        assert_eq!(take(&mut bucket, 0, 1, ms(0)), Err(NEVER));
        assert_eq!(take(&mut bucket, 0, 0, ms(0)), Ok(()));
        let mut bucket = Bucket::default();
        assert_eq!(take(&mut bucket, 1_000, 0, ms(0)), Ok(()));
        assert_eq!(take(&mut bucket, 1, 2, ms(0)), Ok(()), "full");
        assert_eq!(take(&mut bucket, 1, 1, ms(0)), Err(ms(2_000)));
        bucket.charge(1, 1_000_000, ms(0));
        assert_eq!(bucket.check(1, 1, ms(0)), Err(ms(61_000)), "a bounded debt");
        assert_eq!(Bucket::default().check(u64::MAX, u64::MAX, ms(0)), Ok(()));
    }

    #[test]
    fn a_window_tells_the_last_second() {
        let mut window = Window::default();
        window.count(100, ms(500));
        assert_eq!(window.rate(ms(999)), 100);
        assert_eq!(window.rate(ms(1_000)), 100);
        assert_eq!(window.rate(ms(1_500)), 50);
        window.count(10, ms(1_500));
        assert_eq!(window.rate(ms(1_500)), 60);
        assert_eq!(window.rate(ms(3_000)), 0);
    }
}
