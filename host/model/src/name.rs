//! Names that clients choose: `^[A-Za-z][A-Za-z0-9._-]{0,126}$`, case-sensitive.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// A well-formed name of a tenant, topic, group, plugin or binding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not `^[A-Za-z][A-Za-z0-9._-]{0,126}$`.
    #[error("a name is a letter followed by at most 126 letters, digits, dots, dashes or underscores")]
    Malformed,
    /// Well-formed, but kept for the broker itself.
    #[error("names that start with `pm.`, `pm-` or `pointsman`, and `builtin`, are reserved")]
    Reserved,
}

impl Name {
    /// Checks a name that is only looked up.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if is_well_formed(text) { Ok(Self(text.into())) } else { Err(Error::Malformed) }
    }

    /// Checks a name that is about to be created.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Reserved`].
    pub fn parse_new(text: &str) -> Result<Self, Error> {
        let name = Self::parse(text)?;
        if name.is_reserved() { Err(Error::Reserved) } else { Ok(name) }
    }

    /// Wraps a name the broker itself makes (`default`, `pm.…`, `group:topic`).
    #[must_use]
    pub fn internal(text: &str) -> Self {
        Self(text.into())
    }

    /// True for names that clients may not create.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("pm.")
            || self.0.starts_with("pm-")
            || self.0.starts_with("pointsman")
            || &*self.0 == "builtin"
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// True if the text matches the pattern of names.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= limits::NAME_BYTES_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_one_below_at_and_above() {
        for (length, ok) in [(126, true), (127, true), (128, false)] {
            assert_eq!(Name::parse(&"a".repeat(length)).is_ok(), ok, "{length}");
        }
    }

    #[test]
    fn shape() {
        for good in ["a", "Z9", "a.b_c-d", "default"] {
            assert!(Name::parse_new(good).is_ok(), "{good}");
        }
        for bad in ["", "9a", ".a", "a b", "a/b", "ä", "a:b", "a\n"] {
            assert_eq!(Name::parse(bad), Err(Error::Malformed), "{bad:?}");
        }
        for reserved in ["pm.x", "pm-x", "pointsman", "pointsmanly", "builtin"] {
            assert_eq!(Name::parse_new(reserved), Err(Error::Reserved), "{reserved}");
            assert!(Name::parse(reserved).is_ok());
        }
    }
}
