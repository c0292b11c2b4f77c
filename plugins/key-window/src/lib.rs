//! The built-in dedup `key-window`: one message a key within the topic's window.
//!
//! Config: `{"field": "key", "ttl_ms": 60000}`, both optional. The field is `key` (the message's first; the default),
//! `ordering-key`, `tag` or `property:NAME`; a message without it is stored whatever was there before. `ttl_ms` is how
//! long a key is remembered, at most 7 days, where the topic's window is not meant.

use std::time::Duration;

use pointsman_plugin::{Dedup, Key, Message, Plan, export_dedup};
use serde::Deserialize;

/// Longest time that a key may be remembered.
const TTL_MS_MAX: u64 = 7 * 24 * 3_600_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    field: Option<String>,
    ttl_ms: Option<u64>,
}

enum Field {
    Key,
    OrderingKey,
    Tag,
    Property(String),
}

struct KeyWindow {
    field: Field,
    ttl: Option<Duration>,
}

impl Field {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "key" => Ok(Self::Key),
            "ordering-key" => Ok(Self::OrderingKey),
            "tag" => Ok(Self::Tag),
            _ => match text.strip_prefix("property:") {
                Some(name) if !name.is_empty() => Ok(Self::Property(name.to_owned())),
                _ => Err(format!("`field` is `key`, `ordering-key`, `tag` or `property:NAME`, and not `{text}`")),
            },
        }
    }
}

impl Dedup for KeyWindow {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config: Config = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        if config.ttl_ms.is_some_and(|ms| !(1..=TTL_MS_MAX).contains(&ms)) {
            return Err(format!("`ttl_ms` is from 1 to {TTL_MS_MAX}"));
        }
        let field = config.field.as_deref().map_or(Ok(Field::Key), Field::parse)?;
        Ok(Self { field, ttl: config.ttl_ms.map(Duration::from_millis) })
    }

    fn plan(&self) -> Plan {
        match &self.field {
            Field::Key => Plan::new().keys(),
            Field::OrderingKey => Plan::new().ordering_key(),
            Field::Tag => Plan::new().tag(),
            Field::Property(name) => Plan::new().property(name),
        }
    }

    fn key(&self, message: &Message<'_>) -> Option<Key> {
        let key = match &self.field {
            Field::Key => message.keys().next(),
            Field::OrderingKey => message.ordering_key(),
            Field::Tag => message.tag(),
            Field::Property(name) => message.property(name),
        };
        let key = Key::new(key.filter(|key| !key.is_empty())?);
        Some(match self.ttl {
            Some(ttl) => key.remembered_for(ttl),
            None => key,
        })
    }
}

export_dedup!(KeyWindow);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, keys};

    fn check(config: &str, expected: Option<&str>) {
        let dedup = KeyWindow::new(config.as_bytes()).expect("valid");
        let sample = Sample::new().key("k1").key("k2").ordering_key("o").tag("t").property("order", "7");
        assert_eq!(keys(&dedup, &sample), Ok(expected.map(Key::new)), "{config}");
        assert_eq!(keys(&dedup, &Sample::new()), Ok(None), "{config}");
    }

    #[test]
    fn the_field_is_the_key() {
        check("{}", Some("k1"));
        check(r#"{"field":"key"}"#, Some("k1"));
        check(r#"{"field":"ordering-key"}"#, Some("o"));
        check(r#"{"field":"tag"}"#, Some("t"));
        check(r#"{"field":"property:order"}"#, Some("7"));
        check(r#"{"field":"property:other"}"#, None);
    }

    #[test]
    fn an_empty_value_is_no_key() {
        let dedup = KeyWindow::new(br#"{"field":"property:order"}"#).expect("valid");
        assert_eq!(keys(&dedup, &Sample::new().property("order", "")), Ok(None));
    }

    #[test]
    fn it_says_how_long() {
        let dedup = KeyWindow::new(br#"{"field":"tag","ttl_ms":5}"#).expect("valid");
        let expected = Key::new("t").remembered_for(Duration::from_millis(5));
        assert_eq!(keys(&dedup, &Sample::new().tag("t")), Ok(Some(expected)));
    }

    #[test]
    fn a_bad_config_is_refused() {
        let max = r#"{"ttl_ms":604800000}"#;
        assert!(KeyWindow::new(max.as_bytes()).is_ok());
        for config in [r#"{"field":"body"}"#, r#"{"field":"property:"}"#, r#"{"ttl_ms":0}"#, r#"{"ttl_ms":604800001}"#]
        {
            assert!(KeyWindow::new(config.as_bytes()).is_err(), "{config}");
        }
        assert!(KeyWindow::new(br#"{"fields":"key"}"#).is_err());
    }
}
