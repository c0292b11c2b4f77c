//! Query parameters: known names only, each once unless it may repeat.

use std::str::FromStr;

use percent_encoding::percent_decode;
use pointsman_api_types::number::Decimal;

use crate::failure::Failure;

/// The parameters of a request, in the order given.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`; `+` is a blank.
    pub(crate) fn parse(raw: &str, known: &[&str], repeatable: &[&str]) -> Result<Self, Failure> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, "")?;
            let value = decode(value, &name)?;
            if !known.contains(&name.as_str()) {
                return Err(Failure::invalid(name, "unknown query parameter"));
            }
            if !repeatable.contains(&name.as_str()) && pairs.iter().any(|(n, _)| *n == name) {
                return Err(Failure::invalid(name, "given twice"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// `true` or `false`; false if absent.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Failure::invalid(name, "`true` or `false`")),
        }
    }

    /// A whole number in this range.
    pub(crate) fn number(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Failure> {
        self.get(name).map(|text| number_in(text, &range).map_err(|detail| Failure::invalid(name, detail))).transpose()
    }
}

/// A whole number without sign or leading zeros, in this range.
pub(crate) fn number_in(text: &str, range: &std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    Decimal::from_str(text)
        .ok()
        .map(|n| n.0)
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

fn decode(text: &str, pointer: &str) -> Result<String, Failure> {
    let blanks = text.replace('+', " ");
    percent_decode(blanks.as_bytes())
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| Failure::invalid(pointer, "a query parameter is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expected: Result<&[(&str, &str)], &str>) {
        let parsed = Query::parse(raw, &["a", "b", "topic"], &["topic"]);
        match (parsed, expected) {
            (Ok(query), Ok(pairs)) => {
                let found: Vec<_> = query.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                assert_eq!(found, pairs, "{raw}");
            }
            (Err(failure), Err(pointer)) => assert_eq!(failure.problem().errors[0].pointer, pointer, "{raw}"),
            (found, _) => panic!("{raw}: {found:?}"),
        }
    }

    #[test]
    fn parameters() {
        check("", Ok(&[]));
        check("a=1&b=x+y%2Bz", Ok(&[("a", "1"), ("b", "x y+z")]));
        check("topic=a&topic=b", Ok(&[("topic", "a"), ("topic", "b")]));
        check("a=1&a=2", Err("a"));
        check("c=1", Err("c"));
        check("a=%ff", Err("a"));
    }

    #[test]
    fn numbers() {
        for (text, ok) in
            [("1", true), ("1000", true), ("0", false), ("1001", false), ("-1", false), ("01", false), ("", false)]
        {
            let query = Query::parse(&format!("a={text}"), &["a"], &[]).expect("parses");
            assert_eq!(query.number("a", 1..=1000).is_ok(), ok, "{text}");
        }
    }
}
