//! From the bytes of a JSON body to a value, or a refusal that names the place.

use serde::Deserialize;

use crate::object::ObjectOnly;
use crate::problem::Code;
use crate::scan::{self, FaultKind};

/// Most characters of a serde message that are shown; it may quote input.
const DETAIL_CHARS_MAX: usize = 500;

/// Why a JSON body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
#[non_exhaustive]
pub struct Error {
    /// `invalid-request` or `too-deep`.
    pub code: Code,
    /// JSON pointer.
    pub pointer: String,
    /// What is wrong, with the byte.
    pub detail: String,
}

/// Scans and decodes a whole body.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8], depth_max: usize) -> Result<T, Error> {
    let text = scan::scan(body, depth_max).map_err(|fault| {
        let (code, detail) = match fault.kind {
            FaultKind::Utf8 => (Code::InvalidRequest, "not UTF-8".to_owned()),
            FaultKind::TooDeep => (Code::TooDeep, format!("more than {depth_max} open arrays and objects")),
            FaultKind::DuplicateKey => (Code::InvalidRequest, "the key is there twice".to_owned()),
        };
        Error {
            code,
            pointer: scan::pointer_at(body, fault.offset + 1),
            detail: format!("{detail} (byte {})", fault.offset),
        }
    })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(ObjectOnly(&mut reader)).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| explain(body, &error))
}

fn explain(body: &[u8], error: &serde_json::Error) -> Error {
    let mut offset = offset_of(body, error.line(), error.column());
    if matches!(body.get(offset), Some(b'[' | b'{')) && error.is_data() {
        // serde_json looked at this bracket without taking it.
        offset += 1;
    }
    let mut pointer = scan::pointer_at(body, offset);
    let full = error.to_string();
    let words = full.rsplit_once(" at line ").map_or(full.as_str(), |(words, _)| words);
    if let Some((field, _)) = words.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        scan::push_segment(&mut pointer, field);
    }
    let words: String = words.chars().take(DETAIL_CHARS_MAX).collect();
    Error { code: Code::InvalidRequest, pointer, detail: format!("{words} (byte {offset})") }
}

/// serde_json counts lines by `\n` and columns in bytes, from 1, as "bytes consumed".
fn offset_of(body: &[u8], line: usize, column: usize) -> usize {
    let line_start = match line {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', body).nth(line - 2).map_or(body.len(), |at| at + 1),
    };
    (line_start + column).min(body.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the refusals are looked at")]
    struct Inner {
        name: String,
        #[serde(default, deserialize_with = "number::optional")]
        count: Option<u16>,
        total: Option<crate::Decimal>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(deserialize_with = "crate::object::list")]
        items: Vec<Inner>,
    }

    fn check(body: &str, pointer: &str, words: &str) {
        let error = decode::<Outer>(body.as_bytes(), 64).expect_err(body);
        assert_eq!(error.pointer, pointer, "{body}: {error}");
        assert!(error.detail.contains(words), "{body}: {error}");
    }

    #[test]
    fn the_pointer_names_the_place() {
        check(r#"{"items":[{"name":"a"},{"name":7}]}"#, "/items/1/name", "invalid type");
        check(r#"{"items":[{"name":"a","nope":1}]}"#, "/items/0/nope", "unknown field");
        check(r#"{"items":[{"count":1}]}"#, "/items/0/name", "missing field");
        check("{\n\"items\":[\n{\"name\":\"a\",\"count\":-1}]}", "/items/0/count", "whole number");
        check(r#"{"items":[{"name":"a","count":1.5}]}"#, "/items/0/count", "whole number");
        check(r#"{"items":[{"name":"a","count":65536}]}"#, "/items/0/count", "whole number");
        check(r#"{"items":[{"name":"a","count":"1"}]}"#, "/items/0/count", "whole number");
        check(r#"{"items":[{"name":"a","total":"042"}]}"#, "/items/0/total", "decimal");
        check(r#"{"items":[{"name":"a","total":42}]}"#, "/items/0/total", "decimal");
        check(r#"{"items":{}}"#, "/items", "invalid type");
        check(r#"{"items":[]} x"#, "", "trailing");
        check(r#"{"items":[}"#, "/items", "expected value");
        check("", "", "EOF");
        check("[]", "", "invalid type: sequence");
        check(r#"[[{"name":"a"}]]"#, "", "invalid type: sequence");
        check(r#"{"items":[["a",1,"2"]]}"#, "/items/0", "invalid type: sequence");
    }

    #[test]
    fn whole_numbers_may_be_written_as_floats() {
        let outer: Outer =
            decode(br#"{"items":[{"name":"a","count":17.0,"total":"18446744073709551615"}]}"#, 64).expect("ok");
        assert_eq!(outer.items[0].count, Some(17));
        assert_eq!(outer.items[0].total, Some(crate::Decimal(u64::MAX)));
        let outer: Outer = decode(br#"{"items":[{"name":"a","count":1e2,"total":null}]}"#, 64).expect("ok");
        assert_eq!((outer.items[0].count, outer.items[0].total), (Some(100), None));
    }
}
