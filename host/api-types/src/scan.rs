//! The walk over a JSON body before serde sees it.
//!
//! serde takes what the contract refuses: the last of two equal keys in a map, nesting without a limit inside a raw
//! value (notes in `docs/adr`). [`scan`] finds both in one pass without building anything but a stack of keys. It does
//! not check the grammar: serde does, and both agree on every text that is JSON.

use memchr::memchr2;

/// What [`scan`] found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Byte of the body.
    pub offset: usize,
}

/// The kinds of [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Not UTF-8.
    Utf8,
    /// More open arrays and objects than allowed.
    TooDeep,
    /// A key that its object already has.
    DuplicateKey,
}

/// A key of an object that is still open.
#[derive(Clone, Copy)]
struct Key {
    start: usize,
    end: usize,
    /// Length and last bytes: most keys differ here.
    sketch: u64,
    /// Where its text lies in [`Texts::unescaped`], if the raw text holds an escape.
    unescaped: Option<usize>,
}

/// Where the texts of keys lie.
struct Texts<'a> {
    body: &'a [u8],
    unescaped: Vec<Box<str>>,
}

impl Texts<'_> {
    fn of(&self, key: &Key) -> &[u8] {
        key.unescaped.map_or(&self.body[key.start..key.end], |at| self.unescaped[at].as_bytes())
    }
}

/// Equal for equal keys, different for most others.
fn sketch(key: &[u8]) -> u64 {
    let tail = key
        .last_chunk::<4>()
        .map_or_else(|| key.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)), |tail| u32::from_le_bytes(*tail));
    (key.len() as u64) << 32 | u64::from(tail)
}

/// One open array or object.
struct Open {
    object: bool,
    first_key: usize,
}

/// Objects with at most this many keys are compared pair by pair, larger ones are sorted.
const PAIRWISE_KEYS_MAX: usize = 32;

/// Strings up to here are walked byte by byte.
const SHORT_STRING_BYTES: usize = 16;

/// Checks UTF-8, depth (the body's own level is 1) and keys, and gives the body as text.
///
/// # Errors
/// The first fault; a duplicate key is found when its object ends.
pub fn scan(body: &[u8], depth_max: usize) -> Result<&str, Fault> {
    let text = std::str::from_utf8(body).map_err(|e| Fault { kind: FaultKind::Utf8, offset: e.valid_up_to() })?;
    let mut open: Vec<Open> = Vec::new();
    let mut keys: Vec<Key> = Vec::new();
    let mut texts = Texts { body, unescaped: Vec::new() };
    let mut key_next = false;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'"' => {
                let (end, escaped) = string_end(body, at + 1);
                if key_next && end < body.len() {
                    key_next = false;
                    let mut key = Key { start: at + 1, end, sketch: 0, unescaped: None };
                    if escaped {
                        key.unescaped = Some(texts.unescaped.len());
                        texts.unescaped.push(unescape(text, at, end));
                    }
                    key.sketch = sketch(texts.of(&key));
                    keys.push(key);
                }
                at = end;
            }
            b'{' | b'[' => {
                if open.len() == depth_max {
                    return Err(Fault { kind: FaultKind::TooDeep, offset: at });
                }
                key_next = byte == b'{';
                open.push(Open { object: key_next, first_key: keys.len() });
            }
            b'}' | b']' => {
                key_next = false;
                if let Some(closed) = open.pop() {
                    if let Some(offset) = duplicate(&texts, &mut keys[closed.first_key..]) {
                        return Err(Fault { kind: FaultKind::DuplicateKey, offset });
                    }
                    keys.truncate(closed.first_key);
                }
            }
            b',' => key_next = open.last().is_some_and(|o| o.object),
            _ => {}
        }
        at += 1;
    }
    Ok(text)
}

/// Where the string whose text starts at `from` ends (its closing quote, or the end of the body), and whether it holds
/// an escape.
fn string_end(body: &[u8], from: usize) -> (usize, bool) {
    // Keys are short: a plain loop beats starting a vector search.
    let near = body.len().min(from + SHORT_STRING_BYTES);
    let mut at = from;
    while at < near && !matches!(body[at], b'"' | b'\\') {
        at += 1;
    }
    if at < near && body[at] == b'"' {
        return (at, false);
    }
    let mut escaped = false;
    loop {
        match body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
            None => return (body.len(), escaped),
            Some(found) if body[at + found] == b'"' => return (at + found, escaped),
            Some(found) => {
                escaped = true;
                at += found + 2;
            }
        }
    }
}

