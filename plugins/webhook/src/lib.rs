//! The built-in check-back `webhook`: a web service knows what became of a transaction.
//!
//! Config: `{"url": "https://shop.example/transactions", "allow": ["shop.example"], "headers": {"X-Api-Key": "…"}}`;
//! `headers` is optional. The broker asks no host that `allow` does not name, as `host:port`, or as `host` for the scheme's
//! own port; so the URL's must be there. It is asked by `POST`:
//!
//! ```json
//! {"transaction":"t…","attempt":1,"producer_group":"default","topic":"orders","messages":2,"tag":null,"keys":["1042"],
//!  "ordering_key":null,"properties":{},"prepared_at_ms":1700000000000}
//! ```
//!
//! and answers `{"state":"commit"}`, `{"state":"rollback"}` or `{"state":"unknown","after_ms":60000}`; `after_ms` is
//! optional. Whatever else comes, or nothing, leaves the transaction unknown until the next check.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_plugin::{CheckBack, Half, Level, Request, Response, Verdict, export_check_back, log};
use serde::{Deserialize, Serialize};

/// Longest time to the next check: a day.
const AFTER_MS_MAX: u64 = 24 * 3_600_000;
/// Longest URL, most headers, and most bytes of them, by the contract; one header is set by this plugin.
const URL_BYTES_MAX: usize = 2_048;
const HEADERS_MAX: usize = 31;
const HEADERS_BYTES_MAX: usize = 8_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    url: String,
    allow: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Asked<'a> {
    transaction: &'a str,
    attempt: u16,
    producer_group: &'a str,
    topic: &'a str,
    messages: u16,
    tag: Option<&'a str>,
    keys: &'a [String],
    ordering_key: Option<&'a str>,
    properties: BTreeMap<&'a str, &'a str>,
    prepared_at_ms: u64,
}

#[derive(Deserialize)]
struct Told {
    state: State,
    after_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Commit,
    Rollback,
    Unknown,
}

/// The names of a URL's host in an allow-list, in lower case: `host:port`, and `host` where the port is the scheme's own.
fn names(url: &str) -> Result<Vec<String>, String> {
    let (own_port, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => ("443", rest),
        (_, Some(rest)) => ("80", rest),
        _ => return Err("the URL begins with `https://` or `http://`".to_owned()),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    if authority.is_empty() || authority.contains('@') {
        return Err("the URL names a host, and no user".to_owned());
    }
    // Of `[::1]` the colons are none of a port.
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, port),
        None => (authority.as_str(), own_port),
    };
    let own = (port == own_port).then(|| host.to_owned());
    Ok(std::iter::once(format!("{host}:{port}")).chain(own).collect())
}

impl CheckBack for Webhook {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        if config.url.len() > URL_BYTES_MAX {
            return Err(format!("a URL of {} bytes, at most {URL_BYTES_MAX}", config.url.len()));
        }
        let header_bytes: usize = config.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if config.headers.len() > HEADERS_MAX || header_bytes > HEADERS_BYTES_MAX {
            return Err(format!("at most {HEADERS_MAX} headers of {HEADERS_BYTES_MAX} bytes in all"));
        }
        let names = names(&config.url)?;
        if !config.allow.iter().any(|allowed| names.iter().any(|name| name.eq_ignore_ascii_case(allowed))) {
            return Err(format!("`allow` does not name `{}`, which the URL is of", names[0]));
        }
        Ok(config)
    }

    fn check(&self, half: &Half, attempt: u16) -> Verdict {
        let asked = Asked {
            transaction: &half.transaction,
            attempt,
            producer_group: &half.producer_group,
            topic: &half.topic,
            messages: half.messages,
            tag: half.tag.as_deref(),
            keys: &half.keys,
            ordering_key: half.ordering_key.as_deref(),
            properties: half.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            prepared_at_ms: half.prepared_at,
        };
        let body = match serde_json::to_vec(&asked) {
            Ok(body) => body,
            Err(error) => return Verdict::Fail(error.to_string()),
        };
        let request = Request::post(self.url.as_str(), body).header("content-type", "application/json");
        Verdict::Ask(self.headers.iter().fold(request, |request, (name, value)| request.header(name, value)))
    }

    fn answer(&self, half: &Half, response: Result<Response, String>) -> Verdict {
        let response = match response {
            Ok(response) if response.is_success() => response,
            Ok(response) => {
                log(Level::Warn, &format!("{}: status {}", half.transaction, response.status));
                return Verdict::Unknown(None);
            }
            Err(words) => {
                log(Level::Warn, &format!("{}: {words}", half.transaction));
                return Verdict::Unknown(None);
            }
        };
        match serde_json::from_slice(&response.body) {
            Ok(Told { state: State::Commit, .. }) => Verdict::Commit,
            Ok(Told { state: State::Rollback, .. }) => Verdict::Rollback,
            Ok(Told { state: State::Unknown, after_ms }) => {
                Verdict::Unknown(after_ms.map(|ms| Duration::from_millis(ms.min(AFTER_MS_MAX))))
            }
            Err(error) => Verdict::Fail(format!("{} answered what is no state: {error}", self.url)),
        }
    }
}

