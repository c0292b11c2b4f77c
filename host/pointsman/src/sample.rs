//! Messages to try a plugin on, and the columns it sees of them.

mod record;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pointsman_api_types::decode;
use pointsman_api_types::publish::MessageInput;
use pointsman_model::ids::QueueId;
use pointsman_model::judge::{Column, Context, Field, Plan, QueueStat, Target};
use pointsman_model::{hash, limits};

pub(crate) use record::{check_words, half, key_words, question, retry_words};

/// The time that samples were born, stored and judged at.
const NOW_MS: u64 = 1_800_000_000_000;
/// Topic of the samples.
const TOPIC: &str = "orders";

/// A message to try a plugin on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) tag: Option<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) ordering_key: Option<String>,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) priority: u8,
    pub(crate) body: Vec<u8>,
}

/// Messages of several kinds, for a start.
pub(crate) fn built_in() -> Vec<Sample> {
    let order = |tag: &str, key: &str, amount: &str| Sample {
        tag: Some(tag.to_owned()),
        keys: vec![key.to_owned()],
        ordering_key: None,
        properties: vec![("amount".to_owned(), amount.to_owned())],
        priority: 0,
        body: format!(r#"{{"customer":"{key}","amount":{amount}}}"#).into_bytes(),
    };
    vec![
        order("paid", "ada", "250"),
        order("paid", "grace", "25"),
        order("refunded", "ada", "250"),
        Sample { priority: 9, ordering_key: Some("ada".to_owned()), ..order("paid", "ada", "100") },
        Sample { body: b"no tag, no key, no property".to_vec(), ..Sample::default() },
        Sample { tag: Some("paid".to_owned()), ..Sample::default() },
    ]
}

/// Reads a JSON array of message objects, or one object a line.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Sample>, String> {
    let array = text.trim_ascii().starts_with(b"[");
    let samples: Vec<Sample> = if array {
        let inputs: Vec<MessageInput<'_>> = decode(text, limits::JSON_DEPTH_MAX).map_err(|error| error.to_string())?;
        inputs.iter().map(Sample::from_input).collect::<Result<_, _>>()?
    } else {
        let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let read = |(index, line): (usize, &[u8])| {
            decode(line, limits::JSON_DEPTH_MAX)
                .map_err(|error| error.to_string())
                .and_then(|input| Sample::from_input(&input))
                .map_err(|error| format!("line {}: {error}", index + 1))
        };
        lines.map(read).collect::<Result<_, _>>()?
    };
    if samples.is_empty() { Err("it holds no messages".to_owned()) } else { Ok(samples) }
}

impl Sample {
    fn from_input(input: &MessageInput<'_>) -> Result<Self, String> {
        let body = match (&input.data, &input.data_base64) {
            (Some(data), None) => payload(data.get(), input.content_type.as_deref())?,
            (None, Some(base64)) => {
                BASE64.decode(base64.0.as_bytes()).map_err(|error| format!("data_base64: {error}"))?
            }
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => return Err("data and data_base64 exclude each other".to_owned()),
        };
        Ok(Self {
            tag: input.tag.clone(),
            keys: input.keys.clone().unwrap_or_default(),
            ordering_key: input.ordering_key.clone(),
            properties: input.properties.clone().unwrap_or_default().0,
            priority: input.priority.unwrap_or_default(),
            body,
        })
    }

    fn value(&self, field: &Field) -> Option<Cow<'_, [u8]>> {
        let text = |text: &'_ Option<String>| text.clone().map(|text| Cow::Owned(text.into_bytes()));
        let number = |number: u64| Some(Cow::Owned(number.to_le_bytes().to_vec()));
        match field {
            Field::Topic => Some(Cow::Borrowed(TOPIC.as_bytes())),
            Field::Tag => text(&self.tag),
            Field::Keys => {
                let mut packed = Vec::new();
                for key in &self.keys {
                    packed.extend_from_slice(&(key.len() as u16).to_le_bytes());
                    packed.extend_from_slice(key.as_bytes());
                }
                Some(Cow::Owned(packed))
            }
            Field::OrderingKey => text(&self.ordering_key),
            Field::Property(name) => {
                let found = self.properties.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
            }
            Field::Body => Some(Cow::Borrowed(&self.body)),
            Field::BodyHash => Some(Cow::Owned(hash::fingerprint(&self.body).to_le_bytes().to_vec())),
            Field::BornAt | Field::StoredAt | Field::Now => number(NOW_MS),
            Field::Seed => number(hash::hash(&self.body)),
            Field::Priority => number(u64::from(self.priority)),
        }
    }

    /// The message in a few words.
    pub(crate) fn describe(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.tag.iter().map(|tag| format!("tag={tag}")));
        words.extend(self.keys.iter().map(|key| format!("key={key}")));
        words.extend(self.ordering_key.iter().map(|key| format!("ordering_key={key}")));
        words.extend(self.properties.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend((self.priority > 0).then(|| format!("priority={}", self.priority)));
        words.push(format!("{} bytes", self.body.len()));
        crate::output::printable(&words.join(" "), 100)
    }
}

