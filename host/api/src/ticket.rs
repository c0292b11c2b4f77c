//! `?ticket=` of a stream: taken out of the query before anyone else reads it.

use http::Uri;
use http::uri::PathAndQuery;

use crate::failure::Failure;

/// Templates of the routes that answer with a stream.
const STREAMS: &[&str] = &[
    "/v1/tenants/{tenant}/topics/{topic}/stream",
    "/v1/tenants/{tenant}/stream",
    "/v1/tenants/{tenant}/groups/{group}/stream",
    "/v1/tenants/{tenant}/producer-groups/{pg}/checks",
];

const PARAMETER: &str = "ticket=";

/// True if a ticket may open this route.
pub(crate) fn is_stream(route: &str) -> bool {
    STREAMS.iter().any(|stream| same(route, stream))
}

/// Equal but for the names of parameters.
fn same(route: &str, stream: &str) -> bool {
    let (mut a, mut b) = (route.split('/'), stream.split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || (a.starts_with('{') && b.starts_with('{')) => {}
            _ => return false,
        }
    }
}

/// The template of a stream's path, and the parameters in it.
pub(crate) fn stream_of(path: &str) -> Option<(&'static str, Vec<(&'static str, String)>)> {
    STREAMS.iter().find_map(|stream| {
        let mut parameters = Vec::new();
        let mut parts = path.split('/');
        for wanted in stream.split('/') {
            let part = parts.next()?;
            match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                // Names need no escaping, so what is escaped is none.
                Some(name) => parameters.push((name, part.to_owned())),
                None if part == wanted => {}
                None => return None,
            }
        }
        parts.next().is_none().then_some((*stream, parameters))
    })
}

/// Takes the ticket out of a URI.
pub(crate) fn take(uri: &mut Uri) -> Result<Option<String>, Failure> {
    let Some(query) = uri.query().filter(|query| query.contains(PARAMETER)) else {
        return Ok(None);
    };
    let mut ticket = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix(PARAMETER) {
            Some(text) if ticket.is_none() => ticket = Some(text.to_owned()),
            Some(_) => return Err(Failure::invalid("ticket", "given twice")),
            None => rest.push(pair),
        }
    }
    let text = if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), rest.join("&")) };
    let mut parts = uri.clone().into_parts();
    // Shorter than what was a URI, and of the same characters.
    parts.path_and_query = PathAndQuery::try_from(text).ok();
    if let Ok(shorter) = Uri::from_parts(parts) {
        *uri = shorter;
    }
    Ok(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, ticket: Option<&str>, rest: &str) {
        let mut uri: Uri = uri.parse().expect("a URI");
        let taken = take(&mut uri).expect("once");
        assert_eq!((taken.as_deref(), uri.to_string().as_str()), (ticket, rest));
    }

    #[test]
    fn a_ticket_leaves_no_trace() {
        check("/a/stream", None, "/a/stream");
        check("/a/stream?from=latest", None, "/a/stream?from=latest");
        check("/a/stream?ticket=x", Some("x"), "/a/stream");
        check("/a/stream?from=latest&ticket=x&tags=a", Some("x"), "/a/stream?from=latest&tags=a");
        check("http://h/a?ticket=x", Some("x"), "http://h/a");
        check("/a?myticket=x", None, "/a?myticket=x");
        assert!(take(&mut "/a?ticket=x&ticket=y".parse().expect("a URI")).is_err());
    }

    #[test]
    fn the_parameters_of_a_stream() {
        let (route, path) = stream_of("/v1/tenants/a/topics/b/stream").expect("a stream");
        assert_eq!((route, path.len(), path[1].1.as_str()), (STREAMS[0], 2, "b"));
        for none in ["", "/v1/tenants/a/topics/b/messages", "/v1/tenants/a/topics/b/stream/", "/v1/tenants/a/topics/b"]
        {
            assert!(stream_of(none).is_none(), "{none}");
        }
    }

    #[test]
    fn streams_are_known_whatever_their_parameters_are_called() {
        assert!(is_stream("/v1/tenants/{tenant}/topics/{t}/stream"));
        assert!(!is_stream("/v1/tenants/{tenant}/topics/{topic}/messages"));
    }
}
