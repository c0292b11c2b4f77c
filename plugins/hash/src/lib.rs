//! The built-in selector `hash`: the same key to the same queue.
//!
//! Config: `{}` or nothing. A message with an ordering key goes where the broker would put it, by its key's
//! slot; one with keys goes by the hash of the first; any other is spread evenly, by its pseudo-random bits.

use pointsman_plugin::{Context, Message, Plan, Route, Selector, export_selector};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Hash;

impl Selector for Hash {
    fn new(config: &[u8]) -> Result<Self, String> {
        if !config.is_empty() {
            let Config {} = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        }
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::new().ordering_key().keys().seed()
    }

    fn select(&self, message: &Message<'_>, context: &Context) -> Route {
        if message.ordering_key().is_some() {
            return Route::by_slot();
        }
        match message.keys().next() {
            Some(key) => context.by_hash(key.as_bytes()),
            None => context.by_number(message.seed()),
        }
    }
}

export_selector!(Hash);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, selects};

    #[test]
    fn by_ordering_key_then_key_then_seed() {
        let of = |sample: Sample| selects(&Hash, &sample, 4).expect("it fails none");
        assert_eq!(of(Sample::new().ordering_key("o").key("k")), [(0, 0xFFFF)]);
        let by_key = of(Sample::new().key("k").key("other").seed(1));
        assert_eq!(by_key, of(Sample::new().key("k").seed(2)));
        assert_eq!(of(Sample::new().seed(6)), [(0, 2)]);
    }

    #[test]
    fn takes_no_config() {
        assert!(Hash::new(b"").is_ok() && Hash::new(b"{}").is_ok());
        assert!(Hash::new(br#"{"a":1}"#).is_err());
    }
}
