//! The base URL of a server, and percent-encoding for what goes behind it.

use std::fmt::Write as _;

use crate::Error;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    /// `host:port`, to connect to.
    pub(crate) address: String,
    /// The `Host` header.
    pub(crate) authority: String,
}

impl BaseUrl {
    /// Reads `http://host[:port][/]`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Error::InvalidUrl { url: text.to_owned(), reason: reason.to_owned() };
        let uri: http::Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("https is not supported yet")),
            _ => return Err(bad("it must start with http://")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("it must not have a path"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it must not hold credentials"));
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { address: format!("{}:{port}", authority.host()), authority: authority.as_str().to_owned() })
    }
}

/// True if the URL names this machine by a loopback address or as `localhost`.
#[must_use]
pub fn is_loopback_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3): good in a path segment and in a query.
#[must_use]
pub fn encode_component(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a `String` does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parsed = |text| BaseUrl::parse(text).map(|url| (url.address, url.authority)).ok();
        let both = |address: &str, authority: &str| Some((address.to_owned(), authority.to_owned()));
        assert_eq!(parsed("http://127.0.0.1:7070"), both("127.0.0.1:7070", "127.0.0.1:7070"));
        assert_eq!(parsed("http://localhost/"), both("localhost:80", "localhost"));
        assert_eq!(parsed("http://[::1]:9"), both("[::1]:9", "[::1]:9"));
        for bad in ["", "localhost:7070", "https://a", "http://", "http://a/b", "http://u:p@a", "http://a?b"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn loopback() {
        for yes in ["http://127.0.0.1:7070", "http://localhost", "http://[::1]:1"] {
            assert!(is_loopback_url(yes), "{yes}");
        }
        for no in ["http://10.0.0.1", "http://example.com", "nonsense url"] {
            assert!(!is_loopback_url(no), "{no}");
        }
    }

    #[test]
    fn encoding() {
        assert_eq!(encode_component("a||b c/ü~"), "a%7C%7Cb%20c%2F%C3%BC~");
    }
}
