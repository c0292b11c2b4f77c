//! An example filter: webhook deliveries by event, and by action where that matters.
//!
//! The event is the message's tag, the action its property `action`. Config:
//! `{"accept": ["push", "issues"], "actions": ["opened", "closed"]}`; without `actions` every action passes, and
//! so does, with `actions`, an event that has no action at all.

use pointsman_plugin::{Filter, Message, OneOf, Plan, export_filter};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    accept: Vec<String>,
    actions: Option<Vec<String>>,
}

struct ByEvent {
    accept: OneOf,
    actions: Option<OneOf>,
}

impl Filter for ByEvent {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config: Config = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        Ok(Self { accept: OneOf::new(config.accept), actions: config.actions.map(OneOf::new) })
    }

    fn plan(&self) -> Plan {
        let plan = Plan::new().tag().only_tags(self.accept.iter());
        if self.actions.is_some() { plan.property("action") } else { plan }
    }

    fn accept(&self, message: &Message<'_>) -> bool {
        let Some(event) = message.tag() else { return false };
        let Some(actions) = &self.actions else { return self.accept.contains(event) };
        self.accept.contains(event) && message.property("action").is_none_or(|action| actions.contains(action))
    }
}

export_filter!(ByEvent);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, accepts};

    #[test]
    fn by_event_and_action() {
        let filter = ByEvent::new(br#"{"accept":["push","issues"],"actions":["opened"]}"#).expect("valid");
        let check = |sample: Sample, expected| assert_eq!(accepts(&filter, &sample), Ok(expected));
        check(Sample::new().tag("push"), true);
        check(Sample::new().tag("issues").property("action", "opened"), true);
        check(Sample::new().tag("issues").property("action", "closed"), false);
        check(Sample::new().tag("fork"), false);
        check(Sample::new(), false);
    }

    #[test]
    fn a_bad_config_is_refused() {
        assert!(ByEvent::new(br#"{"acept":[]}"#).is_err());
    }
}
