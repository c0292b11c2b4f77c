//! ETags and preconditions (RFC 9110, 13). The tag is the object's revision; the comparison travels to `apply`.

use http::header::{self, HeaderMap, HeaderValue};
use pointsman_broker::view::Precondition;

use crate::failure::Failure;
use crate::headers::utf8;

/// The tag of a revision. Strong.
pub(crate) fn etag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"r{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// What a write demands.
pub(crate) fn precondition(headers: &HeaderMap) -> Result<Precondition, Failure> {
    let absent = match tags(headers, &header::IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::List(_)) => return Err(Failure::invalid("If-None-Match", "a write takes `*` only")),
    };
    match (absent, tags(headers, &header::IF_MATCH)?) {
        (true, Some(_)) => Err(Failure::invalid("If-Match", "contradicts If-None-Match")),
        (true, None) => Ok(Precondition::Absent),
        (false, None) => Ok(Precondition::Anything),
        (false, Some(Tags::Any)) => Ok(Precondition::Present),
        // A tag that is none of ours matches nothing.
        (false, Some(Tags::List(list))) => Ok(Precondition::Revision(list.into_iter().flatten().collect())),
    }
}

/// True if a read of this revision is to be answered 304.
pub(crate) fn not_modified(headers: &HeaderMap, revision: u64) -> Result<bool, Failure> {
    Ok(match tags(headers, &header::IF_NONE_MATCH)? {
        None => false,
        Some(Tags::Any) => true,
        Some(Tags::List(list)) => list.contains(&Some(revision)),
    })
}

/// True if an object of this revision meets a write's demand.
pub(crate) fn holds(precondition: &Precondition, revision: u64) -> bool {
    match precondition {
        Precondition::Anything | Precondition::Present => true,
        Precondition::Absent => false,
        Precondition::Revision(list) => list.contains(&revision),
    }
}

enum Tags {
    Any,
    /// The revisions; `None` for a tag that is none of ours.
    List(Vec<Option<u64>>),
}

/// Weak tags are kept only for `If-None-Match`, which compares weakly.
fn tags(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<Tags>, Failure> {
    let weak_too = name == header::IF_NONE_MATCH;
    let mut list = Vec::new();
    let mut seen = false;
    for value in headers.get_all(name) {
        let text = utf8(value, name.as_str())?;
        if text.trim() == "*" {
            return Ok(Some(Tags::Any));
        }
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            seen = true;
            let (weak, strong) = tag.strip_prefix("W/").map_or((false, tag), |strong| (true, strong));
            let Some(inner) = strong.strip_prefix('"').and_then(|s| s.strip_suffix('"')) else {
                return Err(Failure::invalid(
                    crate::headers::title_case(name.as_str()),
                    "entity tags in double quotes, or `*`",
                ));
            };
            let revision = inner.strip_prefix('r').and_then(|digits| digits.parse().ok());
            list.push(revision.filter(|_| !weak || weak_too));
        }
    }
    Ok(seen.then_some(Tags::List(list)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(header::HeaderName, &str)], expected: Result<Precondition, &str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().expect("value"));
        }
        let found = precondition(&headers).map_err(|f| f.problem().errors[0].pointer.clone());
        assert_eq!(found, expected.map_err(str::to_owned), "{pairs:?}");
    }

    #[test]
    fn preconditions() {
        check(&[], Ok(Precondition::Anything));
        check(&[(header::IF_MATCH, "*")], Ok(Precondition::Present));
        check(&[(header::IF_NONE_MATCH, "*")], Ok(Precondition::Absent));
        check(&[(header::IF_MATCH, "\"r7\", \"r8\"")], Ok(Precondition::Revision(vec![7, 8])));
        check(&[(header::IF_MATCH, "\"r7\""), (header::IF_MATCH, "\"x\"")], Ok(Precondition::Revision(vec![7])));
        check(&[(header::IF_MATCH, "W/\"r7\"")], Ok(Precondition::Revision(vec![])));
        check(&[(header::IF_MATCH, "r7")], Err("If-Match"));
        check(&[(header::IF_NONE_MATCH, "\"r7\"")], Err("If-None-Match"));
        check(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")], Err("If-Match"));
    }

    #[test]
    fn reads() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, "\"r1\", W/\"r2\"".parse().expect("value"));
        for (revision, expected) in [(1, true), (2, true), (3, false)] {
            assert_eq!(not_modified(&headers, revision).ok(), Some(expected), "{revision}");
        }
    }
}
