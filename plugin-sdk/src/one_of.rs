//! A set of texts to look a text up in, fast in wasm32.

use crate::compare::eq_fast;

/// A set of texts, for filters that ask "is the tag one of these?".
///
/// A text is told from another by its length, its first eight and its last eight bytes; only texts of more than
/// sixteen bytes are ever compared in full. For the dozens of texts a config holds this beats hashing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOf {
    /// The bits of all outlines: a text whose bit is not among them is none of these, which is quickly said.
    bits: u64,
    /// What tells the texts apart, in the order of `texts`.
    outlines: Vec<Outline>,
    texts: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outline {
    length: usize,
    first: u64,
    last: u64,
}

/// The longest text that an outline describes in full.
const OUTLINED_BYTES: usize = 16;

impl Outline {
    fn of(text: &[u8]) -> Self {
        let (first, last) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
                (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
                _ => (text.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)), 0),
            },
        };
        Self { length: text.len(), first, last }
    }
}

impl Outline {
    /// One of 64 bits, spread by the golden ratio.
    fn bit(self) -> u64 {
        let mixed = (self.first ^ self.last.rotate_left(32) ^ self.length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        1 << (mixed >> 58)
    }
}

impl OneOf {
    /// The set of these texts.
    #[must_use]
    pub fn new<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        let outlines: Vec<_> = texts.iter().map(|text| Outline::of(text.as_bytes())).collect();
        Self { bits: outlines.iter().fold(0, |bits, outline| bits | outline.bit()), outlines, texts }
    }

    /// Whether `text` is one of them.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let outline = Outline::of(text.as_bytes());
        if self.bits & outline.bit() == 0 {
            return false;
        }
        if text.len() <= OUTLINED_BYTES {
            return self.outlines.contains(&outline);
        }
        let mut places = self.outlines.iter().zip(&self.texts);
        places.any(|(known, full)| *known == outline && eq_fast(full.as_bytes(), text.as_bytes()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The texts, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }
}

impl<T: Into<String>> FromIterator<T> for OneOf {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        Self::new(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_and_its_neighbours_are_not() {
        for length in 0..40_usize {
            let text = "abcdefghij".repeat(4)[..length].to_owned();
            let set = OneOf::new(["other", text.as_str()]);
            assert!(set.contains(&text), "{length}");
            assert!(!set.contains(&format!("{text}x")), "{length} and one more");
            for at in 0..length {
                let mut changed = text.clone().into_bytes();
                changed[at] = b'!';
                let changed = String::from_utf8(changed).expect("ASCII");
                assert!(!set.contains(&changed), "length {length}, byte {at}");
            }
        }
        assert!(!OneOf::default().contains(""));
    }

    #[test]
    fn zeros_count() {
        let set = OneOf::new(["a", "\0a\0", "abcd\0"]);
        for other in ["\0a", "a\0", "", "abcd", "\0abcd", "abcd\0\0"] {
            assert!(!set.contains(other), "{other:?}");
        }
    }
}
