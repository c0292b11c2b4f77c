//! Dedup, retry and check-back: what the built-ins and examples say, and what becomes of plugins that misbehave.

use pointsman_model::judge::{
    CheckAnswer, CheckResponse, DedupKey, Half, OutsideMethod, OutsideRequest, RetryAnswer, RetryQuestion,
};

use super::*;

/// A fixture whose act befalls the tag `poison`, with time to spare.
fn poisoned(bench: &Bench, name: &str, act: &str) -> Arc<Bound> {
    let mut spec = bench.spec(fixture(name), &format!(r#"{{"do":"{act}","tag":"poison"}}"#));
    spec.limits.wall_ms = limits::PLUGIN_WALL_MS_CAP * 5;
    bench.bind_spec(spec)
}

fn key(text: &str) -> Verdict<Option<DedupKey>> {
    Verdict::Answer(Some(DedupKey { key: text.into(), ttl_ms: None }))
}

fn keys(bench: &Bench, bound: &Bound, columns: Vec<Column>, n: usize) -> Vec<Verdict<Option<DedupKey>>> {
    bench.host.dedup_now(bound, columns, n).expect("a good batch")
}

fn question(tag: &str, attempt: u16) -> RetryQuestion {
    RetryQuestion { tag: Some(tag.into()), attempt, max_retries: 16, ..RetryQuestion::default() }
}

fn again(delay_ms: u64, scaled: bool) -> Verdict<RetryAnswer> {
    Verdict::Answer(RetryAnswer::Again { delay_ms, scaled })
}

fn half(tag: &str) -> Half {
    Half {
        transaction: "t1".into(),
        tag: Some(tag.into()),
        body: Bytes::from_static(b"hi"),
        properties: vec![("payment".into(), "7".into())],
        ..Half::default()
    }
}

fn response(status: u16, body: &'static str) -> CheckResponse {
    CheckResponse::Answered {
        status,
        headers: vec![("a".into(), "b".into())],
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn get(url: &str) -> Verdict<CheckAnswer> {
    let (method, body) = (OutsideMethod::Get, Bytes::new());
    Verdict::Answer(CheckAnswer::Ask(OutsideRequest { method, url: url.into(), headers: Vec::new(), body }))
}

fn built(name: &str) -> &'static Builtin {
    let all = || crate::builtins().iter().chain(examples());
    all().find(|builtin| builtin.name == name).expect("there")
}

#[test]
fn dedups_name_keys() {
    let bench = Bench::new();
    let bound = bench.bind(built("key-window"), r#"{"field":"property:order","ttl_ms":9}"#);
    assert_eq!(bound.plan().fields, [Field::Property("order".into())]);
    let verdicts = keys(&bench, &bound, vec![column(&["7", "", "8"])], 3);
    let nine = |text: &str| Verdict::Answer(Some(DedupKey { key: text.into(), ttl_ms: Some(9) }));
    assert_eq!(verdicts, [nine("7"), Verdict::Answer(None), nine("8")]);
    let bound = bench.bind(built("fingerprint"), "{}");
    let mut hashes = Column::default();
    hashes.push(Some(&0xff_u128.to_le_bytes()));
    assert_eq!(keys(&bench, &bound, vec![hashes], 1), [key(&format!("{}ff", "0".repeat(30)))]);
    let bound = bench.bind(built("once-per-order"), "{}");
    let columns = vec![column(&["7", "x", ""]), column(&["paid", "", "paid"])];
    let failed = Verdict::Failed("the order is no number".into());
    assert_eq!(keys(&bench, &bound, columns, 3), [key("7/paid"), failed, Verdict::Answer(None)]);
    let stats = bound.stats();
    assert_eq!((stats.calls, stats.messages, stats.failed, stats.failures), (1, 3, 1, [0; 7]));
}

#[test]
fn retry_policies_decide() {
    let bench = Bench::new();
    let decide = |name: &str, config: &str, question: RetryQuestion| {
        bench.host.retry_now(&bench.bind(built(name), config), question).expect("asked")
    };
    assert_eq!(decide("backoff", "{}", question("a", 2)), again(30_000, true));
    assert_eq!(decide("backoff", r#"{"delays_ms":[5]}"#, question("a", 2)), again(5, false));
    let exhausted = Verdict::Answer(RetryAnswer::DeadLetter { reason: Some("attempts-exhausted".into()) });
    assert_eq!(decide("backoff", r#"{"max_retries":1}"#, question("a", 2)), exhausted);
    let fatal = RetryQuestion { reason: Some("fatal: x".into()), ..question("a", 1) };
    let dead = Verdict::Answer(RetryAnswer::DeadLetter { reason: None });
    assert_eq!(decide("give-up-on-fatal", "{}", fatal), dead);
    assert_eq!(decide("give-up-on-fatal", "{}", question("a", 3)), again(4_000, false));
}

#[test]
fn the_default_table_is_the_one_of_the_host() {
    let bench = Bench::new();
    let bound = bench.bind(built("backoff"), "{}");
    for attempt in 1..=20 {
        let expected = again(pointsman_model::retry::delay_ms(attempt, 1.0), true);
        assert_eq!(bench.host.retry_now(&bound, question("a", attempt)).expect("asked"), expected, "{attempt}");
    }
}

#[test]
fn check_backs_ask_and_judge() {
    let bench = Bench::new();
    let config = r#"{"url":"http://a/tx","allow":["a:80"]}"#;
    let bound = bench.bind(built("webhook"), config);
    let Verdict::Answer(CheckAnswer::Ask(request)) = bench.host.check_back_now(&bound, half("x"), 2).expect("asked")
    else {
        panic!("a request")
    };
    assert_eq!((request.method, request.url.as_str()), (OutsideMethod::Post, "http://a/tx"));
    let body = String::from_utf8(request.body.to_vec()).expect("JSON");
    assert!(body.starts_with(r#"{"transaction":"t1","attempt":2,"#), "{body}");
    let told = |response| bench.host.check_answer_now(&bound, half("x"), response).expect("asked");
    assert_eq!(told(response(200, r#"{"state":"commit"}"#)), Verdict::Answer(CheckAnswer::Commit));
    let unknown = |after_ms| Verdict::Answer(CheckAnswer::Unknown { after_ms });
    assert_eq!(told(response(200, r#"{"state":"unknown","after_ms":4}"#)), unknown(Some(4)));
    assert_eq!(told(response(500, "")), unknown(None));
    assert_eq!(told(CheckResponse::Failed("refused".into())), unknown(None));
    let lines: Vec<_> = bound.logs().into_iter().map(|line| line.text).collect();
    assert_eq!(lines, ["t1: status 500", "t1: refused"]);

    let bound = bench.bind(built("ask-ledger"), r#"{"ledger":"http://l/p","allow":["l:80"]}"#);
    assert_eq!(bench.host.check_back_now(&bound, half("x"), 1).expect("asked"), get("http://l/p/7"));
    let told = bench.host.check_answer_now(&bound, half("x"), response(200, r#"{"status":"cancelled"}"#));
    assert_eq!(told.expect("asked"), Verdict::Answer(CheckAnswer::Rollback));
}

#[test]
fn the_body_is_shown_to_a_check_back_that_asks_for_it() {
    let bench = Bench::new();
    for (act, expected) in [("say", "body: Some([104, 105])"), ("nothing", "http://a/t1")] {
        let bound = bench.bind(fixture("misbehave-check-back"), &format!(r#"{{"do":"{act}"}}"#));
        assert_eq!(bench.host.check_back_now(&bound, half("x"), 1).expect("asked"), get(expected));
    }
}

#[tokio::test]
async fn the_asynchronous_calls_say_the_same() {
    let bench = Bench::new();
    let host = &bench.host;
    let dedup = bench.bind(fixture("misbehave-dedup"), "{}");
    let verdicts = host.dedup(&dedup, vec![column(&["a", ""])], 2).await.expect("a good batch");
    assert_eq!(verdicts, [key("a"), Verdict::Answer(None)]);
    let retry = bench.bind(fixture("misbehave-retry"), "{}");
    assert_eq!(host.retry(&retry, question("a", 3)).await.expect("asked"), again(3, false));
    let check_back = bench.bind(fixture("misbehave-check-back"), "{}");
    assert_eq!(host.check_back(&check_back, half("x"), 1).await.expect("asked"), get("http://a/t1"));
    let told = host.check_answer(&check_back, half("x"), response(200, "")).await.expect("asked");
    assert_eq!(told, Verdict::Answer(CheckAnswer::Commit));
    let told = host.check_answer(&check_back, half("x"), CheckResponse::Failed("slow".into())).await;
    assert_eq!(told.expect("asked"), Verdict::Failed("slow".into()));

    assert!(matches!(host.retry(&check_back, question("a", 1)).await, Err(crate::Error::WrongKind)));
    assert!(matches!(host.check_back(&retry, half("x"), 1).await, Err(crate::Error::WrongKind)));
    assert!(matches!(host.dedup(&retry, vec![], 1).await, Err(crate::Error::WrongKind)));
}

#[test]
fn each_harm_has_its_class_and_meets_the_guilty_message() {
    let bench = Bench::new();
    for (act, expected) in [
        ("trap", Failure::Trap),
        ("overflow", Failure::Trap),
        ("loop", Failure::Fuel),
        ("grow", Failure::Memory),
        ("short", Failure::Output),
        ("long", Failure::Output),
        ("outside", Failure::Output),
        ("many", Failure::Output),
        ("bomb", Failure::Output),
    ] {
        let bound = poisoned(&bench, "misbehave-dedup", act);
        let verdicts = keys(&bench, &bound, vec![column(&["a", "poison", "c"])], 3);
        assert_eq!(verdicts, [key("a"), Verdict::Stopped(expected), key("c")], "{act}");
        assert_eq!(bound.stats().of(expected), 1, "{act}");
    }
    for (act, expected) in [
        ("trap", Failure::Trap),
        ("loop", Failure::Fuel),
        ("grow", Failure::Memory),
        ("outside", Failure::Output),
        ("long", Failure::Output),
    ] {
        let bound = poisoned(&bench, "misbehave-retry", act);
        for tag in ["a", "poison", "a"] {
            let wanted = if tag == "poison" { Verdict::Stopped(expected) } else { again(1, false) };
            assert_eq!(bench.host.retry_now(&bound, question(tag, 1)).expect("asked"), wanted, "{act}");
        }
        assert_eq!((bound.stats().of(expected), bound.stats().calls), (1, 3), "{act}");
    }
    for (act, expected) in [
        ("trap", Failure::Trap),
        ("loop", Failure::Fuel),
        ("grow", Failure::Memory),
        ("outside", Failure::Output),
        ("long", Failure::Output),
        ("many", Failure::Output),
        ("bomb", Failure::Output),
        ("short", Failure::Output),
    ] {
        let bound = poisoned(&bench, "misbehave-check-back", act);
        for tag in ["a", "poison", "a"] {
            let wanted = if tag == "poison" { Verdict::Stopped(expected) } else { get("http://a/t1") };
            assert_eq!(bench.host.check_back_now(&bound, half(tag), 1).expect("asked"), wanted, "{act}");
        }
        if matches!(act, "trap" | "loop" | "grow") {
            let told = bench.host.check_answer_now(&bound, half("poison"), response(200, ""));
            assert_eq!(told.expect("asked"), Verdict::Stopped(expected), "{act}");
        }
    }
}

#[test]
fn answers_at_their_limits_pass() {
    let bench = Bench::new();
    let bound = bench.bind(fixture("misbehave-dedup"), r#"{"do":"full"}"#);
    let full = key(&"k".repeat(limits::DEDUP_KEY_BYTES_MAX));
    assert_eq!(keys(&bench, &bound, vec![column(&["a"])], 1), [full]);
    let bound = bench.bind(fixture("misbehave-retry"), r#"{"do":"full"}"#);
    let decided = bench.host.retry_now(&bound, question("a", 1)).expect("asked");
    assert_eq!(decided, again(limits::DELAY_MS_MAX, true));
    let bound = bench.bind(fixture("misbehave-retry"), r#"{"do":"many"}"#);
    let decided = bench.host.retry_now(&bound, question("a", 1)).expect("asked");
    assert!(matches!(decided, Verdict::Answer(RetryAnswer::DeadLetter { reason: Some(reason) })
        if reason.len() == limits::REASON_BYTES_MAX));
    let bound = bench.bind(fixture("misbehave-check-back"), r#"{"do":"full"}"#);
    let asked = bench.host.check_back_now(&bound, half("a"), 1).expect("asked");
    assert!(matches!(asked, Verdict::Answer(CheckAnswer::Ask(request))
        if (request.url.len(), request.headers.len(), request.body.len())
            == (limits::CHECK_URL_BYTES_MAX, limits::CHECK_HEADERS_MAX, limits::CHECK_BODY_BYTES_MAX)));
}

#[test]
fn another_answer_when_asked_again_is_impure() {
    let bench = Bench::new();
    let bind = |name: &str| bench.bind(fixture(name), r#"{"do":"impure"}"#);
    let dedup = bind("misbehave-dedup");
    let verdicts = keys(&bench, &dedup, vec![column(&["a", "b"])], 2);
    assert_eq!(verdicts, [const { Verdict::Stopped(Failure::Impure) }; 2]);
    // One question a call: the audit sees the same first answer of a fresh instance, and a second call is not audited.
    let retry = bind("misbehave-retry");
    assert_eq!(bench.host.retry_now(&retry, question("a", 1)).expect("asked"), again(0, false));
    for call in 1..limits::PLUGIN_AUDIT_CALLS {
        assert_eq!(bench.host.retry_now(&retry, question("a", 1)).expect("asked"), again(call, false));
    }
    let audited = bench.host.retry_now(&retry, question("a", 1)).expect("asked");
    assert_eq!(audited, Verdict::Stopped(Failure::Impure));
    assert_eq!(retry.stats().of(Failure::Impure), 1);
}

#[test]
fn a_policy_that_fails_over_and_over_is_left_alone() {
    let bench = Bench::new();
    let bound = poisoned(&bench, "misbehave-retry", "trap");
    for _ in 0..limits::PLUGIN_BREAKER_FAILURES {
        let decided = bench.host.retry_now(&bound, question("poison", 1)).expect("asked");
        assert_eq!(decided, Verdict::Stopped(Failure::Trap));
    }
    assert_eq!(bound.breaker(), BreakerState::Open);
    let decided = bench.host.retry_now(&bound, question("a", 1)).expect("asked");
    assert_eq!(decided, Verdict::Stopped(Failure::Trap), "it is not asked");
    bench.clock.advance_ms(limits::PLUGIN_BREAKER_OPEN_MS_MIN);
    assert_eq!(bench.host.retry_now(&bound, question("a", 1)).expect("asked"), again(1, false));
}

#[test]
fn a_plan_of_a_record_asks_for_nothing_it_gets_anyway() {
    let bench = Bench::new();
    for (name, field) in [
        ("misbehave-retry", "a retry does not ask for Body"),
        ("misbehave-check-back", "a check-back does not ask for Tag"),
    ] {
        let spec = bench.spec(fixture(name), r#"{"do":"init-many"}"#);
        let refused = bench.host.try_init_now(&spec).expect_err("refused");
        assert_eq!(refused, InitError::Refused(format!("the plan of {field}")));
    }
}
