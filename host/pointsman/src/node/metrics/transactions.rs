//! What the shards tell of transactions, as OpenMetrics families.

use std::fmt::Write as _;

use pointsman_broker::state::TransactionState;
use pointsman_broker::view::TransactionStats;

/// Appends the families.
pub(crate) fn write(stats: &[TransactionStats], text: &mut String) {
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "# TYPE pointsman_transactions gauge");
    let _ = writeln!(text, "# HELP pointsman_transactions Transactions that are remembered, by what became of them.");
    for stats in stats {
        for (state, count) in TransactionState::ALL.into_iter().zip(stats.by_state) {
            let (shard, state) = (stats.shard, state.as_str());
            let _ = writeln!(text, "pointsman_transactions{{shard=\"{shard}\",state=\"{state}\"}} {count}");
        }
    }
    let _ = writeln!(text, "# TYPE pointsman_transaction_checks counter");
    let _ = writeln!(text, "# HELP pointsman_transaction_checks Questions about transactions without a verdict.");
    for stats in stats {
        let _ = writeln!(text, "pointsman_transaction_checks_total{{shard=\"{}\"}} {}", stats.shard, stats.checks);
    }
    let _ = writeln!(text, "# TYPE pointsman_transaction_discarded_messages counter");
    let _ = writeln!(text, "# HELP pointsman_transaction_discarded_messages Messages of expired transactions.");
    for stats in stats {
        let (shard, discarded) = (stats.shard, stats.discarded);
        let _ = writeln!(text, "pointsman_transaction_discarded_messages_total{{shard=\"{shard}\"}} {discarded}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_line() {
        let mut text = String::new();
        write(&[TransactionStats { by_state: [1, 2, 3, 4], checks: 5, ..TransactionStats::default() }], &mut text);
        assert!(text.contains("pointsman_transactions{shard=\"0\",state=\"rolled-back\"} 3\n"), "{text}");
        assert!(text.contains("pointsman_transaction_checks_total{shard=\"0\"} 5\n"), "{text}");
    }
}
