//! All three restarted, one after the other, under load.

use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::matrix::complaints;
use super::nodes::{Cluster, NODES};
use super::{check, load};

/// Load before, between and behind.
const CALM: Duration = Duration::from_secs(2);
/// SIGTERM drains and exits within that.
const EXITS_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn rolling_restart_loses_nothing_and_doubles_nothing() {
    let mut cluster = Cluster::start();
    let ledger = Ledger::default();
    ledger.begin("before", Instant::now());
    load::under(&mut cluster, &ledger, |cluster| {
        std::thread::sleep(CALM);
        for node in NODES {
            let at = Instant::now();
            ledger.begin(&format!("node {node}"), at);
            let (code, took) = cluster.terminate(node);
            assert_eq!(code, Some(0), "SIGTERM of node {node}\n{}", cluster.logs());
            assert!(took < EXITS_WITHIN, "node {node} took {took:?} to stop");
            cluster.spawn(node, &[]);
            cluster.wait_until_whole();
            eprintln!("node {node}: stopped in {took:?}, whole after {:?}", at.elapsed());
            std::thread::sleep(CALM);
        }
    });
    check::everything(&cluster, &ledger);
    let state = ledger.state();
    for period in &state.periods {
        let counts = period.counts;
        let calls = counts.acknowledged + counts.unknown + counts.failed;
        println!(
            "{}: {calls} calls, {} unknown, {} failed: {:.3} % to be repeated; publishes within {:?}",
            period.name,
            counts.unknown,
            counts.failed,
            (counts.unknown + counts.failed) as f64 * 100.0 / calls.max(1) as f64,
            period.resumed
        );
        assert!(counts.acknowledged > 0, "no load: {}", period.name);
    }
    assert!(state.wrong.is_empty(), "{}", complaints(&state));
    assert_eq!(state.periods.len(), 1 + NODES.len());
}
