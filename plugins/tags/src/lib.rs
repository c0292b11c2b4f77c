//! The built-in filter `tags`: passes messages whose tag is one of a list.
//!
//! Config: `{"expression": "paid || refunded"}`. Operands stand between `||`, blanks around them do not count,
//! an empty one is refused. `*` passes every message, with a tag or without; an untagged message passes `*` only.

use pointsman_plugin::{Filter, Message, OneOf, Plan, export_filter};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    expression: String,
}

struct Tags {
    /// Empty: everything passes.
    wanted: OneOf,
}

/// The operands of an expression; empty for "all".
fn parse(expression: &str) -> Result<Vec<&str>, String> {
    let mut operands = Vec::new();
    let mut position = 0;
    for operand in expression.split("||") {
        let tag = operand.trim();
        if tag.is_empty() {
            return Err(format!("an empty tag at position {position}"));
        }
        if tag.contains('|') {
            return Err(format!("a single `|` in the tag at position {position}"));
        }
        operands.push(tag);
        position += operand.len() + 2;
    }
    if operands.contains(&"*") {
        operands.clear();
    }
    Ok(operands)
}

impl Filter for Tags {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config: Config = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        Ok(Self { wanted: OneOf::new(parse(&config.expression)?) })
    }

    fn plan(&self) -> Plan {
        if self.wanted.is_empty() {
            return Plan::new();
        }
        Plan::new().tag().only_tags(self.wanted.iter())
    }

    fn accept(&self, message: &Message<'_>) -> bool {
        self.wanted.is_empty() || message.tag().is_some_and(|tag| self.wanted.contains(tag))
    }
}

export_filter!(Tags);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::testing::{Sample, accepts};

    fn tags(expression: &str) -> Result<Tags, String> {
        Tags::new(format!("{{\"expression\":{expression:?}}}").as_bytes())
    }

    fn check(expression: &str, tag: Option<&str>, expected: bool) {
        let sample = tag.map_or(Sample::new(), |tag| Sample::new().tag(tag));
        assert_eq!(accepts(&tags(expression).expect("valid"), &sample), Ok(expected), "{expression} {tag:?}");
    }

    #[test]
    fn passes_what_is_named() {
        check("paid || refunded", Some("paid"), true);
        check("paid||refunded", Some("refunded"), true);
        check(" paid ", Some("paid"), true);
        check("paid", Some("pai"), false);
        check("paid", Some("paid2"), false);
        check("paid", Some("paie"), false);
        check("a-long-tag-1", Some("a-long-tag-1"), true);
        check("a-long-tag-1", Some("a-long-tag-2"), false);
        check("two words", Some("two words"), true);
        check("paid", None, false);
        check("*", None, true);
        check("paid || *", Some("other"), true);
    }

    #[test]
    fn refuses_an_empty_operand_and_says_where() {
        for (expression, position) in [("", 0), ("a ||", 4), ("|| a", 0), ("a || || b", 4)] {
            let error = tags(expression).err().expect("refused");
            assert_eq!(error, format!("an empty tag at position {position}"), "{expression:?}");
        }
        assert!(tags("a | b").is_err());
        assert!(Tags::new(br#"{"expresion":"a"}"#).is_err());
    }
}
