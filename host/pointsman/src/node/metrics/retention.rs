//! What the shards tell of retention, as OpenMetrics families.

use std::fmt::Write as _;

use pointsman_broker::RetentionStats;

/// Type, name, the end of its samples' names, help, and value.
type Family<'a> = (&'a str, &'a str, &'a str, &'a str, fn(&RetentionStats) -> u64);

/// Appends the families.
pub(crate) fn write(stats: &[RetentionStats], text: &mut String) {
    const FAMILIES: [Family<'_>; 3] = [
        ("counter", "pointsman_retention_messages", "_total", "Messages that retention took from their queues.", |s| {
            s.messages
        }),
        ("counter", "pointsman_retention_carried", "_total", "Messages copied out of old segments.", |s| s.carried),
        (
            "gauge",
            "pointsman_retention_pinned_bytes",
            "",
            "Bytes that no queue reaches, with something owed in them.",
            |s| s.pinned_bytes,
        ),
    ];
    for (kind, name, end, help, value) in FAMILIES {
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
        for stats in stats {
            let _ = writeln!(text, "{name}{end}{{shard=\"{}\"}} {}", stats.shard, value(stats));
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_model::ShardId;

    use super::*;

    #[test]
    fn families_are_open_metrics() {
        let stats = RetentionStats { shard: ShardId(1), messages: 7, carried: 3, pinned_bytes: 99 };
        let mut text = String::new();
        write(&[stats], &mut text);
        for line in [
            "# TYPE pointsman_retention_messages counter",
            "pointsman_retention_messages_total{shard=\"1\"} 7",
            "pointsman_retention_carried_total{shard=\"1\"} 3",
            "pointsman_retention_pinned_bytes{shard=\"1\"} 99",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
        }
    }
}
