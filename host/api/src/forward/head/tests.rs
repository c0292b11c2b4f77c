//! Heads come back as they went, and nothing else is taken for one.

use pointsman_broker::Bearer;
use pointsman_model::{Scope, TenantId, Timestamp};
use proptest::prelude::*;

use super::*;

fn request() -> RequestHead {
    let mut headers = HeaderMap::new();
    headers.append("pm-key", HeaderValue::from_static("a"));
    headers.append("pm-key", HeaderValue::from_bytes("ü".as_bytes()).expect("a value"));
    RequestHead {
        principal: Principal::Token(Bearer {
            id: "0123".into(),
            tenant: Some((TenantId(7), "acme".into())),
            scopes: [Scope::Operator, Scope::parse("publish:a*").expect("a scope")].into(),
            expires_at: Some(Timestamp(9)),
        }),
        request_id: "r-1".into(),
        remaining_ms: 1_234,
        method: Method::PATCH,
        uri: "/v1/tenants/a/topics/b?x=1".parse().expect("a path"),
        headers,
    }
}

#[test]
fn requests_come_back_as_they_went() {
    let mut sent = request();
    assert_eq!(RequestHead::decode(&sent.encode().expect("encodes")), Ok(sent.clone()));
    sent.principal = Principal::Operator;
    assert_eq!(RequestHead::decode(&sent.encode().expect("encodes")), Ok(sent.clone()));
    sent.principal = Principal::Node;
    assert!(sent.encode().is_err(), "the broker's own calls are never forwarded");
}

#[test]
fn answers_come_back_as_they_went() {
    let mut headers = HeaderMap::new();
    headers.insert("etag", HeaderValue::from_static("\"7\""));
    let served = AnswerHead::Served { status: StatusCode::CREATED, headers, length: Some(3), problem: None };
    for sent in [AnswerHead::NotLeader, served] {
        assert_eq!(AnswerHead::decode(&sent.encode().expect("encodes")), Ok(sent));
    }
}

#[test]
fn what_no_client_may_send_is_refused() {
    let refused = |change: fn(&mut RequestHead)| {
        let mut head = request();
        change(&mut head);
        RequestHead::decode(&head.encode().expect("encodes")).is_err()
    };
    assert!(refused(|head| head.request_id = String::new()));
    assert!(refused(|head| head.request_id = "a b".into()));
    assert!(refused(|head| head.request_id = "x".repeat(65)));
    assert!(refused(|head| {
        for i in 0..=limits::REQUEST_HEADERS_MAX {
            head.headers.append("x", HeaderValue::from(i));
        }
    }));
    let mut endless = request();
    endless.remaining_ms = u64::MAX;
    let read = RequestHead::decode(&endless.encode().expect("encodes")).expect("reads");
    assert_eq!(read.remaining_ms, limits::TIMEOUT_MS_MAX);
}

#[test]
fn sizes_and_versions_are_checked() {
    let mut large = request();
    large.headers.insert("x", HeaderValue::from_bytes(&vec![b'x'; limits::FORWARD_HEAD_BYTES_MAX]).expect("a value"));
    assert!(large.encode().is_err());
    let bytes = request().encode().expect("encodes");
    let mut newer = bytes.to_vec();
    newer[0] += 1;
    assert_eq!(RequestHead::decode(&newer), Err(Malformed("its version")));
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(RequestHead::decode(&longer), Err(Malformed("bytes behind its end")));
    assert!(RequestHead::decode(&vec![VERSION; limits::FORWARD_HEAD_BYTES_MAX + 1]).is_err());
    let early =
        AnswerHead::Served { status: StatusCode::CONTINUE, headers: HeaderMap::new(), length: None, problem: None };
    assert!(AnswerHead::decode(&early.encode().expect("encodes")).is_err());
}

proptest! {
    #[test]
    fn garbage_is_no_head(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..200) {
        let whole = request().encode().expect("encodes");
        prop_assert!(RequestHead::decode(&whole[..cut.min(whole.len() - 1)]).is_err());
        // Neither panics; most of it is refused.
        let _ = AnswerHead::decode(&bytes);
        bytes.insert(0, VERSION);
        let _ = RequestHead::decode(&bytes);
    }
}
