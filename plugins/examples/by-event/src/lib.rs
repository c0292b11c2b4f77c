//! An example filter: webhook deliveries by event, and by action where that matters.
//!
//! The event is the message's tag, the action its property `action`. Config:
//! `{"accept": ["push", "issues"], "actions": ["opened", "closed"]}`; without `actions` every action passes, and
//! so does, with `actions`, an event that has no action at all.

use pointsman_plugin::{Filter, Message, Plan, export_filter};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByEvent {
    accept: Vec<String>,
    actions: Option<Vec<String>>,
}

impl Filter for ByEvent {
    fn new(config: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(config).map_err(|error| error.to_string())
    }

    fn plan(&self) -> Plan {
        Plan::new().tag().property("action").only_tags(&self.accept)
    }

    fn accept(&self, message: &Message<'_>) -> bool {
        let Some(event) = message.tag() else {
            return false;
        };
        if !self.accept.iter().any(|accepted| accepted == event) {
            return false;
        }
        match (&self.actions, message.property("action")) {
            (Some(actions), Some(action)) => actions.iter().any(|accepted| accepted == action),
            _ => true,
        }
    }
}

export_filter!(ByEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, accepts};

    #[test]
    fn by_event_and_action() {
        let filter =
            ByEvent::new(br#"{"accept":["push","issues"],"actions":["opened"]}"#).expect("valid");
        let check = |sample: Sample, expected| assert_eq!(accepts(&filter, &sample), Ok(expected));
        check(Sample::new().tag("push"), true);
        check(
            Sample::new().tag("issues").property("action", "opened"),
            true,
        );
        check(
            Sample::new().tag("issues").property("action", "closed"),
            false,
        );
        check(Sample::new().tag("fork"), false);
        check(Sample::new(), false);
    }

    #[test]
    fn a_bad_config_is_refused() {
        assert!(ByEvent::new(br#"{"acept":[]}"#).is_err());
    }
}
