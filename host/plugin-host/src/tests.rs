//! The sandbox against plugins that behave and plugins that do not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_model::judge::{
    CallLimits, Column, Context, Failure, Field, Kind, OnFailure, QueueStat, Target, Verdict,
};
use pointsman_model::time::FakeClock;
use pointsman_model::{BindingId, Generation, QueueId, TenantId, Timestamp, limits};

use crate::{
    Bound, BreakerState, Builtin, Compiler, HostConfig, InitError, PluginHost, Spec, builtin, examples, fixtures,
};

mod code;
mod contract;
mod fuel;
mod hostile;
mod kinds;
mod wasi;

/// A host with its fake clock.
struct Bench {
    host: PluginHost,
    clock: Arc<FakeClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(FakeClock::new(Timestamp(1_000)));
        // Compiled once for all tests, and beside what build.rs made.
        let cache_dir = Some(concat!(env!("OUT_DIR"), "/code").into());
        let config = HostConfig { clock: clock.clone(), cache_dir, ..HostConfig::default() };
        Self { host: PluginHost::new(config).expect("a host"), clock }
    }

    fn spec(&self, component: &Builtin, config: &str) -> Spec {
        self.host.compile_now(component.digest, component.bytes).expect("it compiles");
        spec(component, config)
    }

    fn bind(&self, component: &Builtin, config: &str) -> Arc<Bound> {
        self.bind_spec(self.spec(component, config))
    }

    fn bind_spec(&self, spec: Spec) -> Arc<Bound> {
        let plan = self.host.try_init_now(&spec).expect("a good config");
        self.host.bind(spec, plan).expect("compiled")
    }

    /// What a binding on a fixture says of messages with these tags.
    fn filter(&self, bound: &Arc<Bound>, tags: &[&str]) -> Vec<Verdict<bool>> {
        self.host.filter_now(bound, vec![column(tags)], tags.len()).expect("a good batch")
    }

    fn select(&self, bound: &Arc<Bound>, tags: &[&str]) -> Vec<Verdict<Vec<Target>>> {
        self.host.select_now(bound, &context(4), vec![column(tags)], tags.len()).expect("a good batch")
    }
}

fn spec(component: &Builtin, config: &str) -> Spec {
    Spec {
        tenant: TenantId(1),
        binding: BindingId(2),
        generation: Generation(3),
        digest: component.digest,
        kind: component.kind,
        config: Bytes::copy_from_slice(config.as_bytes()),
        limits: CallLimits::default(),
        on_failure: OnFailure::Deliver,
    }
}

fn context(queues: u16) -> Context {
    let stats = (0..queues).map(|queue| QueueStat { queue: QueueId(queue), messages: 0 });
    Context { attempt_limit: 17, queues: stats.collect() }
}

/// A column of texts; an empty one is absent.
fn column(values: &[&str]) -> Column {
    let mut column = Column::default();
    for value in values {
        column.push((!value.is_empty()).then_some(value.as_bytes()));
    }
    column
}

fn fixture(name: &str) -> &'static Builtin {
    fixtures().iter().find(|fixture| fixture.name == name).expect("a fixture")
}

fn misbehave_filter() -> &'static Builtin {
    fixture("misbehave-filter")
}

fn misbehave_selector() -> &'static Builtin {
    fixture("misbehave-selector")
}

const YES: Verdict<bool> = Verdict::Answer(true);
const NO: Verdict<bool> = Verdict::Answer(false);

fn queue(queue: u16) -> Verdict<Vec<Target>> {
    Verdict::Answer(vec![Target { destination: 0, queue: Some(QueueId(queue)) }])
}