export_check_back!(Webhook);

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"url":"https://shop.example/tx","allow":["shop.example:443"],"headers":{"X-Key":"k"}}"#;

    fn webhook() -> Webhook {
        Webhook::new(CONFIG.as_bytes()).expect("valid")
    }

    fn half() -> Half {
        Half {
            transaction: "t123".into(),
            producer_group: "default".into(),
            prepared_at: 5,
            messages: 2,
            topic: "orders".into(),
            keys: vec!["1042".into()],
            properties: vec![("a".into(), "b".into())],
            ..Half::default()
        }
    }

    fn told(status: u16, body: &str) -> Verdict {
        webhook().answer(&half(), Ok(Response { status, headers: Vec::new(), body: body.into() }))
    }

    #[test]
    fn it_asks_by_post() {
        let Verdict::Ask(request) = webhook().check(&half(), 3) else { panic!("a request") };
        assert_eq!((request.post, request.url.as_str()), (true, "https://shop.example/tx"));
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("content-type", "application/json"), ("X-Key", "k")]);
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let expected = serde_json::json!({"transaction": "t123", "attempt": 3, "producer_group": "default",
            "topic": "orders", "messages": 2, "tag": null, "keys": ["1042"], "ordering_key": null,
            "properties": {"a": "b"}, "prepared_at_ms": 5});
        assert_eq!(body, expected);
    }

    #[test]
    fn what_is_told_is_the_verdict() {
        assert_eq!(told(200, r#"{"state":"commit"}"#), Verdict::Commit);
        assert_eq!(told(201, r#"{"state":"rollback","more":1}"#), Verdict::Rollback);
        assert_eq!(told(200, r#"{"state":"unknown"}"#), Verdict::Unknown(None));
        let after = Verdict::Unknown(Some(Duration::from_millis(7)));
        assert_eq!(told(200, r#"{"state":"unknown","after_ms":7}"#), after);
        let day = Verdict::Unknown(Some(Duration::from_millis(AFTER_MS_MAX)));
        assert_eq!(told(200, r#"{"state":"unknown","after_ms":99999999999}"#), day);
    }

    #[test]
    fn whatever_else_comes_leaves_it_unknown() {
        for status in [302, 404, 500, 503] {
            assert_eq!(told(status, r#"{"state":"commit"}"#), Verdict::Unknown(None), "{status}");
        }
        assert_eq!(webhook().answer(&half(), Err("refused".into())), Verdict::Unknown(None));
        for body in ["", "commit", r#"{"state":"done"}"#, "{}"] {
            assert!(matches!(told(200, body), Verdict::Fail(_)), "{body}");
        }
    }

    fn check_names(url: &str, expected: &[&str]) {
        assert_eq!(names(url).as_deref(), Ok(&expected.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..]));
    }

    #[test]
    fn the_host_and_port_of_a_url() {
        check_names("https://Shop.example", &["shop.example:443", "shop.example"]);
        check_names("http://shop.example/a:1", &["shop.example:80", "shop.example"]);
        check_names("http://shop.example:8080?x", &["shop.example:8080"]);
        check_names("https://shop.example:443", &["shop.example:443", "shop.example"]);
        check_names("https://[::1]/x", &["[::1]:443", "[::1]"]);
        check_names("https://[::1]:5", &["[::1]:5"]);
        for url in ["ftp://a", "shop.example", "https://", "https:///x", "https://me@shop.example", "HTTPS:/a"] {
            assert!(names(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_bad_config_is_refused() {
        for config in [
            "{}",
            r#"{"url":"https://shop.example"}"#,
            r#"{"url":"https://shop.example","allow":[]}"#,
            r#"{"url":"https://shop.example","allow":["shop.example:80"]}"#,
            r#"{"url":"https://shop.example:8443","allow":["shop.example"]}"#,
            r#"{"url":"https://shop.example:8443","allow":["shop.example:443"]}"#,
            r#"{"url":"shop.example","allow":["shop.example:443"]}"#,
            r#"{"url":"https://shop.example","allow":["shop.example:443"],"retries":1}"#,
        ] {
            assert!(Webhook::new(config.as_bytes()).is_err(), "{config}");
        }
        let of = |url: &str| format!(r#"{{"url":"https://a/{url}","allow":["a:443"]}}"#);
        let longest = URL_BYTES_MAX - "https://a/".len();
        assert!(Webhook::new(of(&"x".repeat(longest)).as_bytes()).is_ok());
        assert!(Webhook::new(of(&"x".repeat(longest + 1)).as_bytes()).is_err());
    }
}
