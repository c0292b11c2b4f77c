//! A topic's or group's stream that goes on where a connection broke.

use std::time::Duration;

use http::StatusCode;

use crate::calls::StreamOptions;
use crate::sse::{Event, Parser};
use crate::{Client, Error, Request, Streamed, encode_component};

/// Wait before coming back where the server says nothing.
const RETRY_MS_DEFAULT: u64 = 1_000;
/// The server sends a comment every 15 s; a silence of three of them is a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// A topic's stream, or a group's. [`TopicStream::next`] gives its events, in log order, and comes back by itself after a broken
/// connection, an `error` or a `drain`; it gives up where the server refuses.
#[derive(Debug)]
pub struct TopicStream {
    client: Client,
    path: String,
    options: StreamOptions,
    last_id: Option<String>,
    parser: Parser,
    body: Option<Streamed>,
    /// The server ended the stream for a passing reason: an end is no end.
    interrupted: bool,
    failures: u32,
}

impl TopicStream {
    pub(crate) fn new(client: Client, path: String, options: StreamOptions) -> Self {
        Self {
            client,
            path,
            options,
            last_id: None,
            parser: Parser::new(),
            body: None,
            interrupted: false,
            failures: 0,
        }
    }

    /// Goes on after the message that had this id.
    #[must_use]
    pub fn resume_after(mut self, id: &str) -> Self {
        self.last_id = Some(id.to_owned());
        self
    }

    /// The id of the last message that was given.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event; `None` once the stream has reached the bound it was given.
    ///
    /// # Errors
    /// What the server refuses for good, and [`Error::Connect`] or [`Error::Broken`] after five failures in a row.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.parser.next_event() {
                self.take(&event);
                return Ok(Some(event));
            }
            if self.options.max_events == Some(0) {
                return Ok(None);
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) if !self.interrupted => return Ok(None),
                Ok(false) => self.come_back(None).await?,
                Err(error) => self.come_back(Some(error)).await?,
            }
        }
    }

    /// Reads a piece of the body, opening the stream if need be; false at its end.
    async fn read(&mut self) -> Result<bool, Error> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let opened = self.client.open(self.request()).await?;
                if opened.status != StatusCode::OK {
                    return Err(match opened.collect().await?.ok() {
                        Ok(other) => {
                            Error::Unexpected { status: other.status.as_u16(), detail: "no stream".to_owned() }
                        }
                        Err(refused) => refused,
                    });
                }
                self.parser = Parser::new();
                self.interrupted = false;
                self.body.insert(opened)
            }
        };
        let silence = |_| Error::Timeout { timeout_ms: SILENCE_MAX.as_millis() as u64 };
        let Some(piece) = tokio::time::timeout(SILENCE_MAX, body.chunk()).await.map_err(silence)?? else {
            return Ok(false);
        };
        self.parser.push(&piece);
        Ok(true)
    }

    async fn come_back(&mut self, error: Option<Error>) -> Result<(), Error> {
        const FAILURES_MAX: u32 = 5;
        if let Some(error) = error {
            // Where nothing was ever given, the caller learns at once that nobody is there.
            let never_open = self.body.is_none() && self.failures == 0 && self.last_id.is_none();
            self.failures += 1;
            if !error.is_passing() || never_open || self.failures >= FAILURES_MAX {
                return Err(error);
            }
        }
        self.body = None;
        tokio::time::sleep(Duration::from_millis(self.parser.retry_ms().unwrap_or(RETRY_MS_DEFAULT))).await;
        Ok(())
    }

    fn take(&mut self, event: &Event) {
        self.failures = 0;
        if let Some(id) = &event.id {
            self.last_id = Some(id.clone());
        }
        match event.event.as_str() {
            "message" => {
                if let Some(left) = &mut self.options.max_events {
                    *left = left.saturating_sub(1);
                }
            }
            "error" | "drain" => self.interrupted = true,
            _ => {}
        }
    }

    fn request(&self) -> Request {
        let options = &self.options;
        let pairs = [
            ("from", options.from.clone()),
            ("tags", options.tags.clone()),
            ("max_events", options.max_events.map(|events| events.to_string())),
            ("max_ms", options.max_ms.map(|ms| ms.to_string())),
            ("until", options.until_tail.then(|| "tail".to_owned())),
            ("client_id", options.client_id.clone()),
            ("max_inflight", options.max_inflight.map(|leases| leases.to_string())),
            ("lease_ms", options.lease_ms.map(|ms| ms.to_string())),
        ];
        let mut path = self.path.clone();
        let mut mark = '?';
        for (name, value) in pairs {
            if let Some(value) = value {
                path.push_str(&format!("{mark}{name}={}", encode_component(&value)));
                mark = '&';
            }
        }
        Request::get(path).accept("text/event-stream").header_if("last-event-id", self.last_id.as_deref())
    }
}

#[cfg(test)]
mod tests;
