//! An example retry policy: some failures will not heal, others need a moment.
//!
//! A consumer that finds a message broken says so in its reason: `{"op":"nack","reason":"fatal: no such customer"}`. Such
//! a message goes to the dead-letter queue at once. Any other is tried again after a wait that doubles. Config, all of it
//! optional: `{"fatal": ["fatal"], "first_ms": 1000, "longest_ms": 600000}`; a reason is fatal that begins with one of
//! `fatal`.

use std::time::Duration;

use pointsman_plugin::{Attempt, Decision, Retry, export_retry};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GiveUpOnFatal {
    fatal: Vec<String>,
    first_ms: u32,
    longest_ms: u32,
}

impl Default for GiveUpOnFatal {
    fn default() -> Self {
        Self { fatal: vec!["fatal".to_owned()], first_ms: 1_000, longest_ms: 600_000 }
    }
}

impl Retry for GiveUpOnFatal {
    fn new(config: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(config).map_err(|error| error.to_string())
    }

    fn decide(&self, attempt: &Attempt) -> Decision {
        let reason = attempt.reason.as_deref().unwrap_or_default();
        if self.fatal.iter().any(|fatal| reason.starts_with(fatal.as_str())) {
            return Decision::DeadLetter(None);
        }
        let doublings = u32::from(attempt.attempt.saturating_sub(1)).min(31);
        let wait_ms = u64::from(self.first_ms) << doublings;
        Decision::Again(Duration::from_millis(wait_ms.min(self.longest_ms.into())))
    }
}

export_retry!(GiveUpOnFatal);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, attempt: u16, reason: Option<&str>, expected: Decision) {
        let retry = GiveUpOnFatal::new(config.as_bytes()).expect("valid");
        let attempt = Attempt { attempt, reason: reason.map(str::to_owned), ..Attempt::default() };
        assert_eq!(retry.decide(&attempt), expected, "{config} {attempt:?}");
    }

    fn after(ms: u64) -> Decision {
        Decision::Again(Duration::from_millis(ms))
    }

    #[test]
    fn what_is_fatal_is_given_up() {
        check("{}", 1, Some("fatal: no such customer"), Decision::DeadLetter(None));
        check("{}", 1, Some("not fatal"), after(1_000));
        check(r#"{"fatal":["gone","bad"]}"#, 1, Some("bad input"), Decision::DeadLetter(None));
        check(r#"{"fatal":[]}"#, 1, Some("fatal"), after(1_000));
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        for (attempt, ms) in [(1, 1_000), (2, 2_000), (5, 16_000), (11, 600_000), (1_000, 600_000)] {
            check("{}", attempt, None, after(ms));
        }
        check(r#"{"first_ms":3,"longest_ms":5}"#, 2, None, after(5));
    }

    #[test]
    fn a_bad_config_is_refused() {
        assert!(GiveUpOnFatal::new(br#"{"first":1}"#).is_err());
    }
}