/// The payload that `data` stands for: a string is its bytes, unless it is sent as JSON.
fn payload(data: &str, content_type: Option<&str>) -> Result<Vec<u8>, String> {
    let json = content_type.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
    });
    if data.starts_with('"') && !json {
        let text: String = serde_json::from_str(data).map_err(|error| format!("data: {error}"))?;
        return Ok(text.into_bytes());
    }
    Ok(data.as_bytes().to_vec())
}

/// What a plugin sees of these messages in one call.
pub(crate) fn columns(samples: &[Sample], plan: &Plan) -> Vec<Column> {
    let column = |field| {
        let mut column = Column::default();
        for sample in samples {
            column.push(sample.value(field).as_deref());
        }
        column
    };
    plan.fields.iter().map(column).collect()
}

/// What a selector is told of a topic whose queues are empty.
pub(crate) fn context(queues: u16) -> Context {
    let queues = (0..queues).map(|queue| QueueStat { queue: QueueId(queue), messages: 0 }).collect();
    Context { attempt_limit: 1 + limits::RETRIES_DEFAULT, queues }
}

/// Where a selector sends a message, in words.
pub(crate) fn targets(plan: &Plan, targets: &[Target]) -> String {
    if targets.is_empty() {
        return "nowhere: the publish would be refused".to_owned();
    }
    let target = |target: &Target| {
        let topic = match target.destination {
            0 => String::new(),
            other => format!("{}:", plan.destinations.get(usize::from(other) - 1).map_or("?", String::as_str)),
        };
        match target.queue {
            Some(queue) => format!("{topic}queue {queue}"),
            None => format!("{topic}by the ordering key's slot"),
        }
    };
    targets.iter().map(target).collect::<Vec<_>>().join(" and ")
}

/// A field's name in WIT.
pub(crate) fn field_name(field: &Field) -> String {
    match field {
        Field::Topic => "topic".to_owned(),
        Field::Tag => "tag".to_owned(),
        Field::Keys => "keys".to_owned(),
        Field::OrderingKey => "ordering-key".to_owned(),
        Field::Property(name) => format!("property({name})"),
        Field::Body => "body".to_owned(),
        Field::BodyHash => "body-hash".to_owned(),
        Field::BornAt => "born-at".to_owned(),
        Field::StoredAt => "stored-at".to_owned(),
        Field::Now => "now".to_owned(),
        Field::Seed => "seed".to_owned(),
        Field::Priority => "priority".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_and_lines_are_the_same_messages() {
        let one = r#"{"data":"a","tag":"paid","keys":["k"],"properties":{"x":"1"},"priority":3}"#;
        let two = r#"{"data":{"a": 1.0},"ordering_key":"o"}"#;
        let array = parse(format!(" [{one},{two}]").as_bytes()).expect("an array");
        let lines = parse(format!("{one}\n\n{two}\n").as_bytes()).expect("lines");
        assert_eq!(array, lines);
        assert_eq!(array[0].body, b"a");
        assert_eq!(array[1].body, br#"{"a": 1.0}"#);
        assert_eq!(array[0].describe(), "tag=paid key=k x=1 priority=3 1 bytes");
    }

    #[test]
    fn what_is_no_message_is_named() {
        let refused = |text: &str| parse(text.as_bytes()).expect_err("refused");
        assert!(refused("{}\n{\"tga\":1}").starts_with("line 2: /tga"), "{}", refused("{}\n{\"tga\":1}"));
        assert_eq!(refused(""), "it holds no messages");
        assert_eq!(refused("[]"), "it holds no messages");
    }

    #[test]
    fn data_is_what_the_contract_says() {
        let check = |data: &str, kind: Option<&str>, expected: &[u8]| {
            assert_eq!(payload(data, kind).expect("fine"), expected, "{data} {kind:?}");
        };
        check(r#""a\n""#, None, b"a\n");
        check(r#""a""#, Some("text/plain"), b"a");
        check(r#""a""#, Some("application/json"), br#""a""#);
        check(r#""a""#, Some("application/vnd.x+json; charset=utf-8"), br#""a""#);
        check("null", None, b"null");
    }

    #[test]
    fn columns_are_the_contracts() {
        let sample = &built_in()[3];
        let fields = [Field::Keys, Field::Tag, Field::Property("none".into()), Field::Priority, Field::BodyHash];
        let plan = Plan { fields: fields.to_vec(), ..Plan::default() };
        let columns = columns(std::slice::from_ref(sample), &plan);
        let values: Vec<_> = columns.iter().map(|column| column.get(0)).collect();
        let body_hash = hash::fingerprint(&sample.body).to_le_bytes();
        let priority = 9_u64.to_le_bytes();
        assert_eq!(values, [Some(&b"\x03\0ada"[..]), Some(b"paid"), None, Some(&priority[..]), Some(&body_hash[..])]);
    }

    #[test]
    fn targets_in_words() {
        let plan = Plan { destinations: vec!["audit".into()], ..Plan::default() };
        let to = |destination, queue: Option<u16>| Target { destination, queue: queue.map(QueueId) };
        assert_eq!(targets(&plan, &[to(0, Some(2)), to(1, None)]), "queue 2 and audit:by the ordering key's slot");
        assert_eq!(targets(&plan, &[]), "nowhere: the publish would be refused");
    }
}
