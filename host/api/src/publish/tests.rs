//! Bodies of a publish: payloads, defaults, pointers, limits.

use http::HeaderValue;
use http::header::HeaderName;
use pointsman_model::Timestamp;
use pointsman_model::delay::Delay;

use super::*;

fn batch(body: &str) -> Result<Vec<NewMessage>, (Code, String)> {
    refusal(batch::parse(&Bytes::copy_from_slice(body.as_bytes()), None))
}

fn refusal<T>(result: Result<T, Failure>) -> Result<T, (Code, String)> {
    result.map_err(|failure| {
        let problem = failure.problem();
        (problem.code, problem.errors.first().map(|error| error.pointer.clone()).unwrap_or_default())
    })
}

/// Payload and type of the only message.
fn check_payload(message: &str, body: &[u8], content_type: &str) {
    let messages = batch(&format!("{{\"messages\":[{message}]}}")).expect(message);
    assert_eq!(messages[0].body, body, "{message}");
    assert_eq!(messages[0].content_type.as_deref(), Some(content_type), "{message}");
}

#[test]
fn payloads_of_a_batch() {
    check_payload(r#"{"data":"hi é"}"#, "hi é".as_bytes(), "text/plain; charset=utf-8");
    check_payload(r#"{"data":"a\"\u00e9\n"}"#, "a\"é\n".as_bytes(), "text/plain; charset=utf-8");
    check_payload(r#"{"data":""}"#, b"", "text/plain; charset=utf-8");
    check_payload(r#"{"data":"x","content_type":"text/html"}"#, b"x", "text/html");
    check_payload(r#"{"data": {"b" : 1, "a":2.0} }"#, br#"{"b" : 1, "a":2.0}"#, "application/json");
    check_payload(r#"{"data":null}"#, b"null", "application/json");
    check_payload(r#"{"data":17.50}"#, b"17.50", "application/json");
    check_payload(r#"{"data":"x","content_type":"application/vnd.x+json"}"#, br#""x""#, "application/vnd.x+json");
    check_payload(r#"{"data":[1],"content_type":"text/plain"}"#, b"[1]", "text/plain");
    check_payload(r#"{"data_base64":"AP8="}"#, b"\x00\xff", "application/octet-stream");
    check_payload(r#"{"data_base64":"a\/\/\/","content_type":"image/png"}"#, b"\x6b\xff\xff", "image/png");
}

#[test]
fn payloads_without_escapes_are_slices_of_the_body() {
    let body = Bytes::from_static(br#"{"messages":[{"data":"abc"},{"data":{"k":1}}]}"#);
    let messages = batch::parse(&body, None).expect("parses");
    let range = body.as_ptr_range();
    for message in messages {
        assert!(range.contains(&message.body.as_ptr()));
    }
}

#[test]
fn every_field_arrives() {
    let messages = batch(
        r#"{"messages":[{"data":"x","tag":"t","keys":["a","b"],"ordering_key":"o","queue":3.0,
        "properties":{"z":"1","a":"2","n":null},"delay_ms":7.0,"ttl_ms":5,"priority":9,"idempotency_key":"i"},{"data":"y","tag":null,"ttl_ms":0}]}"#,
    )
    .expect("parses");
    let expected = NewMessage {
        content_type: Some("text/plain; charset=utf-8".into()),
        body: "x".into(),
        tag: Some("t".into()),
        keys: vec!["a".into(), "b".into()],
        ordering_key: Some("o".into()),
        queue: Some(QueueId(3)),
        properties: vec![("z".into(), "1".into()), ("a".into(), "2".into())],
        delay: Some(Delay::After(7)),
        ttl_ms: Some(5),
        idempotency_key: Some("i".into()),
        priority: 9,
        trace: None,
    };
    assert_eq!(messages[0], expected);
    assert_eq!((messages[1].ttl_ms, messages[1].priority, &messages[1].tag), (None, 0, &None));
}

fn check_batch(message: &str, code: Code, pointer: &str) {
    let body = format!(r#"{{"messages":[{{"data":"ok"}},{message}]}}"#);
    assert_eq!(batch(&body), Err((code, pointer.to_owned())), "{message}");
}

#[test]
fn a_bad_message_refuses_the_batch_with_its_pointer() {
    use Code::{InvalidRequest, TooDeep};
    check_batch(r#"{}"#, InvalidRequest, "/messages/1/data");
    check_batch(r#"{"data":1,"data_base64":"AA=="}"#, InvalidRequest, "/messages/1/data");
    check_batch(r#"{"data_base64":"AA"}"#, InvalidRequest, "/messages/1/data_base64");
    check_batch(r#"{"data_base64":"A A="}"#, InvalidRequest, "/messages/1/data_base64");
    check_batch(r#"{"data":"\ud800"}"#, InvalidRequest, "/messages/1/data");
    check_batch(r#"{"data":1,"tag":"a|b"}"#, InvalidRequest, "/messages/1/tag");
    check_batch(r#"{"data":1,"tag":7}"#, InvalidRequest, "/messages/1/tag");
    check_batch(r#"{"data":1,"nope":7}"#, InvalidRequest, "/messages/1/nope");
    check_batch(r#"{"data":1,"queue":-1}"#, InvalidRequest, "/messages/1/queue");
    check_batch(r#"{"data":1,"priority":10}"#, InvalidRequest, "/messages/1/priority");
    check_batch(r#"{"data":1,"keys":["a",""]}"#, InvalidRequest, "/messages/1/keys/1");
    check_batch(r#"{"data":1,"properties":{"a b":"x"}}"#, InvalidRequest, "/messages/1/properties/a b");
    check_batch(r#"{"data":1,"properties":{"a":1}}"#, InvalidRequest, "/messages/1/properties/a");
    check_batch(r#"{"data":{"a":1,"a":2}}"#, InvalidRequest, "/messages/1/data/a");
    check_batch(r#"{"data":1,"delay_ms":-1}"#, InvalidRequest, "/messages/1/delay_ms");
    check_batch(r#"{"data":1,"delay_ms":31536000001}"#, InvalidRequest, "/messages/1/delay_ms");
    check_batch(r#"{"data":1,"delay_level":19}"#, InvalidRequest, "/messages/1/delay_level");
    check_batch(r#"{"data":1,"delay_level":0}"#, InvalidRequest, "/messages/1/delay_level");
    check_batch(r#"{"data":1,"delay_ms":5,"delay_level":5}"#, InvalidRequest, "/messages/1/delay_level");
    check_batch(r#"{"data":1,"deliver_at":"tomorrow"}"#, InvalidRequest, "/messages/1/deliver_at");
    let two = r#"{"data":1,"deliver_at":"2030-01-01T00:00:00Z","delay_ms":0}"#;
    check_batch(two, InvalidRequest, "/messages/1/deliver_at");
    for bad in ["", "a b", "é", &"k".repeat(257)] {
        let message = format!("{{\"data\":1,\"idempotency_key\":\"{bad}\"}}");
        check_batch(&message, InvalidRequest, "/messages/1/idempotency_key");
    }
    // The body, the list and the message are three levels: 61 more are allowed.
    let nested = |depth| format!("{{\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    check_batch(&nested(62), TooDeep, &format!("/messages/1/data{}", "/0".repeat(61)));
    assert!(batch(&format!("{{\"messages\":[{}]}}", nested(61))).is_ok());
    assert_eq!(batch(r#"{"messages":[]}"#), Err((InvalidRequest, "/messages".into())));
    assert_eq!(batch("{}"), Err((InvalidRequest, "/messages".into())));
    assert_eq!(batch(r#"{"messages":[{"data":1}],"x":1}"#), Err((InvalidRequest, "/x".into())));
}

#[test]
fn batch_limits_one_below_at_and_above() {
    for (count, ok) in [(999, true), (1_000, true), (1_001, false)] {
        let items = vec![r#"{"data":1}"#; count].join(",");
        let result = batch(&format!("{{\"messages\":[{items}]}}")).map(|messages| messages.len());
        assert_eq!(result, if ok { Ok(count) } else { Err((Code::BatchTooLarge, String::new())) });
    }
    for (bytes, ok) in [((16 << 20) - 1, true), (16 << 20, true), ((16 << 20) + 1, false)] {
        let result = batch(&format!("{{\"messages\":[{{\"data\":\"{}\"}}]}}", "x".repeat(bytes)));
        assert_eq!(result.is_ok(), ok, "{bytes}");
    }
}

fn frame(meta: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = ((4 + meta.len() + payload.len()) as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    out.extend_from_slice(meta);
    out.extend_from_slice(payload);
    out
}

#[test]
fn frames_are_messages() {
    let body = [frame(b"{}", b"one"), frame(br#"{"tag":"t","content_type":"a/b"}"#, b""), frame(b"", b"x")].concat();
    let messages = frames::parse(body.into(), Some("00-1")).expect("parses");
    let shown: Vec<_> = messages.iter().map(|m| (&m.body[..], m.tag.as_deref(), m.content_type.as_deref())).collect();
    let octets = Some("application/octet-stream");
    assert_eq!(shown, [(&b"one"[..], None, octets), (b"", Some("t"), Some("a/b")), (b"x", None, octets)]);
    assert_eq!(messages[0].trace.as_deref(), Some("00-1"));
}

#[test]
fn bad_frames_are_told_by_pointer() {
    let good = frame(b"{}", b"one");
    let check = |body: Vec<u8>, pointer: &str| {
        let found = refusal(frames::parse(body.into(), None)).map(|_| ());
        assert_eq!(found, Err((Code::InvalidRequest, pointer.to_owned())));
    };
    check(Vec::new(), "/messages");
    for cut in 1..good.len() {
        check([good.clone(), good[..cut].to_vec()].concat(), "/messages/1");
    }
    check(vec![3, 0, 0, 0, 0, 0, 0, 0], "/messages/0");
    check(vec![4, 0, 0, 0, 1, 0, 0, 0], "/messages/0");
    check(vec![255; 32], "/messages/0");
    check(frame(br#"{"tag":"*"}"#, b""), "/messages/0/tag");
    check(frame(br#"{"data":1}"#, b""), "/messages/0/data");
    check(frame(br#"{"tag":"a","tag":"b"}"#, b""), "/messages/0/tag");
    check(frame(b"[]", b""), "/messages/0");
    check(frame(b"\xff", b""), "/messages/0");
}

fn raw_of(pairs: &[(&'static str, &[u8])]) -> Result<NewMessage, (Code, String)> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a value"));
    }
    refusal(raw::parse(&headers, Bytes::from_static(b"body"), None))
}

#[test]
fn raw_messages_are_described_by_headers() {
    let message = raw_of(&[
        ("content-type", b"text/plain"),
        ("pm-tag", "é".as_bytes()),
        ("pm-key", b"a,b"),
        ("pm-key", b"c"),
        ("pm-ordering-key", b"o"),
        ("pm-queue", b"3"),
        ("pm-ttl-ms", b"5"),
        ("pm-priority", b"9"),
        ("pm-prop-shop", b"berlin"),
    ])
    .expect("parses");
    assert_eq!(message.tag.as_deref(), Some("é"));
    assert_eq!(message.keys, ["a,b", "c"], "never split at commas");
    assert_eq!((message.queue, message.ttl_ms, message.priority), (Some(QueueId(3)), Some(5), 9));
    assert_eq!(message.properties, [("shop".to_owned(), "berlin".to_owned())]);
    assert_eq!(raw_of(&[]).expect("parses").content_type.as_deref(), Some("application/octet-stream"));
}

#[test]
fn bad_headers_are_named() {
    for (name, value, pointer) in [
        ("pm-tag", &b"*"[..], "Pm-Tag"),
        ("pm-tag", b"\xff", "Pm-Tag"),
        ("pm-queue", b"-1", "Pm-Queue"),
        ("pm-queue", b"65536", "Pm-Queue"),
        ("pm-priority", b"10", "Pm-Priority"),
        ("pm-ttl-ms", b"1.0", "Pm-Ttl-Ms"),
        ("pm-key", b"", "Pm-Key"),
        ("pm-prop-1x", b"v", "Pm-Prop-1x"),
        ("pm-delay-ms", b"31536000001", "Pm-Delay-Ms"),
        ("pm-delay-ms", b"1.0", "Pm-Delay-Ms"),
        ("pm-delay-level", b"0", "Pm-Delay-Level"),
        ("pm-delay-level", b"19", "Pm-Delay-Level"),
        ("pm-deliver-at", b"x", "Pm-Deliver-At"),
        ("idempotency-key", b"", "Idempotency-Key"),
        ("idempotency-key", b"a b", "Idempotency-Key"),
        ("idempotency-key", &[b'k'; 257], "Idempotency-Key"),
    ] {
        assert_eq!(raw_of(&[(name, value)]), Err((Code::InvalidRequest, pointer.to_owned())), "{name}");
    }
}

#[test]
fn a_delay_in_headers_has_one_form() {
    let delay = |headers: &[(&'static str, &[u8])]| raw_of(headers).map(|message| message.delay);
    assert_eq!(delay(&[]), Ok(None));
    assert_eq!(delay(&[("pm-delay-ms", b"31536000000")]), Ok(Some(Delay::After(31_536_000_000))));
    assert_eq!(delay(&[("pm-delay-level", b"18")]), Ok(Some(Delay::Level(18))));
    assert_eq!(delay(&[("pm-deliver-at", b"1970-01-01T00:00:01Z")]), Ok(Some(Delay::At(Timestamp(1_000)))));
    let two: [(&'static str, &[u8]); 2] = [("pm-delay-ms", b"0"), ("pm-delay-level", b"1")];
    assert_eq!(delay(&two), Err((Code::InvalidRequest, "Pm-Delay-Level".to_owned())));
}
