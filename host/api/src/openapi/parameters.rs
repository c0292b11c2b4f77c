//! One row a parameter of the query or a header.

use serde_json::{Value, json};

/// A parameter of the query or a header.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    place: &'static str,
    description: &'static str,
    schema: &'static str,
}

impl Parameter {
    /// The parameter object.
    pub(super) fn json(&self) -> Value {
        let schema: Value = serde_json::from_str(self.schema).unwrap_or_default();
        json!({"name": self.name, "in": self.place, "description": self.description, "schema": schema})
    }
}

/// Parameters that operations share.
pub(super) const PARAMETERS: &[Parameter] = &[
    parameter("limit", "query", "Items of a page.", r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#),
    parameter("cursor", "query", "`next_cursor` of the page before.", r#"{"type":"string"}"#),
    parameter("dry_run", "query", "Say what would be done, and do nothing.", r#"{"type":"boolean","default":false}"#),
    parameter(
        "validate_only",
        "query",
        "Inspect the component and store nothing.",
        r#"{"type":"boolean","default":false}"#,
    ),
    parameter("group", "query", "Name of a group.", r#"{"type":"string"}"#),
    parameter("time", "query", "An RFC 3339 time.", r#"{"type":"string","format":"date-time"}"#),
    parameter(
        "ack",
        "query",
        "What the answer waits for; the topic's durability if absent.",
        r#"{"type":"string","enum":["quorum","leader","none"]}"#,
    ),
    parameter("atomic", "query", "All or nothing.", r#"{"type":"boolean","default":false}"#),
    parameter("queue", "query", "A queue.", r#"{"type":"integer","minimum":0,"maximum":65535}"#),
    parameter("offset", "query", "First offset.", r#"{"type":"string","pattern":"^(0|[1-9][0-9]{0,19})$"}"#),
    parameter(
        "key",
        "query",
        "Messages that carry exactly this key, newest first.",
        r#"{"type":"string","maxLength":256}"#,
    ),
    parameter(
        "from",
        "query",
        "`latest`, `earliest`, an RFC 3339 time or a cursor.",
        r#"{"type":"string","default":"latest"}"#,
    ),
    parameter("last_event_id", "query", "A cursor to go on after; beats `from`.", r#"{"type":"string"}"#),
    parameter("tags", "query", "Tags, `a || b`.", r#"{"type":"string"}"#),
    parameter("filter", "query", "A group's filter as JSON.", r#"{"type":"string"}"#),
    parameter("queues", "query", "Only these queues, with commas between.", r#"{"type":"string"}"#),
    parameter("max_events", "query", "End after so many messages.", r#"{"type":"integer","minimum":1}"#),
    parameter("max_ms", "query", "End after so long.", r#"{"type":"integer","minimum":1}"#),
    parameter("until", "query", "End at the tail as it was at opening.", r#"{"type":"string","enum":["tail"]}"#),
    parameter(
        "client_id",
        "query",
        "Who listens; may come back within five seconds.",
        r#"{"type":"string","minLength":1,"maxLength":256}"#,
    ),
    parameter(
        "max_inflight",
        "query",
        "Unsettled leases of this stream at once.",
        r#"{"type":"integer","minimum":1,"maximum":1000,"default":32}"#,
    ),
    parameter(
        "lease_ms",
        "query",
        "Lease time; the group's if absent.",
        r#"{"type":"integer","minimum":1,"maximum":43200000}"#,
    ),
    parameter("Last-Event-ID", "header", "A cursor to go on after; beats all parameters.", r#"{"type":"string"}"#),
    parameter(
        "Idempotency-Key",
        "header",
        "Makes a repeat harmless.",
        r#"{"type":"string","minLength":1,"maxLength":256}"#,
    ),
    parameter("If-Match", "header", "Write only over these revisions.", r#"{"type":"string"}"#),
    parameter(
        "If-None-Match",
        "header",
        "On a write `*`: create only. On a read: 304 if unchanged.",
        r#"{"type":"string"}"#,
    ),
    parameter(
        "Prefer",
        "header",
        "`return=minimal` leaves out the results of accepted messages.",
        r#"{"type":"string"}"#,
    ),
    parameter(
        "Idempotency-Key",
        "header",
        "Stores a message once within the topic's window; message i of many gets `{key}/{i}` unless it has its own. Of a prepare: the transaction's name.",
        r#"{"type":"string","minLength":1,"maxLength":256,"pattern":"^[!-~]+$"}"#,
    ),
    parameter("traceparent", "header", "Stored with the message (W3C Trace Context).", r#"{"type":"string"}"#),
    parameter(
        "Pm-Timeout-Ms",
        "header",
        "Bounds the work.",
        r#"{"type":"integer","minimum":1,"maximum":60000,"default":10000}"#,
    ),
    parameter(
        "Pm-Request-Id",
        "header",
        "Your own id of the request.",
        r#"{"type":"string","minLength":1,"maxLength":64}"#,
    ),
    parameter(
        "state",
        "query",
        "Only those that this became of.",
        r#"{"type":"string","enum":["prepared","committed","rolled-back","expired"]}"#,
    ),
    parameter(
        "override",
        "query",
        "An operator's word, over the end of an expired transaction too.",
        r#"{"type":"boolean","default":false}"#,
    ),
    parameter(
        "Pm-Producer-Group",
        "header",
        "Who answers for the transaction.",
        r#"{"type":"string","default":"default"}"#,
    ),
    parameter(
        "Pm-Check-After-Ms",
        "header",
        "When the transaction is first asked about.",
        r#"{"type":"integer","minimum":1,"default":6000}"#,
    ),
    parameter("Pm-Tag", "header", "Tag of one raw message.", r#"{"type":"string","maxLength":128}"#),
    parameter("Pm-Key", "header", "A key of one raw message; may repeat.", r#"{"type":"string","maxLength":256}"#),
    parameter("Pm-Ordering-Key", "header", "Ordering key of one raw message.", r#"{"type":"string","maxLength":256}"#),
    parameter("Pm-Queue", "header", "Queue of one raw message.", r#"{"type":"integer","minimum":0}"#),
    parameter(
        "Pm-Delay-Ms",
        "header",
        "Deliver one raw message so much later; at most one of the three forms.",
        r#"{"type":"integer","minimum":0,"maximum":31536000000}"#,
    ),
    parameter(
        "Pm-Delay-Level",
        "header",
        "Deliver one raw message later, by level.",
        r#"{"type":"integer","minimum":1,"maximum":18}"#,
    ),
    parameter(
        "Pm-Deliver-At",
        "header",
        "Deliver one raw message at a time; in the past is at once.",
        r#"{"type":"string","format":"date-time"}"#,
    ),
    parameter("Pm-Ttl-Ms", "header", "TTL of one raw message; 0 is none.", r#"{"type":"integer","minimum":0}"#),
    parameter("Pm-Priority", "header", "Priority of one raw message.", r#"{"type":"integer","minimum":0,"maximum":9}"#),
];

const fn parameter(
    name: &'static str,
    place: &'static str,
    description: &'static str,
    schema: &'static str,
) -> Parameter {
    Parameter { name, place, description, schema }
}
