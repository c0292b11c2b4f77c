//! An example dedup: one message an order and event, whatever is in it.
//!
//! A shop sends `paid` for order 1042 again when it is not sure that the first one arrived, with another timestamp in the
//! payload. The order's number is a property, the event is the tag. Config, all of it optional:
//! `{"property": "order", "hours": 24}`; without `hours` a key is remembered for the topic's window.

use std::time::Duration;

use pointsman_plugin::{Dedup, Key, Message, Plan, export_dedup};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OncePerOrder {
    #[serde(default = "order")]
    property: String,
    hours: Option<u8>,
}

fn order() -> String {
    "order".to_owned()
}

impl Dedup for OncePerOrder {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        match config.hours {
            Some(0 | 169..) => Err("`hours` is from 1 to 168, which is a week".to_owned()),
            _ => Ok(config),
        }
    }

    fn plan(&self) -> Plan {
        Plan::new().property(&self.property).tag()
    }

    fn key(&self, message: &Message<'_>) -> Option<Key> {
        let order = message.property(&self.property)?;
        if !order.bytes().all(|byte| byte.is_ascii_digit()) {
            return message.fail("the order is no number");
        }
        let key = Key::new(format!("{order}/{}", message.tag().unwrap_or_default()));
        Some(match self.hours {
            Some(hours) => key.remembered_for(Duration::from_secs(u64::from(hours) * 3_600)),
            None => key,
        })
    }
}

export_dedup!(OncePerOrder);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, keys};

    fn check(config: &str, sample: Sample, expected: Result<Option<Key>, &str>) {
        let dedup = OncePerOrder::new(config.as_bytes()).expect("valid");
        assert_eq!(keys(&dedup, &sample), expected.map_err(str::to_owned), "{config}");
    }

    #[test]
    fn an_order_and_its_event_are_the_key() {
        let paid = || Sample::new().property("order", "1042").tag("paid");
        check("{}", paid(), Ok(Some(Key::new("1042/paid"))));
        check("{}", Sample::new().property("order", "1042"), Ok(Some(Key::new("1042/"))));
        check("{}", Sample::new().tag("paid"), Ok(None));
        check("{}", Sample::new().property("order", "A-1"), Err("the order is no number"));
        check(r#"{"property":"no"}"#, Sample::new().property("no", "7").tag("x"), Ok(Some(Key::new("7/x"))));
        let day = Key::new("1042/paid").remembered_for(Duration::from_secs(86_400));
        check(r#"{"hours":24}"#, paid(), Ok(Some(day)));
    }

    #[test]
    fn a_bad_config_is_refused() {
        for config in [r#"{"hours":0}"#, r#"{"hours":169}"#, r#"{"day":1}"#] {
            assert!(OncePerOrder::new(config.as_bytes()).is_err(), "{config}");
        }
        assert!(OncePerOrder::new(br#"{"hours":168}"#).is_ok());
    }
}