/// The text of the string with quotes at `open` and `close`; as it stands if an escape is wrong, which serde tells.
fn unescape(text: &str, open: usize, close: usize) -> Box<str> {
    let quoted = text.get(open..=close).unwrap_or_default();
    serde_json::from_str::<Box<str>>(quoted).unwrap_or_else(|_| text.get(open + 1..close).unwrap_or_default().into())
}

/// Offset of the later of two equal keys.
fn duplicate(texts: &Texts<'_>, keys: &mut [Key]) -> Option<usize> {
    if keys.len() <= PAIRWISE_KEYS_MAX {
        return keys.iter().enumerate().skip(1).find_map(|(i, key)| {
            let equal = |other: &Key| other.sketch == key.sketch && texts.of(other) == texts.of(key);
            keys[..i].iter().any(equal).then_some(key.start - 1)
        });
    }
    keys.sort_unstable_by(|a, b| texts.of(a).cmp(texts.of(b)).then(a.start.cmp(&b.start)));
    keys.windows(2).filter(|pair| texts.of(&pair[0]) == texts.of(&pair[1])).map(|pair| pair[1].start - 1).min()
}

/// The JSON pointer of what was being read when `offset` bytes were consumed: a key, a value, or the container that
/// ended last. For the error path; takes tokens that start before `offset`.
#[must_use]
pub fn pointer_at(body: &[u8], offset: usize) -> String {
    let mut path: Vec<Step> = Vec::new();
    let mut advance = false;
    let mut at = 0;
    while at < offset.min(body.len()) {
        let byte = body[at];
        match byte {
            b',' => advance = true,
            b':' | b' ' | b'\n' | b'\r' | b'\t' => {}
            b'}' | b']' => {
                path.pop();
                advance = false;
            }
            b'"' => {
                let (end, _) = string_end(body, at + 1);
                enter(&mut path, &mut advance, Some((at, end)));
                at = end;
            }
            b'{' | b'[' => {
                enter(&mut path, &mut advance, None);
                path.push(if byte == b'{' { Step::Key(None) } else { Step::Index(None) });
            }
            _ => {
                enter(&mut path, &mut advance, None);
                while body.get(at + 1).is_some_and(|b| !b",]}: \n\r\t\"".contains(b)) {
                    at += 1;
                }
            }
        }
        at += 1;
    }
    render(body, &path)
}

/// Where the walk stands in one open container.
enum Step {
    /// In an object, at the key with these quotes. The flag: its value is still to come.
    Key(Option<(usize, usize, bool)>),
    Index(Option<usize>),
}

/// A token that is a key or a value starts.
fn enter(path: &mut [Step], advance: &mut bool, string: Option<(usize, usize)>) {
    let advance = std::mem::take(advance);
    match path.last_mut() {
        Some(Step::Index(at)) => *at = Some(at.map_or(0, |n| n + usize::from(advance))),
        Some(Step::Key(key)) => match (key.as_mut(), string) {
            (Some((_, _, value_next)), _) if *value_next && !advance => *value_next = false,
            (_, Some((open, close))) => *key = Some((open, close, true)),
            _ => {}
        },
        None => {}
    }
}

fn render(body: &[u8], path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Index(Some(i)) => {
                out.push('/');
                out.push_str(&i.to_string());
            }
            Step::Key(Some((open, close, _))) => {
                let text = String::from_utf8_lossy(&body[..(close + 1).min(body.len())]);
                let key = if text.len() > *close && text.is_char_boundary(*open) {
                    unescape(&text, *open, *close)
                } else {
                    text.get(open + 1..).unwrap_or_default().into()
                };
                push_segment(&mut out, &key);
            }
            Step::Index(None) | Step::Key(None) => {}
        }
    }
    out
}

/// Appends one reference token, escaped as RFC 6901 wants it.
pub fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    for c in segment.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
