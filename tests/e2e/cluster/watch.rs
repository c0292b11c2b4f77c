//! Stream readers: each reads everything, from one node after the other, and misses nothing.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::ledger::{Ledger, Wrong};
use super::load::Stop;
use crate::http::Connection;
use crate::server::T;

/// A stream ends by itself after that, and is resumed at the next node.
const STREAM_MS: u64 = 4_000;
/// Longer than a stream; a reader of a stopped node goes on elsewhere then.
const SILENCE: Duration = Duration::from_secs(6);

/// A reader and how far it has come.
struct Reader<'a> {
    ledger: &'a Ledger,
    topic: &'static str,
    name: String,
    cursor: Option<String>,
    next: HashMap<(usize, u64), u64>,
}

/// Reads a topic until it is told to stop.
pub(crate) fn run(nodes: &[String], ledger: &Ledger, stop: &Stop, topic: &'static str, start: usize) {
    let mut reader =
        Reader { ledger, topic, name: format!("stream reader {start} of {topic}"), cursor: None, next: HashMap::new() };
    for at in start.. {
        if !stop.reading() {
            return;
        }
        // However it ended: the next node resumes it.
        let _ = reader.read(&nodes[at % nodes.len()]);
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Reader<'_> {
    fn read(&mut self, node: &str) -> std::io::Result<()> {
        let mut connection = Connection::open_within(node, SILENCE)?;
        let path = format!("{T}/topics/{}/stream?from=earliest&max_ms={STREAM_MS}", self.topic);
        let cursor = self.cursor.clone();
        let mut headers = vec![("Accept", "application/x-ndjson")];
        headers.extend(cursor.as_deref().map(|cursor| ("Last-Event-ID", cursor)));
        connection.send("GET", &path, &headers, b"")?;
        let (status, _) = connection.head()?;
        if status != 200 {
            assert!(matches!(status, 429 | 503 | 504), "{} at {node}: {status}", self.name);
            return Ok(());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = connection.chunk()? {
            bytes.extend_from_slice(&chunk);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                if line.len() > 1 {
                    self.event(&serde_json::from_slice(&line).expect("a line of JSON"), node);
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Value, node: &str) {
        match event["event"].as_str() {
            Some("message") => {
                let (name, (topic, queue, offset)) =
                    self.ledger.sight(&event["data"], &format!("{} at {node}", self.name));
                self.ledger.state().streamed += 1;
                let next = self.next.entry((topic, queue)).or_insert(0);
                if offset != *next {
                    let words = format!("{} at {node}: {name} at {topic} {queue} {offset}, next was {next}", self.name);
                    self.ledger.wrong(Wrong::Different, words);
                }
                *next = offset + 1;
                self.cursor = event["id"].as_str().map(str::to_owned);
                assert!(self.cursor.is_some(), "a message moves the cursor: {event}");
            }
            Some("gap") => self.ledger.wrong(Wrong::Lost, format!("{} at {node}: {event}", self.name)),
            _ => {}
        }
    }
}
