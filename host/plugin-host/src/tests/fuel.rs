//! What a decision costs, in fuel: the measure of speed that is the same on every machine.

use super::*;

/// Fuel a message of the second call (the first is audited) with `columns` for `n` messages.
fn fuel_per_message(bench: &Bench, bound: &Bound, n: usize, columns: impl Fn() -> Vec<Column>) -> u64 {
    let call = || match bound.spec().kind {
        Kind::Filter => drop(bench.host.filter_now(bound, columns(), n).expect("a good batch")),
        Kind::Dedup => drop(bench.host.dedup_now(bound, columns(), n).expect("a good batch")),
        _ => drop(bench.host.select_now(bound, &context(8), columns(), n).expect("a good batch")),
    };
    call();
    let before = bound.stats().fuel;
    call();
    (bound.stats().fuel - before) / n as u64
}

/// 64 tags, 16 different ones, that differ in their last letters only.
fn tags() -> Vec<String> {
    (0..64).map(|i| format!("order-state-{:02}", i * 7 % 16)).collect()
}

fn column_of(values: &[String]) -> Column {
    column(&values.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_decision_stays_cheap() {
    let bench = Bench::new();
    let wanted: Vec<_> = (0..8).map(|i| format!("order-state-{:02}", i * 2)).collect();

    let config = format!(r#"{{"expression":"{}"}}"#, wanted.join(" || "));
    let bound = bench.bind(builtin("tags").expect("there"), &config);
    let filter = fuel_per_message(&bench, &bound, 64, || vec![column_of(&tags())]);

    let config = format!(r#"{{"accept":{wanted:?}}}"#);
    let bound = bench.bind(&examples()[0], &config);
    let example = fuel_per_message(&bench, &bound, 64, || vec![column_of(&tags())]);

    let bound = bench.bind(&examples()[1], r#"{"property":"repository"}"#);
    let selector = fuel_per_message(&bench, &bound, 64, || vec![column_of(&tags())]);

    let costs = (filter, example, selector);
    assert!(filter <= 280 && example <= 320 && selector <= 470, "{costs:?}");
}

#[test]
fn a_key_stays_cheap() {
    let bench = Bench::new();
    let bound = bench.bind(builtin("key-window").expect("there"), r#"{"field":"tag"}"#);
    let key_window = fuel_per_message(&bench, &bound, 64, || vec![column_of(&tags())]);
    let bound = bench.bind(builtin("fingerprint").expect("there"), "{}");
    let hashes = || {
        let mut hashes = Column::default();
        (0..64_u128).for_each(|i| hashes.push(Some(&i.to_le_bytes())));
        vec![hashes]
    };
    let fingerprint = fuel_per_message(&bench, &bound, 64, hashes);
    let costs = (key_window, fingerprint);
    assert!(key_window <= 600 && fingerprint <= 1_900, "{costs:?}");
}

#[test]
fn equal_batches_cost_equal_fuel() {
    let cost = || {
        let bench = Bench::new();
        let bound = bench.bind(builtin("tags").expect("there"), r#"{"expression":"a || b"}"#);
        bench.filter(&bound, &["a", "b", "c"]);
        bound.stats().fuel
    };
    assert_eq!(cost(), cost());
}