#[test]
fn tags_filters_by_tag() {
    let bench = Bench::new();
    let bound = bench.bind(builtin("tags").expect("there"), r#"{"expression":"paid || refunded"}"#);
    assert_eq!(bound.plan().fields, [Field::Tag]);
    assert_eq!(bound.plan().tags.as_deref(), Some(&["paid".to_owned(), "refunded".to_owned()][..]));
    assert_eq!(bench.filter(&bound, &["paid", "open", "", "refunded"]), [YES, NO, NO, YES]);
    assert_eq!(bench.filter(&bound, &[]), []);
    let all = bench.bind(builtin("tags").expect("there"), r#"{"expression":"*"}"#);
    assert_eq!((&all.plan().fields[..], &all.plan().tags), (&[][..], &None));
    assert_eq!(bench.host.filter_now(&all, vec![], 3).expect("no columns"), [YES, YES, YES]);
    let stats = bound.stats();
    assert_eq!((stats.calls, stats.messages, stats.failed, stats.breaker), (1, 4, 0, BreakerState::Closed));
    assert!(stats.fuel > 0);
}

#[test]
fn a_refused_config_comes_back_in_the_plugins_words() {
    let bench = Bench::new();
    let spec = bench.spec(builtin("tags").expect("there"), r#"{"expression":"a || "}"#);
    let error = bench.host.try_init_now(&spec).expect_err("refused");
    assert_eq!(error, InitError::Refused("an empty tag at position 4".into()));
}

#[test]
fn hash_places_by_slot_key_or_seed() {
    let bench = Bench::new();
    let bound = bench.bind(builtin("hash").expect("there"), "{}");
    assert_eq!(bound.plan().fields, [Field::OrderingKey, Field::Keys, Field::Seed]);
    let mut seeds = Column::default();
    for seed in [0_u64, 0, 7] {
        seeds.push(Some(&seed.to_le_bytes()));
    }
    let columns = vec![column(&["o", "", ""]), column(&["\u{1}\0k", "\u{1}\0k", ""]), seeds];
    let verdicts = bench.host.select_now(&bound, &context(4), columns, 3).expect("a good batch");
    let by_slot = Verdict::Answer(vec![Target { destination: 0, queue: None }]);
    assert_eq!(verdicts[0], by_slot);
    assert!(matches!(&verdicts[1], Verdict::Answer(targets) if targets.len() == 1));
    assert_eq!(verdicts[2], queue(3));
}

#[test]
fn the_examples_route_and_filter() {
    let bench = Bench::new();
    let by_event = bench.bind(&examples()[0], r#"{"accept":["push"],"actions":["opened"]}"#);
    let columns = vec![column(&["push", "fork"]), column(&["", "created"])];
    assert_eq!(bench.host.filter_now(&by_event, columns, 2).expect("a good batch"), [YES, NO]);
    let router = bench.bind(&examples()[1], r#"{"property":"repository","pin":{"a/b":2}}"#);
    let verdicts = bench.select(&router, &["a/b", ""]);
    assert_eq!(verdicts, [queue(2), Verdict::Failed("no repository".into())]);
    assert_eq!(router.stats().failed, 1);
}

#[tokio::test]
async fn the_asynchronous_calls_say_the_same() {
    let bench = Bench::new();
    let tags = builtin("tags").expect("there");
    let took = bench.host.compile(tags.digest, Bytes::from_static(tags.bytes)).await.expect("it compiles");
    assert!(took > 0);
    assert_eq!(bench.host.compile(tags.digest, Bytes::from_static(tags.bytes)).await.expect("it is there"), 0);
    let plan = bench.host.try_init(spec(tags, r#"{"expression":"a"}"#)).await.expect("a good config");
    let bound = bench.host.bind(spec(tags, r#"{"expression":"a"}"#), plan).expect("compiled");
    let verdicts = bench.host.filter(&bound, vec![column(&["a", "b"])], 2).await.expect("a good batch");
    assert_eq!(verdicts, [YES, NO]);
    let router = bench.bind(misbehave_selector(), "{}");
    let verdicts = bench.host.select(&router, &context(4), vec![column(&["a"])], 1).await.expect("a good batch");
    assert_eq!(verdicts, [queue(1)]);
}

#[test]
fn a_caller_who_hands_in_what_does_not_fit_is_told() {
    let bench = Bench::new();
    let bound = bench.bind(misbehave_filter(), "{}");
    let host = &bench.host;
    let at = limits::JUDGE_MESSAGES_MAX;
    let tags = vec!["y"; at + 1];
    for n in [at - 1, at] {
        assert_eq!(host.filter_now(&bound, vec![column(&tags[..n])], n).expect("allowed").len(), n);
    }
    let error = host.filter_now(&bound, vec![column(&tags)], at + 1).expect_err("one too many");
    assert!(matches!(error, crate::Error::BatchTooLarge { messages, max } if (messages, max) == (at + 1, at)));
    assert!(matches!(host.filter_now(&bound, vec![], 1), Err(crate::Error::BadBatch)));
    assert!(matches!(host.filter_now(&bound, vec![column(&["y"])], 2), Err(crate::Error::BadBatch)));
    assert!(matches!(host.select_now(&bound, &context(1), vec![column(&["y"])], 1), Err(crate::Error::WrongKind)));
    let other = Spec { digest: crate::Digest([7; 32]), ..bound.spec().clone() };
    assert!(matches!(host.bind(other, bound.plan().clone()), Err(crate::Error::NotCompiled(_))));
}
