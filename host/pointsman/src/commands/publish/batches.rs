//! Lines of a file, collected into batches within the limits of one call.

use bytes::Bytes;
use pointsman_client::push_frame;
use pointsman_model::limits;
use serde_json::{Map, Value};

use super::Args;
use crate::commands::Failure;

/// A batch is sent once it holds this much.
const BATCH_BYTES_TARGET: usize = 4 << 20;

/// Collects lines into batches within the limits of one call.
pub(super) struct Batches<'a> {
    meta: Vec<u8>,
    args: &'a Args,
    held: Vec<u8>,
    count: usize,
    line: usize,
}

impl<'a> Batches<'a> {
    pub(super) fn new(args: &'a Args) -> Self {
        let mut meta = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                meta.insert(name.to_owned(), value);
            }
        };
        let content_type = args.content_type.clone().unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
        put("content_type", content_type.into());
        put("tag", args.tag.clone().into());
        put("ordering_key", args.ordering_key.clone().into());
        put("queue", args.queue.into());
        put("delay_ms", args.when.delay_ms.into());
        put("delay_level", args.when.delay_level.into());
        put("deliver_at", args.when.deliver_at.map(|at| at.to_string()).into());
        put("ttl_ms", args.ttl_ms.into());
        put("priority", args.priority.into());
        if !args.key.is_empty() {
            put("keys", args.key.clone().into());
        }
        if !args.property.is_empty() {
            let pairs = args.property.iter().map(|(name, value)| (name.clone(), Value::from(value.clone())));
            put("properties", Value::Object(pairs.collect()));
        }
        let meta = Value::Object(meta).to_string().into_bytes();
        Self { meta, args, held: Vec::new(), count: 0, line: 0 }
    }

    /// Adds a line; gives the batch that is full with it.
    pub(super) fn push(&mut self, line: &[u8]) -> Result<Option<Bytes>, Failure> {
        self.line += 1;
        if self.args.ndjson {
            if line.trim_ascii().is_empty() {
                return Ok(None);
            }
            // The server sees the text as it is; but a line that is no object must not spoil the batch's own shape.
            serde_json::from_slice::<Map<String, Value>>(line)
                .map_err(|error| Failure::Refused(format!("line {}: no message object: {error}", self.line)))?;
            self.held.extend_from_slice(if self.count == 0 { b"{\"messages\":[" } else { b"," });
            self.held.extend_from_slice(line);
        } else {
            push_frame(&mut self.held, &self.meta, line);
        }
        self.count += 1;
        let full = self.count == limits::BATCH_MESSAGES_MAX || self.held.len() >= BATCH_BYTES_TARGET;
        Ok(if full { self.finish() } else { None })
    }

    /// The batch held so far.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        if self.count == 0 {
            return None;
        }
        if self.args.ndjson {
            self.held.extend_from_slice(b"]}");
        }
        self.count = 0;
        Some(Bytes::from(std::mem::take(&mut self.held)))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Whole::try_parse_from(std::iter::once("publish").chain(line.split(' '))).expect("good arguments").args
    }

    #[test]
    fn lines_become_frames_with_the_options_as_meta() {
        let args = args("orders --lines --tag paid --key a --property x=1 --content-type text/csv");
        let mut batches = Batches::new(&args);
        assert_eq!(batches.push(b"1,2").expect("fine"), None);
        let batch = batches.finish().expect("one line");
        let mut expected = Vec::new();
        let meta = br#"{"content_type":"text/csv","keys":["a"],"properties":{"x":"1"},"tag":"paid"}"#;
        push_frame(&mut expected, meta, b"1,2");
        assert_eq!(batch, expected);
        assert_eq!(batches.finish(), None);
    }

    #[test]
    fn objects_become_a_batch_and_a_full_one_is_given() {
        let args = args("orders --ndjson");
        let mut batches = Batches::new(&args);
        assert_eq!(batches.push(br#"{"data":"a"}"#).expect("fine"), None);
        assert_eq!(batches.push(b"  ").expect("blank"), None);
        assert_eq!(batches.push(br#"{"data":{"b": 1.0}}"#).expect("fine"), None);
        let batch = batches.finish().expect("two messages");
        assert_eq!(batch, &br#"{"messages":[{"data":"a"},{"data":{"b": 1.0}}]}"#[..]);
        for i in 1..limits::BATCH_MESSAGES_MAX {
            assert_eq!(batches.push(b"{}").expect("fine"), None, "{i}");
        }
        assert!(batches.push(b"{}").expect("fine").is_some());
        let error = batches.push(b"{}]},{").expect_err("no object");
        assert!(error.to_string().starts_with("line 1004: no message object"), "{error}");
    }
}
