//! An example check-back: the ledger knows whether a payment went through.
//!
//! A producer prepares "paid" messages, books the payment in the ledger and commits. Where it dies in between, this asks
//! `GET {ledger}/{payment}`; the payment's number is a property of the message. Config: `{"ledger":
//! "https://ledger.example/payments", "allow": ["ledger.example"], "property": "payment", "grace_ms": 60000}`; the last
//! two are optional. A payment that the ledger does not know is rolled back once the grace is over: the booking may have
//! been on its way.

use std::fmt::Write as _;
use std::time::Duration;

use pointsman_plugin::{CheckBack, Half, Request, Response, Verdict, export_check_back};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskLedger {
    ledger: String,
    /// Read by the broker: the hosts that may be asked.
    #[serde(rename = "allow")]
    _allow: Vec<String>,
    #[serde(default = "payment")]
    property: String,
    #[serde(default = "minute")]
    grace_ms: u32,
}

fn payment() -> String {
    "payment".to_owned()
}

fn minute() -> u32 {
    60_000
}

#[derive(Deserialize)]
struct Payment {
    status: String,
}

/// A piece of a path: what could mean something else is written as `%XX`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

impl CheckBack for AskLedger {
    fn new(config: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(config).map_err(|error| error.to_string())
    }

    fn check(&self, half: &Half, _attempt: u16) -> Verdict {
        match half.property(&self.property) {
            Some(payment) => Verdict::Ask(Request::get(format!("{}/{}", self.ledger, escape(payment)))),
            None => Verdict::Fail(format!("the message has no property `{}`", self.property)),
        }
    }

    fn answer(&self, half: &Half, response: Result<Response, String>) -> Verdict {
        match response {
            Ok(Response { status: 200, body, .. }) => match serde_json::from_slice::<Payment>(&body) {
                Ok(payment) if payment.status == "settled" => Verdict::Commit,
                Ok(payment) if payment.status == "cancelled" => Verdict::Rollback,
                Ok(_) => Verdict::Unknown(None),
                Err(error) => Verdict::Fail(error.to_string()),
            },
            Ok(Response { status: 404, .. }) => {
                let over = half.prepared_at.saturating_add(self.grace_ms.into());
                if half.now >= over {
                    Verdict::Rollback
                } else {
                    Verdict::Unknown(Some(Duration::from_millis(over - half.now)))
                }
            }
            Ok(_) | Err(_) => Verdict::Unknown(None),
        }
    }
}

export_check_back!(AskLedger);

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> AskLedger {
        AskLedger::new(br#"{"ledger":"https://l.example/p","allow":["l.example:443"]}"#).expect("valid")
    }

    fn half(now: u64) -> Half {
        let properties = vec![("payment".to_owned(), "p/7 .".to_owned())];
        Half { prepared_at: 1_000, now, properties, ..Half::default() }
    }

    fn told(now: u64, status: u16, body: &str) -> Verdict {
        plugin().answer(&half(now), Ok(Response { status, body: body.into(), ..Response::default() }))
    }

    #[test]
    fn it_asks_for_the_payment() {
        let expected = Verdict::Ask(Request::get("https://l.example/p/p%2F7%20%2E"));
        assert_eq!(plugin().check(&half(0), 1), expected);
        assert!(matches!(plugin().check(&Half::default(), 1), Verdict::Fail(_)));
    }

    #[test]
    fn the_ledger_decides() {
        assert_eq!(told(0, 200, r#"{"status":"settled"}"#), Verdict::Commit);
        assert_eq!(told(0, 200, r#"{"status":"cancelled"}"#), Verdict::Rollback);
        assert_eq!(told(0, 200, r#"{"status":"pending"}"#), Verdict::Unknown(None));
        assert!(matches!(told(0, 200, "nonsense"), Verdict::Fail(_)));
        assert_eq!(told(0, 500, ""), Verdict::Unknown(None));
        assert_eq!(plugin().answer(&half(0), Err("too slow".to_owned())), Verdict::Unknown(None));
    }

    #[test]
    fn a_payment_nobody_knows_has_its_grace() {
        assert_eq!(told(60_999, 404, ""), Verdict::Unknown(Some(Duration::from_millis(1))));
        assert_eq!(told(61_000, 404, ""), Verdict::Rollback);
    }
}
