//! Plugins that misbehave: every harm has its class, meets only the guilty message, and ends in time.

use super::*;

/// Binds a fixture: `act` befalls messages of the tag `poison`. It has time to spare, so that on a busy machine
/// too each harm meets its own limit and not the clock.
fn poisoned_fixture(bench: &Bench, fixture: &Builtin, act: &str) -> Arc<Bound> {
    let mut spec = bench.spec(fixture, &format!(r#"{{"do":"{act}","tag":"poison"}}"#));
    spec.limits.wall_ms = limits::PLUGIN_WALL_MS_CAP * 5;
    if act == "bomb" {
        // Clearing megabytes burns fuel, and this one is about the host's side.
        spec.limits.fuel *= 10;
    }
    bench.bind_spec(spec)
}

fn poisoned(bench: &Bench, act: &str) -> Arc<Bound> {
    poisoned_fixture(bench, misbehave_filter(), act)
}

/// A batch of 20 with one guilty message in it: that one is stopped with `expected`, its neighbours are judged.
fn check_filter(act: &str, expected: Failure) {
    let bench = Bench::new();
    let bound = poisoned(&bench, act);
    for guilty in [0, 7, 19] {
        let mut tags = ["yes", "no"].repeat(10);
        tags[guilty] = "poison";
        let started = Instant::now();
        let verdicts = bench.filter(&bound, &tags);
        let took = started.elapsed();
        for (i, verdict) in verdicts.iter().enumerate() {
            let wanted = match i {
                i if i == guilty => Verdict::Stopped(expected),
                i if i % 2 == 0 => YES,
                _ => NO,
            };
            assert_eq!(verdict, &wanted, "{act}: message {i}, guilty is {guilty}, took {took:?}");
        }
    }
    let stats = bound.stats();
    assert_eq!(stats.of(expected), 3, "{act}: {stats:?}");
    assert_eq!(stats.failures.iter().sum::<u64>(), 3, "{act}, no other class: {stats:?}");
    assert_eq!((stats.calls, stats.messages), (3, 60));
    assert_eq!(stats.breaker, BreakerState::Closed, "{act}: most messages were judged");
}

fn check_selector(act: &str, expected: Failure) {
    let bench = Bench::new();
    let bound = poisoned_fixture(&bench, misbehave_selector(), act);
    let verdicts = bench.select(&bound, &["a", "b", "poison", "c"]);
    assert_eq!(verdicts, [queue(1), queue(1), Verdict::Stopped(expected), queue(1)], "{act}");
    assert_eq!(bound.stats().of(expected), 1);
}

#[test]
fn a_trap() {
    check_filter("trap", Failure::Trap);
    check_selector("trap", Failure::Trap);
}

#[test]
fn a_stack_without_end() {
    check_filter("overflow", Failure::Trap);
}

#[test]
fn a_loop_runs_out_of_fuel() {
    check_filter("loop", Failure::Fuel);
    check_selector("loop", Failure::Fuel);
}

#[test]
fn memory_without_end() {
    check_filter("grow", Failure::Memory);
    check_selector("grow", Failure::Memory);
}

#[test]
fn an_answer_of_the_wrong_shape() {
    for act in ["short", "long", "outside", "many", "bomb"] {
        check_filter(act, Failure::Output);
        check_selector(act, Failure::Output);
    }
}

#[test]
fn an_answer_at_the_limit_passes() {
    let bench = Bench::new();
    let bound = bench.bind(misbehave_selector(), r#"{"do":"full"}"#);
    let verdicts = bench.select(&bound, &["a"]);
    assert!(matches!(&verdicts[..], [Verdict::Answer(targets)] if targets.len() == limits::PLUGIN_TARGETS_MAX));
}

#[test]
fn a_loop_with_fuel_to_spare_meets_the_clock() {
    let bench = Bench::new();
    let mut spec = bench.spec(misbehave_filter(), r#"{"do":"loop","tag":"poison"}"#);
    spec.limits = CallLimits { fuel: u64::MAX, wall_ms: 20, ..CallLimits::default() };
    let bound = bench.bind_spec(spec);
    assert_eq!(bench.filter(&bound, &["yes"]), [YES], "and the instance is kept");
    let started = Instant::now();
    let verdicts = bench.filter(&bound, &["yes", "poison", "no"]);
    let took = started.elapsed();
    assert_eq!(verdicts[1], Verdict::Stopped(Failure::Timeout));
    assert!(bound.stats().of(Failure::Timeout) >= 1);
    // Twice the wall time by contract; the rest is for a machine that does other things.
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_binding_that_timed_out_is_judged_elsewhere_until_it_behaves() {
    let bench = Bench::new();
    let mut spec = bench.spec(misbehave_filter(), r#"{"do":"loop","tag":"poison"}"#);
    spec.limits.fuel = u64::MAX;
    let bound = bench.bind_spec(spec);
    let call = |tag: &'static str| bench.host.filter(&bound, vec![column(&[tag])], 1);
    let stopped = Verdict::Stopped(Failure::Timeout);
    assert_eq!(call("poison").await.expect("room"), [stopped]);
    let slow = |bound: &Bound| bound.slow.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(slow(&bound), limits::PLUGIN_SLOW_CALLS);
    for left in (0..limits::PLUGIN_SLOW_CALLS).rev() {
        assert_eq!(call("yes").await.expect("room"), [YES]);
        assert_eq!(slow(&bound), left);
    }
}

#[tokio::test]
async fn a_neighbour_is_served_while_a_tenant_loops() {
    let bench = Bench::new();
    let mut spec = bench.spec(misbehave_filter(), r#"{"do":"loop"}"#);
    spec.limits = CallLimits { fuel: u64::MAX, wall_ms: 200, ..CallLimits::default() };
    let hostile = bench.bind_spec(spec);
    let mut spec = bench.spec(misbehave_filter(), "{}");
    spec.tenant = TenantId(99);
    let neighbour = bench.bind_spec(spec);
    let bad = async {
        let calls = [(); 4].map(|()| bench.host.filter(&hostile, vec![column(&["x"])], 1));
        let [a, b, c, d] = calls;
        tokio::join!(a, b, c, d)
    };
    let good = async {
        let mut worst = Duration::ZERO;
        for _ in 0..50 {
            let started = Instant::now();
            let verdicts = bench.host.filter(&neighbour, vec![column(&["y"])], 1).await;
            assert_eq!(verdicts.expect("room"), [YES]);
            worst = worst.max(started.elapsed());
        }
        (worst, Instant::now())
    };
    let started = Instant::now();
    let ((a, ..), (worst, done)) = tokio::join!(bad, good);
    assert_eq!(a.expect("room"), [Verdict::Stopped(Failure::Timeout)]);
    assert!(started.elapsed() > Duration::from_millis(200), "it did loop");
    assert!(
        worst < Duration::from_millis(200) && done - started < Duration::from_millis(800),
        "a neighbour waited {worst:?}"
    );
}

#[test]
fn a_leak_is_the_instances_fault_and_no_messages() {
    let bench = Bench::new();
    let bound = bench.bind(misbehave_filter(), r#"{"do":"leak"}"#);
    // A megabyte a message and 16 MiB in all: every now and then an instance is full, and is replaced.
    for i in 0..100 {
        assert_eq!(bench.filter(&bound, &["yes"]), [YES], "message {i}");
    }
    assert_eq!(bound.stats().failures, [0; 7]);
}

#[test]
fn a_message_failed_in_words_is_no_trap() {
    let bench = Bench::new();
    let bound = poisoned(&bench, "fail");
    let verdicts = bench.filter(&bound, &["yes", "poison", "no"]);
    assert_eq!(verdicts, [YES, Verdict::Failed("no verdict on this one".into()), NO]);
    let stats = bound.stats();
    assert_eq!((stats.failed, stats.failures), (1, [0; 7]));
    let bound = bench.bind(misbehave_filter(), r#"{"do":"error"}"#);
    let failed = Verdict::Failed("nothing works today".into());
    assert_eq!(bench.filter(&bound, &["poison", "no"]), [failed.clone(), failed]);
}

#[test]
fn another_answer_when_asked_again_is_impure() {
    let bench = Bench::new();
    let bound = bench.bind(misbehave_filter(), r#"{"do":"impure"}"#);
    let verdicts = bench.filter(&bound, &["a", "b"]);
    assert_eq!(verdicts, [Verdict::Stopped(Failure::Impure), Verdict::Stopped(Failure::Impure)]);
    assert_eq!(bound.stats().of(Failure::Impure), 2);
    assert_eq!(bench.filter(&bound, &["a", "b"]), [NO, YES], "only the first of a thousand calls is audited");
    for _ in 2..limits::PLUGIN_AUDIT_CALLS {
        bench.filter(&bound, &["a", "b"]);
    }
    assert_eq!(bound.stats().of(Failure::Impure), 2);
    bench.filter(&bound, &["a", "b"]);
    assert_eq!(bound.stats().of(Failure::Impure), 4);
}

#[test]
fn the_log_is_bounded() {
    let bench = Bench::new();
    let bound = bench.bind(misbehave_filter(), r#"{"do":"say"}"#);
    assert_eq!(bench.filter(&bound, &["yes"]), [YES]);
    let line = &bound.logs()[0];
    assert_eq!((line.level, line.text.as_str(), line.at), (1, "this one is odd", Timestamp(1_000)));
    let bound = poisoned(&bench, "flood");
    for calls in 1..=9 {
        assert_eq!(bench.filter(&bound, &["poison"]), [NO]);
        let lines = bound.logs();
        // The first call is audited: it is made twice.
        let written = (calls + 1) * limits::PLUGIN_LOG_LINES_PER_CALL_MAX as usize;
        assert_eq!(lines.len(), written.min(limits::PLUGIN_LOG_LINES_MAX));
        assert!(lines.iter().all(|line| line.text.len() == limits::PLUGIN_LOG_LINE_BYTES_MAX));
    }
}

#[test]
fn init_is_bounded_and_speaks() {
    let bench = Bench::new();
    let try_init = |config: &str| {
        let spec = bench.spec(misbehave_filter(), config);
        bench.host.try_init_now(&spec).expect_err("no plan")
    };
    let refused = |words: &str| InitError::Refused(words.into());
    assert_eq!(try_init(r#"{"do":"init-error"}"#), refused("this config is not to my taste"));
    assert_eq!(try_init(r#"{"do":"init-twice"}"#), refused("the plan asks for Tag twice"));
    assert!(matches!(try_init("{"), InitError::Refused(words) if words.contains("EOF")));
    let stopped = |error: InitError| match error {
        InitError::Stopped { failure, .. } => failure,
        other => panic!("{other}"),
    };
    assert_eq!(stopped(try_init(r#"{"do":"init-loop"}"#)), Failure::Fuel);
    assert_eq!(stopped(try_init(r#"{"do":"init-trap"}"#)), Failure::Trap);
    assert_eq!(stopped(try_init(r#"{"pages":300}"#)), Failure::Memory);
}

#[tokio::test]
async fn a_component_that_cannot_even_refuse_is_told() {
    let bench = Bench::new();
    for component in fixtures().iter().chain(examples()).chain(crate::builtins()) {
        let digest = component.digest;
        bench.host.compile_now(digest, component.bytes).expect("it compiles");
        let smoke = bench.host.smoke(TenantId(1), digest, component.kind).await;
        assert_eq!(smoke, Ok(()), "{}", component.name);
    }
    let unknown = crate::Digest([7; 32]);
    let smoke = bench.host.smoke(TenantId(1), unknown, pointsman_model::judge::Kind::Filter).await;
    assert!(matches!(smoke, Err(InitError::Host(_))), "{smoke:?}");
}

#[test]
fn fields_of_a_plan_one_below_at_and_above() {
    let bench = Bench::new();
    let max = limits::PLUGIN_FIELDS_MAX;
    for (fields, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
        let spec = bench.spec(misbehave_filter(), &format!(r#"{{"fields":{fields}}}"#));
        let plan = bench.host.try_init_now(&spec).map(|plan| plan.fields.len());
        let expected = format!("the plan asks for {fields} fields, at most {max}");
        let expected = if fits { Ok(fields) } else { Err(InitError::Refused(expected)) };
        assert_eq!(plan, expected);
    }
}

#[test]
fn a_config_one_below_at_and_above() {
    let bench = Bench::new();
    let max = limits::PLUGIN_CONFIG_BYTES_MAX;
    for (length, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
        let config = format!("{{}}{}", " ".repeat(length - 2));
        let spec = bench.spec(misbehave_filter(), &config);
        assert_eq!(bench.host.try_init_now(&spec).is_ok(), fits, "{length}");
    }
}

#[test]
fn memory_one_below_at_and_above() {
    let bench = Bench::new();
    // What an instance needs to answer, in pages, is found out first.
    let answers = |memory_bytes| {
        let mut spec = bench.spec(misbehave_filter(), "{}");
        spec.limits.memory_bytes = memory_bytes;
        bench.host.try_init_now(&spec).is_ok()
    };
    let least = (1..64).find(|pages| answers(pages << 16)).expect("some memory is enough");
    assert!(!answers((least << 16) - 1) && answers(least << 16) && answers((least << 16) + 1));
}

#[test]
fn the_breaker_opens_and_closes_by_itself() {
    let bench = Bench::new();
    let bound = poisoned(&bench, "trap");
    for _ in 0..limits::PLUGIN_BREAKER_FAILURES {
        assert_eq!(bound.breaker(), BreakerState::Closed);
        assert_eq!(bench.filter(&bound, &["poison"]), [Verdict::Stopped(Failure::Trap)]);
    }
    assert_eq!(bound.breaker(), BreakerState::Open);
    let calls = bound.stats().calls;
    assert_eq!(bench.filter(&bound, &["yes"]), [Verdict::Stopped(Failure::Trap)]);
    assert_eq!(bound.stats().calls, calls, "the plugin was not called");
    bench.clock.advance_ms(limits::PLUGIN_BREAKER_OPEN_MS_MIN);
    assert_eq!(bound.breaker(), BreakerState::HalfOpen);
    assert_eq!(bench.filter(&bound, &["yes"]), [YES]);
    assert_eq!(bound.breaker(), BreakerState::Closed);
}

#[test]
fn an_instance_is_renewed_after_its_calls() {
    let bench = Bench::new();
    // Judges by how many messages its instance saw: even ones are refused, and a fresh instance begins at 0.
    let bound = bench.bind(misbehave_filter(), r#"{"do":"impure","tag":"odd"}"#);
    assert_eq!(bench.filter(&bound, &["yes"]), [YES], "the audited call");
    assert_eq!(bench.filter(&bound, &["odd"]), [NO]);
    assert_eq!(bench.filter(&bound, &["odd"]), [YES]);
    assert_eq!(bench.filter(&bound, &["odd"]), [NO], "the next would be yes");
    // Now at call 4 of this instance; it goes after the last.
    for _ in 4..limits::PLUGIN_INSTANCE_CALLS_MAX {
        bench.filter(&bound, &["yes"]);
    }
    assert_eq!(bench.filter(&bound, &["odd"]), [NO], "a fresh instance");
}

#[test]
fn a_bad_hint_is_the_callers_to_find_and_counted_here() {
    let bench = Bench::new();
    let bound = bench.bind(misbehave_filter(), "{}");
    bound.record_bad_hint();
    assert_eq!(bound.stats().of(Failure::BadHint), 1);
}
