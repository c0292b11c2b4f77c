//! What the shards tell of attempts that ended badly, as OpenMetrics families.

use std::fmt::Write as _;

use pointsman_broker::DeliveryStats;

type Number = fn(&DeliveryStats) -> u64;

/// Name, type, help and value of each family.
const FAMILIES: [(&str, &str, &str, Number); 3] = [
    ("pointsman_retries", "counter", "Attempts that ended badly and are tried again.", |stats| stats.retries),
    ("pointsman_dead_letters", "counter", "Messages that their group gave up.", |stats| stats.dead_letters),
    ("pointsman_dead_letters_stored", "gauge", "Dead letters that were not redriven.", |stats| stats.stored),
];

/// Appends the families.
pub(crate) fn write(stats: &[DeliveryStats], text: &mut String) {
    for (name, kind, help, number) in FAMILIES {
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "# TYPE {name} {kind}");
        let _ = writeln!(text, "# HELP {name} {help}");
        let total = if kind == "counter" { "_total" } else { "" };
        for stats in stats {
            let _ = writeln!(text, "{name}{total}{{shard=\"{}\"}} {}", stats.shard, number(stats));
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_model::ShardId;

    use super::*;

    #[test]
    fn families_are_open_metrics() {
        let mut text = String::new();
        write(&[DeliveryStats { shard: ShardId(1), retries: 5, dead_letters: 2, stored: 1 }], &mut text);
        for line in [
            "# TYPE pointsman_retries counter",
            "pointsman_retries_total{shard=\"1\"} 5",
            "pointsman_dead_letters_total{shard=\"1\"} 2",
            "pointsman_dead_letters_stored{shard=\"1\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
        }
    }
}
