//! The hand-written object against the type of the contract.

use bytes::Bytes;
use pointsman_api_types::message::Message;
use pointsman_broker::command::PublishHead;
use pointsman_model::record::{Header, Record};
use pointsman_model::{LogIndex, MessageId, Name, Ordinal, QueueId, QueueOffset, ShardId, Term, Timestamp};

use super::*;

pub(crate) fn stored(head: &PublishHead<'_>, body: &[u8]) -> StoredMessage {
    let header = Header { queue: QueueId(2), priority: 7, born: Timestamp(1_000), ..Header::default() };
    StoredMessage {
        id: MessageId { shard: ShardId(1), term: Term(2), index: LogIndex(3), ordinal: Ordinal(4) },
        topic: Name::internal("orders"),
        offset: QueueOffset(u64::MAX),
        stored_at: Timestamp(2_000),
        record: Record {
            header,
            head: Bytes::from(postcard::to_allocvec(head).expect("encodes")),
            body: Bytes::copy_from_slice(body),
        },
    }
}

fn written(head: &PublishHead<'_>, body: &[u8], breaks: Breaks) -> String {
    let mut out = Vec::new();
    message(&mut out, &stored(head, body), Data::Included(breaks)).expect("a head that decodes");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn it_is_the_object_of_the_contract() {
    let head = PublishHead {
        content_type: Some("text/plain; charset=utf-8"),
        tag: Some("a\"b"),
        keys: vec!["k1", "k2"],
        ordering_key: Some("o\u{e9}"),
        properties: vec![("a", "1"), ("b", "2\\")],
        ttl_ms: 500,
        trace: Some("00-0-0-00"),
        ..PublishHead::default()
    };
    for (head, body) in [(head, &b"line\n\"two\""[..]), (PublishHead::default(), b"\x00\xff")] {
        let text = written(&head, body, Breaks::Keep);
        let typed: Message = serde_json::from_str(&text).expect("the contract's type");
        assert_eq!(serde_json::to_string(&typed).expect("encodes"), text, "same fields in the same order");
    }
}

#[test]
fn a_message_that_waits_has_neither_queue_nor_offset() {
    let StoredMessage { id, topic, record, .. } = stored(&PublishHead { ttl_ms: 5, ..PublishHead::default() }, b"x");
    let mut out = Vec::new();
    let waiting = ScheduledMessage { id, topic, deliver_at: Timestamp(3_000), record };
    scheduled(&mut out, &waiting).expect("a head that decodes");
    let typed: Message = serde_json::from_slice(&out).expect("the contract's type");
    assert_eq!(serde_json::to_string(&typed).expect("encodes").as_bytes(), out, "same fields in the same order");
    assert!(typed.queue.is_none() && typed.offset.is_none() && typed.stored_at.is_none() && typed.expires_at.is_none());
    assert_eq!(typed.deliver_at.map(|at| at.0), Some(3_000));
}

fn check(content_type: Option<&str>, body: &[u8], expected: &str) {
    let text = written(&PublishHead { content_type, ..PublishHead::default() }, body, Breaks::Keep);
    assert!(text.contains(&format!(",{expected},\"born_at\"")), "{content_type:?} {body:?}: {text}");
}

#[test]
fn data_by_type_and_bytes() {
    check(Some("text/plain"), b"hi", r#""data":"hi""#);
    check(Some("TEXT/html; charset=utf-8"), b"", r#""data":"""#);
    check(Some("text/plain"), b"\xff", r#""data_base64":"/w==""#);
    check(Some("application/json"), br#"{"b":1,  "a":2}"#, r#""data":{"b":1,  "a":2}"#);
    check(Some("application/vnd.x+JSON; v=1"), b"null", r#""data":null"#);
    check(Some("application/json"), b"{", r#""data_base64":"ew==""#);
    check(Some("application/json"), b"", r#""data_base64":"""#);
    check(Some("application/json"), b"1 2", r#""data_base64":"MSAy""#);
    check(Some("application/octet-stream"), b"hi", r#""data_base64":"aGk=""#);
    check(None, b"hi!", r#""data_base64":"aGkh""#);
    check(Some("json"), b"1", r#""data_base64":"MQ==""#);
}

#[test]
fn line_breaks_of_a_json_payload() {
    let head = PublishHead { content_type: Some("application/json"), ..PublishHead::default() };
    let body = b"{\r\n\"a\":\n\"x\\ny\"}";
    assert!(written(&head, body, Breaks::Keep).contains("\"data\":{\r\n\"a\":\n\"x\\ny\"}"));
    assert!(written(&head, body, Breaks::Blank).contains("\"data\":{  \"a\": \"x\\ny\"}"));
    assert!(written(&head, body, Breaks::Sse).contains("\"data\":{ \ndata: \"a\":\ndata: \"x\\ny\"}"));
}

#[test]
fn a_frame_is_lengths_meta_and_payload() {
    let head = PublishHead { content_type: Some("text/plain"), ..PublishHead::default() };
    let granted =
        Lease { receipt: "r1.x".into(), expires_at: Timestamp(5), attempt: 3, message: stored(&head, b"payload") };
    let mut out = b"before".to_vec();
    lease_frame(&mut out, &granted).expect("a head that decodes");
    let frame = &out[6..];
    let n = u32::from_le_bytes(frame[..4].try_into().expect("4")) as usize;
    let m = u32::from_le_bytes(frame[4..8].try_into().expect("4")) as usize;
    assert_eq!(n + 4, frame.len());
    assert_eq!(&frame[8 + m..], b"payload");
    let meta: serde_json::Value = serde_json::from_slice(&frame[8..8 + m]).expect("JSON");
    assert_eq!((&meta["attempt"], &meta["receipt"]), (&3.into(), &"r1.x".into()));
    assert!(meta["message"].get("data").is_none() && meta["message"].get("data_base64").is_none());
}
