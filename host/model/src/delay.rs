//! Delays of messages: what a producer may ask for, and when that is.

use crate::limits;
use crate::time::Timestamp;

/// Delays of the levels 1 to 18, in ms. `PROMISES.md`, Retry table (RocketMQ's levels).
pub const LEVELS_MS: [u64; 18] = [
    1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000,
    600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
];

/// When a message is to be delivered, in one of the three forms of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// So many ms after it was published; 0 is at once.
    After(u64),
    /// By level, from 1; the setting `time_scale` multiplies these alone.
    Level(u8),
    /// At a time; in the past is at once.
    At(Timestamp),
}

/// A delay past [`limits::DELAY_MS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at most {} ms ahead", limits::DELAY_MS_MAX)]
pub struct TooFar;

impl Delay {
    /// The field of the contract that states it.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::After(_) => "delay_ms",
            Self::Level(_) => "delay_level",
            Self::At(_) => "deliver_at",
        }
    }

    /// Checks what can be checked without knowing what time it is.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn validate(self) -> Result<(), String> {
        match self {
            Self::After(ms) if ms > limits::DELAY_MS_MAX => Err(format!("at most {} ms", limits::DELAY_MS_MAX)),
            Self::Level(level) if level == 0 || usize::from(level) > LEVELS_MS.len() => {
                Err(format!("1 to {}", LEVELS_MS.len()))
            }
            _ => Ok(()),
        }
    }

    /// When a message published at `now` is due; `None` is at once.
    ///
    /// # Errors
    /// [`TooFar`].
    pub fn due(self, now: Timestamp, time_scale: f64) -> Result<Option<Timestamp>, TooFar> {
        let due = match self {
            Self::After(ms) => now.plus_ms(ms),
            Self::Level(level) => {
                let step = usize::from(level).clamp(1, LEVELS_MS.len()) - 1;
                let ms = (LEVELS_MS[step] as f64 * time_scale).round() as u64;
                now.plus_ms(ms.min(limits::DELAY_MS_MAX))
            }
            Self::At(due) => due,
        };
        if due.since_ms(now) > limits::DELAY_MS_MAX {
            return Err(TooFar);
        }
        Ok((due > now).then_some(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn check(delay: Delay, time_scale: f64, expected: Result<Option<u64>, TooFar>) {
        assert_eq!(delay.due(NOW, time_scale), expected.map(|ms| ms.map(|ms| NOW.plus_ms(ms))), "{delay:?}");
    }

    #[test]
    fn the_forms_and_what_is_at_once() {
        check(Delay::After(0), 1.0, Ok(None));
        check(Delay::After(1), 9.0, Ok(Some(1)));
        check(Delay::At(NOW), 1.0, Ok(None));
        check(Delay::At(Timestamp(5)), 1.0, Ok(None));
        check(Delay::At(NOW.plus_ms(7)), 0.001, Ok(Some(7)));
        check(Delay::Level(1), 1.0, Ok(Some(1_000)));
        check(Delay::Level(5), 1.0, Ok(Some(60_000)));
        check(Delay::Level(14), 1.0, Ok(Some(600_000)));
        check(Delay::Level(18), 1.0, Ok(Some(7_200_000)));
        check(Delay::Level(18), 0.001, Ok(Some(7_200)));
    }

    #[test]
    fn a_year_one_below_at_and_above() {
        for (ms, fits) in
            [(limits::DELAY_MS_MAX - 1, true), (limits::DELAY_MS_MAX, true), (limits::DELAY_MS_MAX + 1, false)]
        {
            assert_eq!(Delay::After(ms).validate().is_ok(), fits);
            check(Delay::At(NOW.plus_ms(ms)), 1.0, if fits { Ok(Some(ms)) } else { Err(TooFar) });
        }
        for (level, fits) in [(0, false), (1, true), (18, true), (19, false)] {
            assert_eq!(Delay::Level(level).validate().is_ok(), fits, "{level}");
        }
    }
}
