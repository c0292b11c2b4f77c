//! The fault matrix: every fault under publish, lease and transaction load.
//!
//! One round by default. `FAULT_ROUNDS=10` makes forty faults of it:
//!
//! ```sh
//! FAULT_ROUNDS=10 cargo test -p pointsman --test e2e fault_matrix -- --nocapture
//! ```

use std::time::Duration;

use super::fault::Fault;
use super::ledger::{Ledger, State, Wrong};
use super::nodes::Cluster;
use super::{check, load};

/// Load between two faults, so that there is something to lose.
const CALM: Duration = Duration::from_secs(2);
/// Writes resume within that of any single fault. `PROMISES` 14.
const RESUMED_WITHIN: Duration = Duration::from_secs(10);
/// Calls that must have been acknowledged between two faults, or they were no test.
const ACKNOWLEDGED_MIN: u64 = 50;

#[test]
fn fault_matrix_loses_nothing_reorders_nothing_shows_nothing_early() {
    let rounds = std::env::var("FAULT_ROUNDS").map_or(1, |rounds| rounds.parse().expect("FAULT_ROUNDS is a number"));
    let mut cluster = Cluster::start();
    let ledger = Ledger::default();
    ledger.begin("before", std::time::Instant::now());
    load::under(&mut cluster, &ledger, |cluster| {
        std::thread::sleep(CALM);
        for _ in 0..rounds {
            for fault in Fault::ALL {
                assert!(ledger.acknowledged() > ACKNOWLEDGED_MIN, "no load before: {}", fault.name());
                fault.strike(cluster, &ledger);
                std::thread::sleep(CALM);
                eprintln!("{}: resumed after {:?}", fault.name(), ledger.resumed());
            }
        }
    });
    check::everything(&cluster, &ledger);
    let state = ledger.state();
    println!("{}", table(&state));
    assert!(state.wrong.is_empty(), "{}", complaints(&state));
    assert!(state.streamed > 0 && state.delivered > 0, "nobody read");
    assert_eq!(state.periods.len(), 1 + rounds * Fault::ALL.len(), "faults that did not happen");
    for period in state.periods.iter().skip(1) {
        let resumed = period.resumed.expect("each fault was waited for");
        let single = period.name != Fault::AllKilled.name();
        assert!(!single || resumed < RESUMED_WITHIN, "{}: resumed after {resumed:?}", period.name);
    }
}

/// The first things that are wrong.
pub(crate) fn complaints(state: &State) -> String {
    let line = |(wrong, period, words): &(Wrong, usize, String)| {
        format!("{wrong:?}, {}: {words}\n", state.periods.get(*period).map_or("", |period| &period.name))
    };
    format!("{} things are wrong\n{}", state.wrong.len(), state.wrong.iter().take(20).map(line).collect::<String>())
}

/// What each kind of fault did.
fn table(state: &State) -> String {
    let mut text = String::from(
        "| fault | times | acknowledged | unknown | failed | lost | doubled | reordered | early | other | resumed p50 | most |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let names = std::iter::once("before").chain(Fault::ALL.map(Fault::name));
    for name in names {
        let of: Vec<usize> = (0..state.periods.len()).filter(|at| state.periods[*at].name == name).collect();
        let sum = |count: fn(&super::ledger::Counts) -> u64| -> u64 {
            of.iter().map(|at| count(&state.periods[*at].counts)).sum()
        };
        let wrong = |kinds: &[Wrong]| {
            state.wrong.iter().filter(|(wrong, period, _)| kinds.contains(wrong) && of.contains(period)).count()
        };
        let mut resumed: Vec<Duration> = of.iter().filter_map(|at| state.periods[*at].resumed).collect();
        resumed.sort_unstable();
        let times = match resumed.last() {
            Some(most) if name != "before" => {
                format!("{:.2} s | {:.2} s", resumed[resumed.len() / 2].as_secs_f64(), most.as_secs_f64())
            }
            _ => "– | –".to_owned(),
        };
        text += &format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {times} |\n",
            of.len(),
            sum(|counts| counts.acknowledged),
            sum(|counts| counts.unknown),
            sum(|counts| counts.failed),
            wrong(&[Wrong::Lost]),
            wrong(&[Wrong::Doubled, Wrong::Redelivered]),
            wrong(&[Wrong::Reordered]),
            wrong(&[Wrong::Early]),
            wrong(&[Wrong::Phantom, Wrong::Different]),
        );
    }
    let stored = state.seen.len();
    text + &format!("\n{stored} messages stored, {} read from streams, {} leased\n", state.streamed, state.delivered)
}
