//! The events of a demonstration: an NDJSON file, gzip or not, or made up.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use pointsman_model::limits;

/// Events made up where no file is given.
pub(crate) const GENERATED_EVENTS: usize = 2_000;
/// Most events taken from a file.
const EVENTS_MAX: usize = 1_000_000;
/// Longest line of a file.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// What is published for one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// What kind of event it is.
    pub(crate) tag: Option<String>,
    /// The first is what routes it.
    pub(crate) keys: Vec<String>,
    /// What must stay in order.
    pub(crate) ordering_key: Option<String>,
    /// Name and value.
    pub(crate) properties: Vec<(String, String)>,
    /// JSON text.
    pub(crate) body: String,
}

impl Event {
    /// The message's meta in a frame: the message object without its data.
    pub(crate) fn meta(&self) -> Vec<u8> {
        let mut meta = serde_json::json!({ "content_type": "application/json", "keys": self.keys });
        if let Some(tag) = &self.tag {
            meta["tag"] = tag.as_str().into();
        }
        if let Some(key) = &self.ordering_key {
            meta["ordering_key"] = key.as_str().into();
        }
        if !self.properties.is_empty() {
            let pairs = self.properties.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
            meta["properties"] = Value::Object(pairs.collect());
        }
        meta.to_string().into_bytes()
    }
}

/// Why a file gives no events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: line {line}: {reason}", path.display())]
    Line { path: PathBuf, line: usize, reason: String },
    #[error("{} holds no events", .0.display())]
    Empty(PathBuf),
    #[error("{} holds more than {EVENTS_MAX} events", .0.display())]
    TooMany(PathBuf),
}

/// Reads a file of one JSON object a line; gzip is told by its first bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<Event>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let gzip = file.fill_buf().map_err(failed)?.starts_with(&[0x1F, 0x8B]);
    let mut reader: Box<dyn BufRead> =
        if gzip { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };

    let mut events = Vec::new();
    let mut text = String::new();
    for line in 1.. {
        text.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut text).map_err(failed)?;
        if read == 0 {
            break;
        }
        let object = text.trim();
        if object.is_empty() {
            continue;
        }
        if events.len() == EVENTS_MAX {
            return Err(Error::TooMany(path.to_owned()));
        }
        events.push(event(object).map_err(|reason| Error::Line { path: path.to_owned(), line, reason })?);
    }
    if events.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(events) }
}

/// The mapping: `event` (else `type`, else `kind`) is the tag, `repository` (else `key`, else `id`) the first key,
/// `repository#number` the second and the ordering key, `action` a property, `payload` (else the object) the body.
fn event(line: &str) -> Result<Event, String> {
    #[derive(serde::Deserialize)]
    struct Payload<'a> {
        #[serde(borrow)]
        payload: Option<&'a RawValue>,
    }
    let object: Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let first = |names: &[&str]| names.iter().find_map(|name| object.get(*name).and_then(scalar));
    let body = serde_json::from_str::<Payload<'_>>(line).ok().and_then(|line| line.payload);

    let subject = first(&["repository", "key", "id"]).map(|text| cut(&text, limits::KEY_BYTES_MAX - 32));
    let numbered = match (&subject, first(&["number"])) {
        (Some(subject), Some(number)) => Some(cut(&format!("{subject}#{number}"), limits::ORDERING_KEY_BYTES_MAX)),
        _ => None,
    };
    let tag = first(&["event", "type", "kind"]).map(|tag| cut(tag.replace('|', "/").trim(), limits::TAG_BYTES_MAX));
    let properties = first(&["action"]).map(|action| ("action".to_owned(), cut(&action, limits::TAG_BYTES_MAX)));
    Ok(Event {
        tag: tag.filter(|tag| !tag.is_empty() && tag != "*"),
        ordering_key: numbered.clone().or_else(|| subject.clone()),
        keys: subject.into_iter().chain(numbered).collect(),
        properties: properties.into_iter().collect(),
        body: body.map_or(line, RawValue::get).to_owned(),
    })
}

/// Text of a string or a number that is fit for a tag or a key.
fn scalar(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}

fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Events of a made-up forge: 12 repositories, six kinds of event, the same in every run.
pub(crate) fn generate(count: usize) -> Vec<Event> {
    const OWNERS: [&str; 3] = ["ada", "grace", "edsger"];
    const NAMES: [&str; 4] = ["engine", "compiler", "signals", "points"];
    const KINDS: [(&str, &str); 6] = [
        ("push", ""),
        ("issues", "opened"),
        ("issues", "closed"),
        ("pull_request", "opened"),
        ("pull_request", "closed"),
        ("release", "published"),
    ];
    // Numerical Recipes' generator: enough to mix, and nothing to depend on.
    let mut state = 42_u32;
    let mut pick = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % n
    };
    (0..count)
        .map(|i| {
            let repository = format!("{}/{}", OWNERS[pick(OWNERS.len())], NAMES[pick(NAMES.len())]);
            let (kind, action) = KINDS[pick(KINDS.len())];
            let numbered = format!("{repository}#{}", 1 + pick(40));
            let body = serde_json::json!({"sequence": i, "repository": repository, "event": kind, "action": action});
            Event {
                tag: Some(kind.to_owned()),
                keys: vec![repository, numbered.clone()],
                ordering_key: Some(numbered),
                properties: if action.is_empty() { vec![] } else { vec![("action".to_owned(), action.to_owned())] },
                body: body.to_string(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_webhook_delivery() {
        let line = r#"{"event":"issues","action":"opened","repository":"a/b","number":7,"payload":{"x": 1.0}}"#;
        let expected = Event {
            tag: Some("issues".into()),
            keys: vec!["a/b".into(), "a/b#7".into()],
            ordering_key: Some("a/b#7".into()),
            properties: vec![("action".into(), "opened".into())],
            body: r#"{"x": 1.0}"#.into(),
        };
        assert_eq!(event(line), Ok(expected));
    }

    #[test]
    fn any_object_will_do() {
        let event = event(r#"{"type":" a|b ","id":5,"action":["no","scalar"]}"#).expect("an object");
        assert_eq!(event.tag.as_deref(), Some("a/b"));
        assert_eq!(event.keys, ["5"]);
        assert_eq!(event.ordering_key.as_deref(), Some("5"));
        assert!(event.properties.is_empty());
        assert_eq!(event.body, r#"{"type":" a|b ","id":5,"action":["no","scalar"]}"#);
        let bare = super::event("{}").expect("an object");
        assert_eq!(bare, Event { body: "{}".into(), ..Event::default() });
        for bad in ["[]", "1", "{", "null"] {
            assert!(super::event(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_to_the_limits() {
        let long = "ü".repeat(400);
        let event = event(&format!(r#"{{"event":"{long}","repository":"{long}","number":1}}"#)).expect("an object");
        assert!(event.tag.expect("a tag").len() <= limits::TAG_BYTES_MAX);
        assert!(event.keys.iter().all(|key| key.len() <= limits::KEY_BYTES_MAX));
        assert!(event.ordering_key.expect("a key").ends_with("#1"));
    }

    #[test]
    fn gzip_is_told_by_its_bytes_and_blank_lines_are_skipped() {
        let directory = tempfile::tempdir().expect("a directory");
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "{\"id\":1}\n\n{\"id\":2}").expect("written");
        let packed = directory.path().join("packed");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"{\"id\":1}\n\n{\"id\":2}").expect("packed");
        std::fs::write(&packed, encoder.finish().expect("packed")).expect("written");
        let events = read(&plain).expect("two events");
        assert_eq!(events.len(), 2);
        assert_eq!(read(&packed).expect("two events"), events);
    }

    #[test]
    fn a_bad_line_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("bad");
        std::fs::write(&path, "{}\n\nnonsense\n").expect("written");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains("bad: line 3: "), "{error}");
        std::fs::write(&path, "\n").expect("written");
        assert!(matches!(read(&path), Err(Error::Empty(_))));
    }

    #[test]
    fn made_up_events_are_the_same_in_every_run_and_spread() {
        let events = generate(500);
        assert_eq!(events, generate(500));
        let mut repositories: Vec<_> = events.iter().map(|event| event.keys[0].clone()).collect();
        repositories.sort();
        repositories.dedup();
        assert_eq!(repositories.len(), 12);
    }
}
