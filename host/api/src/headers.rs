//! Reading request headers: known `Pm-` ones, each once unless it may repeat, values in UTF-8.

use http::header::{self, HeaderMap, HeaderName};
use pointsman_api_types::Code;

use crate::failure::Failure;

/// `Pm-Request-Id`.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("pm-request-id");
/// `Pm-Timeout-Ms`.
pub(crate) const TIMEOUT_MS: HeaderName = HeaderName::from_static("pm-timeout-ms");
/// `Idempotency-Key`.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `Last-Event-ID`.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// `traceparent`.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Headers of a publish that describe one raw message, in lower case and as the contract writes them.
pub(crate) const MESSAGE_HEADERS: &[(&str, &str)] = &[
    ("pm-tag", "Pm-Tag"),
    ("pm-key", "Pm-Key"),
    ("pm-ordering-key", "Pm-Ordering-Key"),
    ("pm-queue", "Pm-Queue"),
    ("pm-delay-ms", "Pm-Delay-Ms"),
    ("pm-delay-level", "Pm-Delay-Level"),
    ("pm-deliver-at", "Pm-Deliver-At"),
    ("pm-ttl-ms", "Pm-Ttl-Ms"),
    ("pm-priority", "Pm-Priority"),
];
/// What the name of a property header starts with.
pub(crate) const PROPERTY_PREFIX: &str = "pm-prop-";

/// Headers that may come several times.
const REPEATABLE: &[&str] = &["pm-key"];
/// Single-valued headers that are not `Pm-` ones.
const SINGLE: &[&str] = &[
    "content-type",
    "content-encoding",
    "authorization",
    "host",
    "origin",
    "idempotency-key",
    "last-event-id",
    "traceparent",
];

/// The name as the contract writes it.
pub(crate) fn title_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = true;
    for c in name.chars() {
        out.push(if upper { c.to_ascii_uppercase() } else { c });
        upper = c == '-';
    }
    out
}

/// Refuses unknown `Pm-` headers and single-valued ones given twice.
pub(crate) fn check(headers: &HeaderMap, describes_message: bool) -> Result<(), Failure> {
    for name in headers.keys() {
        let text = name.as_str();
        if !text.starts_with("pm-") {
            continue;
        }
        let known = name == REQUEST_ID
            || name == TIMEOUT_MS
            || (describes_message
                && (text.starts_with(PROPERTY_PREFIX) || MESSAGE_HEADERS.iter().any(|(known, _)| *known == text)));
        if !known {
            return Err(Failure::invalid(title_case(text), "unknown header"));
        }
        if !REPEATABLE.contains(&text) && headers.get_all(name).iter().nth(1).is_some() {
            return Err(Failure::invalid(title_case(text), "given twice"));
        }
    }
    for name in SINGLE {
        if headers.get_all(*name).iter().nth(1).is_some() {
            return Err(Failure::invalid(title_case(name), "given twice"));
        }
    }
    Ok(())
}

/// A header's value as UTF-8 text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    headers.get(name).map(|value| utf8(value, name.as_str())).transpose()
}

/// A value as UTF-8 text.
pub(crate) fn utf8<'a>(value: &'a http::HeaderValue, name: &str) -> Result<&'a str, Failure> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| Failure::invalid(title_case(name), "not UTF-8"))
}

/// The media type without its parameters, in lower case; `None` without a `Content-Type`.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    Ok(text(headers, &header::CONTENT_TYPE)?.map(essence))
}

/// A media type without its parameters, in lower case.
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The first of `offered` that the client accepts. No `Accept` accepts all.
pub(crate) fn accept<'a>(headers: &HeaderMap, offered: &[&'a str]) -> Result<&'a str, Failure> {
    let mut wanted: Vec<(String, f32)> = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        for item in utf8(value, "accept")?.split(',').filter(|item| !item.trim().is_empty()) {
            let quality = item
                .split(';')
                .skip(1)
                .filter_map(|p| p.trim().strip_prefix("q=").or_else(|| p.trim().strip_prefix("Q=")))
                .find_map(|q| q.trim().parse().ok())
                .unwrap_or(1.0);
            wanted.push((essence(item), quality));
        }
    }
    if wanted.is_empty() {
        return offered.first().copied().ok_or_else(|| not_acceptable(offered));
    }
    // The most specific range that fits a type tells its quality (RFC 9110, 12.5.1).
    let quality_of = |kind: &str| {
        let family = kind.split('/').next().unwrap_or_default();
        [kind.to_owned(), format!("{family}/*"), "*/*".to_owned()]
            .iter()
            .find_map(|range| wanted.iter().find(|(w, _)| w == range).map(|(_, q)| *q))
            .unwrap_or(0.0)
    };
    let mut best: Option<(&str, f32)> = None;
    for kind in offered {
        let quality = quality_of(kind);
        if quality > best.map_or(0.0, |(_, q)| q) {
            best = Some((kind, quality));
        }
    }
    best.map(|(kind, _)| kind).ok_or_else(|| not_acceptable(offered))
}

fn not_acceptable(offered: &[&str]) -> Failure {
    Failure::at(Code::NotAcceptable, "Accept", format!("the answer is {}", offered.join(" or ")))
}

/// True if the client asked for `return=minimal` (RFC 7240).
pub(crate) fn prefers_minimal(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case("return=minimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &str, offered: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().expect("header"));
        accept(&headers, offered).ok()
    }

    #[test]
    fn accept_picks_by_quality_and_then_by_our_order() {
        let offered = &["application/json", "application/x-ndjson"];
        assert_eq!(accept(&HeaderMap::new(), offered).ok(), Some("application/json"));
        assert_eq!(accepts("*/*", offered), Some("application/json"));
        assert_eq!(accepts("application/x-ndjson, */*;q=0.1", offered), Some("application/x-ndjson"));
        assert_eq!(accepts("application/*;q=0.5, application/json;q=0", offered), Some("application/x-ndjson"));
        assert_eq!(accepts("text/html", offered), None);
        assert_eq!(accepts("APPLICATION/JSON; charset=utf-8", offered), Some("application/json"));
    }

    fn check_headers(pairs: &[(&'static str, &str)], describes_message: bool, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().expect("value"));
        }
        let found = check(&headers, describes_message).err().map(|f| f.problem().errors[0].pointer.clone());
        assert_eq!(found.as_deref(), expected, "{pairs:?}");
    }

    #[test]
    fn unknown_and_repeated_headers() {
        check_headers(&[("pm-tag", "a"), ("pm-key", "1"), ("pm-key", "2"), ("pm-prop-x", "y")], true, None);
        check_headers(&[("pm-tag", "a")], false, Some("Pm-Tag"));
        check_headers(&[("pm-nope", "a")], true, Some("Pm-Nope"));
        check_headers(&[("pm-tag", "a"), ("pm-tag", "a")], true, Some("Pm-Tag"));
        check_headers(&[("pm-timeout-ms", "1"), ("pm-timeout-ms", "1")], false, Some("Pm-Timeout-Ms"));
        check_headers(&[("content-type", "a/b"), ("content-type", "a/b")], false, Some("Content-Type"));
        check_headers(&[("x-other", "1"), ("x-other", "2")], false, None);
    }
}
