//! How the events of a stream are written: server-sent events, or NDJSON lines.

use pointsman_api_types::Decimal;
use pointsman_api_types::stream::{Drain, Gap, Open};
use pointsman_broker::view::{Lease, StreamEvent};

use crate::failure::Failure;
use crate::json;
use crate::message_json::{self, Breaks, Data, message};

/// Bounds of the jittered `retry:`, ms.
const RETRY_MS: std::ops::Range<u64> = 1_000..5_000;

/// How events are written.
pub(super) struct Writer {
    pub(super) ndjson: bool,
    pub(super) request_id: String,
}

impl Writer {
    /// Tells an `EventSource` how long to wait, with jitter so that a crowd does not come back at once.
    pub(super) fn retry(&self, out: &mut Vec<u8>) {
        if !self.ndjson {
            json::raw(out, "retry: ");
            json::number(out, rand::random_range(RETRY_MS));
            json::raw(out, "\n\n");
        }
    }

    pub(super) fn heartbeat(&self, out: &mut Vec<u8>) {
        json::raw(out, if self.ndjson { "\n" } else { ":\n\n" });
    }

    pub(super) fn event(&self, out: &mut Vec<u8>, event: StreamEvent) -> Result<(), Failure> {
        match event {
            StreamEvent::Open { topics, resumed } => self.value(out, "open", &Open { topics, resumed }),
            StreamEvent::Message { message: stored, cursor } => {
                let (start, breaks) = (out.len(), self.breaks());
                self.start(out, "message", Some(&cursor));
                if let Err(failure) = message(out, &stored, Data::Included(breaks)) {
                    out.truncate(start);
                    return Err(failure);
                }
                self.end(out);
                Ok(())
            }
            StreamEvent::CaughtUp => {
                self.start(out, "caught-up", None);
                json::raw(out, "{}");
                self.end(out);
                Ok(())
            }
            StreamEvent::Gap { topic, queue, from, to, cause } => {
                let gap = Gap {
                    topic,
                    queue: queue.0,
                    from: Decimal(from),
                    to: Decimal(to),
                    lost: Decimal(to.saturating_sub(from)),
                    cause: cause.to_owned(),
                };
                self.value(out, "gap", &gap)
            }
            StreamEvent::Failed(error) => {
                self.failed(out, error.into());
                Ok(())
            }
            StreamEvent::Drain => self.value(out, "drain", &Drain { reason: "the node is shutting down".to_owned() }),
        }
    }

    /// A lease: it has no id, for nothing resumes after it.
    pub(super) fn lease(&self, out: &mut Vec<u8>, lease: &Lease) -> Result<(), Failure> {
        let (start, breaks) = (out.len(), self.breaks());
        self.start(out, "message", None);
        if let Err(failure) = message_json::lease(out, lease, Data::Included(breaks)) {
            out.truncate(start);
            return Err(failure);
        }
        self.end(out);
        Ok(())
    }

    fn breaks(&self) -> Breaks {
        if self.ndjson { Breaks::Blank } else { Breaks::Sse }
    }

    /// A passing failure: the problem, when to come back, and the end.
    pub(super) fn failed(&self, out: &mut Vec<u8>, failure: Failure) {
        let mut problem = failure.into_problem();
        problem.request_id = Some(self.request_id.clone());
        self.retry(out);
        // A problem always encodes; without one the stream just ends.
        let _ = self.value(out, "error", &problem);
    }

    fn value<T: serde::Serialize>(&self, out: &mut Vec<u8>, name: &str, value: &T) -> Result<(), Failure> {
        self.start(out, name, None);
        serde_json::to_writer(&mut *out, value).map_err(|error| crate::failure::internal(&error.to_string()))?;
        self.end(out);
        Ok(())
    }

    /// Names are ours and cursors are `[A-Za-z0-9._-]`: nothing here can break a line.
    pub(super) fn start(&self, out: &mut Vec<u8>, name: &str, cursor: Option<&str>) {
        if self.ndjson {
            json::raw(out, "{\"event\":");
            json::string(out, name);
            json::raw(out, ",\"id\":");
            json::optional_string(out, cursor);
            json::raw(out, ",\"data\":");
            return;
        }
        if let Some(cursor) = cursor {
            json::raw(out, "id: ");
            json::raw(out, cursor);
            json::raw(out, "\n");
        }
        json::raw(out, "event: ");
        json::raw(out, name);
        json::raw(out, "\ndata: ");
    }

    pub(super) fn end(&self, out: &mut Vec<u8>) {
        json::raw(out, if self.ndjson { "}\n" } else { "\n\n" });
    }
}
