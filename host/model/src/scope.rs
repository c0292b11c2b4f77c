//! Scopes: what a token may do. `API.md`, Tenants, tokens, quotas.
//!
//! `publish:<glob>`, `consume:<glob>`, `admin:<glob>`, `admin:tokens`, `plugin:write`, `operator`. A glob is made of the
//! characters of names and of `*`, which stands for any run of them, also for none.

use std::fmt;

use crate::limits;

/// A pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(Box<str>);

/// One thing that a token may do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Publish, transactions, schedules, by topic.
    Publish(Glob),
    /// Leases and dead letters by group; streams and messages by topic.
    Consume(Glob),
    /// Configuration, seek, purge, pause, by the name of the topic, group or binding.
    Admin(Glob),
    /// Tokens of the tenant.
    AdminTokens,
    /// Plugin versions.
    PluginWrite,
    /// Everything, in all tenants, and the cluster.
    Operator,
}

/// Why a text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is `publish:`, `consume:` or `admin:` with a pattern of names, `admin:tokens`, `plugin:write` or `operator`"
)]
pub struct NotAScope;

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is empty, too long, or holds a character that no name has.
    pub fn parse(text: &str) -> Result<Self, NotAScope> {
        let fine = (1..=limits::NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*'));
        if fine { Ok(Self(text.into())) } else { Err(NotAScope) }
    }

    /// True if the pattern fits this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }

    /// True if every name that `other` fits, this fits. May say no where several patterns together would say yes.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // A star of the other is a character that only a star fits.
        self.matches(&other.0)
    }
}

/// Greedy, with one place to come back to: linear in practice, quadratic at worst.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match back {
                Some((star, taken)) => {
                    back = Some((star, taken + 1));
                    (p, n) = (star + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl Scope {
    /// Reads a scope.
    ///
    /// # Errors
    /// [`NotAScope`].
    pub fn parse(text: &str) -> Result<Self, NotAScope> {
        match text {
            "operator" => return Ok(Self::Operator),
            "plugin:write" => return Ok(Self::PluginWrite),
            "admin:tokens" => return Ok(Self::AdminTokens),
            _ => {}
        }
        match text.split_once(':') {
            Some(("publish", glob)) => Ok(Self::Publish(Glob::parse(glob)?)),
            Some(("consume", glob)) => Ok(Self::Consume(Glob::parse(glob)?)),
            Some(("admin", glob)) => Ok(Self::Admin(Glob::parse(glob)?)),
            _ => Err(NotAScope),
        }
    }

    /// True if who holds this may give `other` away.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Operator, _) => true,
            (Self::Publish(held), Self::Publish(wanted))
            | (Self::Consume(held), Self::Consume(wanted))
            | (Self::Admin(held), Self::Admin(wanted)) => held.covers(wanted),
            (Self::Admin(held), Self::AdminTokens) => held.matches("tokens"),
            _ => self == other,
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(glob) => write!(f, "publish:{glob}"),
            Self::Consume(glob) => write!(f, "consume:{glob}"),
            Self::Admin(glob) => write!(f, "admin:{glob}"),
            Self::AdminTokens => f.write_str("admin:tokens"),
            Self::PluginWrite => f.write_str("plugin:write"),
            Self::Operator => f.write_str("operator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        assert_eq!(Glob::parse(pattern).expect(pattern).matches(name), expected, "{pattern} on {name}");
    }

    #[test]
    fn globs() {
        for (pattern, name, fits) in [
            ("*", "orders", true),
            ("*", "", true),
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("orders", "order", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders", false),
            ("*.eu", "orders.eu", true),
            ("*.eu", "orders.eu.eu", true),
            ("*.eu", "orders.us", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**", "x", true),
            ("Orders", "orders", false),
        ] {
            check(pattern, name, fits);
        }
        for bad in ["", "a b", "a/b", "a?", "é", &"x".repeat(128)] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
        check(&"x".repeat(127), &"x".repeat(127), true);
    }

    #[test]
    fn scopes_are_written_as_they_are_read() {
        for text in ["publish:*", "consume:a.*", "admin:orders", "admin:tokens", "plugin:write", "operator"] {
            assert_eq!(Scope::parse(text).expect(text).to_string(), text);
        }
        for bad in ["", "publish", "publish:", "write:*", "plugin:read", "Operator", "admin: *", "operator:*"] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_held_covers_what_is_given() {
        let covers = |held: &str, wanted: &str| {
            let (held, wanted) = (Scope::parse(held).expect(held), Scope::parse(wanted).expect(wanted));
            held.covers(&wanted)
        };
        for (held, wanted, expected) in [
            ("operator", "operator", true),
            ("operator", "publish:*", true),
            ("publish:*", "publish:*", true),
            ("publish:*", "publish:orders.*", true),
            ("publish:orders.*", "publish:orders.eu", true),
            ("publish:orders.*", "publish:*", false),
            ("publish:*.eu", "publish:orders.*", false),
            ("publish:a*", "publish:a*b*", true),
            ("publish:a*b", "publish:a*", false),
            ("publish:*", "consume:*", false),
            ("admin:*", "admin:tokens", true),
            ("admin:orders", "admin:tokens", false),
            ("admin:tokens", "admin:tokens", true),
            ("admin:tokens", "admin:*", false),
            ("admin:*", "operator", false),
            ("admin:*", "plugin:write", false),
            ("plugin:write", "plugin:write", true),
        ] {
            assert_eq!(covers(held, wanted), expected, "{held} covers {wanted}");
        }
    }
}
