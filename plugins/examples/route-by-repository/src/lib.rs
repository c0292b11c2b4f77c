//! An example selector: every repository has its queue.
//!
//! The repository is the message's first key, or the property that the config names. Repositories under `pin`
//! get the queue stated there, the others one by their hash. Config, all of it optional:
//! `{"property": "repository", "pin": {"octo-org/octo-repo": 0}}`.

use std::collections::BTreeMap;

use pointsman_plugin::{Context, Message, Plan, Route, Selector, export_selector};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteByRepository {
    property: Option<String>,
    #[serde(default)]
    pin: BTreeMap<String, u16>,
}

impl Selector for RouteByRepository {
    fn new(config: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(config).map_err(|error| error.to_string())
    }

    fn plan(&self) -> Plan {
        match &self.property {
            Some(name) => Plan::new().property(name),
            None => Plan::new().keys(),
        }
    }

    fn select(&self, message: &Message<'_>, context: &Context) -> Route {
        let repository = match &self.property {
            Some(name) => message.property(name),
            None => message.keys().next(),
        };
        let Some(repository) = repository else {
            return message.fail("no repository");
        };
        match self.pin.get(repository) {
            Some(queue) => Route::queue(*queue),
            None => context.by_hash(repository.as_bytes()),
        }
    }
}

export_selector!(RouteByRepository);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, selects};

    #[test]
    fn a_repository_keeps_its_queue() {
        let selector = RouteByRepository::new(br#"{"pin":{"octo-org/octo-repo":3}}"#).expect("valid");
        let of = |sample: Sample| selects(&selector, &sample, 4);
        assert_eq!(of(Sample::new().key("octo-org/octo-repo")), Ok(vec![(0, 3)]));
        assert_eq!(of(Sample::new().key("a/b").key("a/b#1")), of(Sample::new().key("a/b").key("a/b#2")));
        assert_eq!(of(Sample::new()), Err("no repository".to_owned()));
    }

    #[test]
    fn the_property_is_used_where_it_is_named() {
        let selector = RouteByRepository::new(br#"{"property":"repo","pin":{"a/b":1}}"#).expect("valid");
        assert_eq!(selects(&selector, &Sample::new().property("repo", "a/b"), 4), Ok(vec![(0, 1)]));
    }
}
