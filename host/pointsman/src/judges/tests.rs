//! The real sandbox, through the port.

use pointsman_model::Generation;
use pointsman_model::judge::{CallLimits, Kind, OnFailure};
use pointsman_plugin_host::HostConfig;

use super::*;

fn judges() -> SandboxJudges {
    SandboxJudges::new(Arc::new(PluginHost::new(HostConfig::default()).expect("a sandbox")))
}

fn spec(builtin: &Builtin, config: &'static str) -> JudgeSpec {
    JudgeSpec {
        tenant: TenantId(1),
        binding: None,
        generation: Generation(1),
        name: builtin.name.clone(),
        kind: builtin.kind,
        digest: builtin.digest,
        bytes: builtin.bytes.clone(),
        config: Bytes::from_static(config.as_bytes()),
        limits: CallLimits::default(),
        on_failure: OnFailure::Deliver,
    }
}

#[tokio::test]
async fn a_built_in_judges_through_the_port() {
    let judges = judges();
    let builtins = judges.builtins();
    let tags = builtins.iter().find(|builtin| builtin.name == "tags").expect("tags");
    assert_eq!(tags.kind, Kind::Filter);
    let judge = judges.bind(spec(tags, r#"{"expression":"a || b"}"#)).await.expect("bound");
    let mut column = Column::default();
    for tag in [Some("a"), Some("c"), None] {
        column.push(tag.map(str::as_bytes));
    }
    let columns = judge.plan().fields.iter().map(|_| column.clone()).collect();
    let verdicts = judge.filter(3, columns).await;
    assert_eq!(verdicts, [Verdict::Answer(true), Verdict::Answer(false), Verdict::Answer(false)]);
    assert_eq!(judge.stats().messages, 3);
}

async fn bind(judges: &SandboxJudges, name: &str, config: &'static str) -> Arc<dyn Judge> {
    let builtins = judges.builtins();
    let builtin = builtins.iter().find(|builtin| builtin.name == name).expect("a built-in");
    judges.bind(spec(builtin, config)).await.expect("bound")
}

#[tokio::test]
async fn every_kind_answers_through_the_port() {
    let judges = judges();
    let dedup = bind(&judges, "key-window", r#"{"field":"tag"}"#).await;
    let mut column = Column::default();
    column.push(Some(b"a"));
    column.push(None);
    let key = DedupKey { key: "a".into(), ttl_ms: None };
    assert_eq!(dedup.dedup(2, vec![column]).await, [Verdict::Answer(Some(key)), Verdict::Answer(None)]);
    assert_eq!((dedup.stats().calls, dedup.stats().messages), (1, 2));

    let retry = bind(&judges, "backoff", "{}").await;
    let question = RetryQuestion { attempt: 1, ..RetryQuestion::default() };
    let again = Verdict::Answer(RetryAnswer::Again { delay_ms: 10_000, scaled: true });
    assert_eq!(retry.retry(question).await, again);

    let webhook = bind(&judges, "webhook", r#"{"url":"http://a/","allow":["a:80"]}"#).await;
    let asked = webhook.check_back(Half::default(), 1).await;
    assert!(matches!(asked, Verdict::Answer(CheckAnswer::Ask(_))), "{asked:?}");
    let told = webhook.check_answer(Half::default(), CheckResponse::Failed("refused".into())).await;
    assert_eq!(told, Verdict::Answer(CheckAnswer::Unknown { after_ms: None }));
    assert_eq!(webhook.logs().len(), 1);

    let other = Verdict::Stopped(Failure::Output);
    assert_eq!(webhook.retry(RetryQuestion::default()).await, other, "of another kind");
}

#[tokio::test]
async fn a_refused_config_is_told_in_the_plugins_words() {
    let judges = judges();
    let builtins = judges.builtins();
    let tags = builtins.iter().find(|builtin| builtin.name == "tags").expect("tags");
    let words = judges.try_init(spec(tags, r#"{"expression":"a ||"}"#)).await.expect_err("refused");
    assert!(!words.is_empty());
}

#[tokio::test]
async fn an_upload_is_inspected_compiled_and_called() {
    let judges = judges();
    let example = pointsman_plugin_host::examples()[0];
    let inspection = judges.inspect(Bytes::from_static(example.bytes)).await.expect("a plugin");
    assert_eq!((inspection.kind, inspection.digest), (example.kind, example.digest.0));
    let complaints = judges.inspect(Bytes::from_static(b"random bytes")).await.expect_err("no plugin");
    assert_eq!(complaints[0].code, "not-a-component");
}

#[test]
fn levels_are_the_ports() {
    assert_eq!([0, 1, 2, 3, 9].map(port_level), [4, 3, 2, 1, 0]);
}
