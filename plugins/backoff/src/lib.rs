//! The built-in retry policy `backoff`: ever longer waits.
//!
//! Without a config it is what a group has anyway: 10 s, 30 s, 1 min, 2 min … 10 min, 20 min, 30 min, 1 h, 2 h; the last
//! step repeats. Config, all of it optional: `{"delays_ms": [1000, 5000], "max_retries": 3}`. Stated delays are meant as
//! stated; the setting `time_scale` multiplies those of the table alone. `max_retries` sends a message to the dead-letter
//! queue earlier than its group would.

use std::time::Duration;

use pointsman_plugin::{Attempt, Decision, Retry, export_retry};
use serde::Deserialize;

const fn minutes(minutes: u64) -> u64 {
    minutes * 60_000
}

/// The default table, ms.
const TABLE_MS: [u64; 16] = [
    10_000,
    30_000,
    minutes(1),
    minutes(2),
    minutes(3),
    minutes(4),
    minutes(5),
    minutes(6),
    minutes(7),
    minutes(8),
    minutes(9),
    minutes(10),
    minutes(20),
    minutes(30),
    minutes(60),
    minutes(120),
];
/// Longest delay: a year.
const DELAY_MS_MAX: u64 = 365 * 24 * 3_600_000;
/// Most delays of a config.
const DELAYS_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Backoff {
    delays_ms: Option<Vec<u64>>,
    max_retries: Option<u16>,
}

impl Retry for Backoff {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        if let Some(delays) = &config.delays_ms {
            if delays.is_empty() || delays.len() > DELAYS_MAX {
                return Err(format!("`delays_ms` has 1 to {DELAYS_MAX} delays, and not {}", delays.len()));
            }
            if let Some(delay) = delays.iter().find(|delay| **delay > DELAY_MS_MAX) {
                return Err(format!("a delay of {delay} ms, at most {DELAY_MS_MAX}"));
            }
        }
        Ok(config)
    }

    fn decide(&self, attempt: &Attempt) -> Decision {
        if self.max_retries.is_some_and(|max| attempt.attempt > max) {
            return Decision::DeadLetter(Some("attempts-exhausted".to_owned()));
        }
        let step = usize::from(attempt.attempt.saturating_sub(1));
        match &self.delays_ms {
            Some(delays) => Decision::Again(Duration::from_millis(delays[step.min(delays.len() - 1)])),
            None => Decision::AgainScaled(Duration::from_millis(TABLE_MS[step.min(TABLE_MS.len() - 1)])),
        }
    }
}

export_retry!(Backoff);

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(config: &str, attempt: u16) -> Decision {
        let retry = Backoff::new(config.as_bytes()).expect("valid");
        retry.decide(&Attempt { attempt, max_retries: 16, ..Attempt::default() })
    }

    #[test]
    fn the_table_has_sixteen_steps_and_the_last_repeats() {
        let seconds = [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
        for (step, seconds) in seconds.into_iter().enumerate() {
            let expected = Decision::AgainScaled(Duration::from_secs(seconds));
            assert_eq!(decide("{}", step as u16 + 1), expected);
        }
        assert_eq!(decide("{}", 17), Decision::AgainScaled(Duration::from_secs(7_200)));
        assert_eq!(decide("{}", 0), Decision::AgainScaled(Duration::from_secs(10)));
    }

    #[test]
    fn stated_delays_are_not_scaled() {
        let config = r#"{"delays_ms":[5,50]}"#;
        let waits = [1, 2, 3].map(|attempt| decide(config, attempt));
        assert_eq!(waits, [5, 50, 50].map(|ms| Decision::Again(Duration::from_millis(ms))));
    }

    #[test]
    fn it_gives_up_where_it_is_told_to() {
        let config = r#"{"delays_ms":[5],"max_retries":1}"#;
        assert_eq!(decide(config, 1), Decision::Again(Duration::from_millis(5)));
        assert_eq!(decide(config, 2), Decision::DeadLetter(Some("attempts-exhausted".to_owned())));
        assert!(matches!(decide(r#"{"max_retries":0}"#, 1), Decision::DeadLetter(_)));
    }

    #[test]
    fn a_bad_config_is_refused() {
        let year = r#"{"delays_ms":[31536000000]}"#;
        assert!(Backoff::new(year.as_bytes()).is_ok());
        for config in [r#"{"delays_ms":[]}"#, r#"{"delays_ms":[31536000001]}"#, r#"{"delays":[1]}"#, "[]"] {
            assert!(Backoff::new(config.as_bytes()).is_err(), "{config}");
        }
        let many = |n: usize| format!(r#"{{"delays_ms":[{}]}}"#, vec!["1"; n].join(","));
        assert!(Backoff::new(many(DELAYS_MAX).as_bytes()).is_ok());
        assert!(Backoff::new(many(DELAYS_MAX + 1).as_bytes()).is_err());
    }
}
