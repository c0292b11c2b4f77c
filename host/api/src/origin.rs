//! No web page may reach a developer's broker: a foreign `Origin` or `Host` is refused while there are no tokens.
//!
//! A page of another site can make a browser send requests to loopback (with its `Origin`), and DNS rebinding can make
//! its own name point there (with its `Host`). Loopback names and addresses, any port, are ours.

use std::net::{IpAddr, Ipv4Addr};

use http::Uri;
use http::header::{self, HeaderMap};
use pointsman_api_types::Code;

use crate::failure::Failure;

/// Refuses a foreign `Host` (or `:authority`) and a foreign `Origin`.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let host = headers.get(header::HOST).map(|value| value.to_str().unwrap_or_default());
    for authority in [host, uri.authority().map(http::uri::Authority::as_str)].into_iter().flatten() {
        if !is_loopback(authority) {
            return Err(Failure::at(Code::Forbidden, "Host", "only loopback names reach this node without a token"));
        }
    }
    for origin in headers.get_all(header::ORIGIN) {
        let authority = origin.to_str().unwrap_or_default().split_once("://").map(|(_, authority)| authority);
        if !authority.is_some_and(is_loopback) {
            return Err(Failure::at(Code::Forbidden, "Origin", "pages of other origins may not call without a token"));
        }
    }
    Ok(())
}

/// `localhost`, 127/8 or `[::1]`, with any port or none.
fn is_loopback(authority: &str) -> bool {
    if authority.contains('@') {
        return false;
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => match port.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    if authority.starts_with('[') {
        return host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    }
    host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_or_foreign() {
        for ours in ["localhost", "LOCALHOST:7070", "127.0.0.1", "127.0.0.1:80", "127.1.2.3:1", "[::1]", "[::1]:7070"] {
            assert!(is_loopback(ours), "{ours}");
        }
        for foreign in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "10.0.0.1:7070",
            "0.0.0.0:7070",
            "[::]:7070",
            "[::1",
            "::1",
            "[::1]x",
            "localhost:x",
            "localhost:70700",
            "user@localhost",
            "127.1",
            "2130706433",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_null_origin_is_foreign() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, "null".parse().expect("value"));
        assert!(check(&Uri::from_static("/"), &headers).is_err());
        headers.insert(header::ORIGIN, "http://localhost:3000".parse().expect("value"));
        assert!(check(&Uri::from_static("/"), &headers).is_ok());
        assert!(check(&Uri::from_static("http://evil.example/"), &HeaderMap::new()).is_err(), ":authority of h2");
    }
}
