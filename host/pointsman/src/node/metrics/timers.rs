//! What the shards tell of delayed messages, as OpenMetrics families.

use std::fmt::Write as _;

use pointsman_broker::{LATE_BUCKETS_MS, TimerStats};

/// Milliseconds in a second.
const MILLIS: f64 = 1e3;

/// Appends the families.
pub(crate) fn write(stats: &[TimerStats], text: &mut String) {
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "# TYPE pointsman_timers_waiting gauge");
    let _ = writeln!(text, "# HELP pointsman_timers_waiting Messages that wait for their time.");
    for stats in stats {
        let _ = writeln!(text, "pointsman_timers_waiting{{shard=\"{}\"}} {}", stats.shard, stats.waiting);
    }
    let _ = writeln!(text, "# TYPE pointsman_timers_late_seconds histogram");
    let _ = writeln!(text, "# UNIT pointsman_timers_late_seconds seconds");
    let _ = writeln!(text, "# HELP pointsman_timers_late_seconds How late delayed messages were delivered.");
    for stats in stats {
        let id = stats.shard;
        let mut count = 0;
        let ends = LATE_BUCKETS_MS.iter().map(|ms| format!("{:?}", *ms as f64 / MILLIS)).chain(["+Inf".to_owned()]);
        for (bucket, end) in stats.late.iter().zip(ends) {
            count += bucket;
            let _ = writeln!(text, "pointsman_timers_late_seconds_bucket{{shard=\"{id}\",le=\"{end}\"}} {count}");
        }
        let _ =
            writeln!(text, "pointsman_timers_late_seconds_sum{{shard=\"{id}\"}} {:?}", stats.late_ms as f64 / MILLIS);
        let _ = writeln!(text, "pointsman_timers_late_seconds_count{{shard=\"{id}\"}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use pointsman_model::ShardId;

    use super::*;

    #[test]
    fn families_are_open_metrics() {
        let mut late = [0; LATE_BUCKETS_MS.len() + 1];
        (late[1], late[8]) = (2, 1);
        let stats = TimerStats { shard: ShardId(1), waiting: 7, fired: 3, late_ms: 20_008, late };
        let mut text = String::new();
        write(&[stats], &mut text);
        for line in [
            "pointsman_timers_waiting{shard=\"1\"} 7",
            "pointsman_timers_late_seconds_bucket{shard=\"1\",le=\"0.001\"} 0",
            "pointsman_timers_late_seconds_bucket{shard=\"1\",le=\"0.005\"} 2",
            "pointsman_timers_late_seconds_bucket{shard=\"1\",le=\"10.0\"} 2",
            "pointsman_timers_late_seconds_bucket{shard=\"1\",le=\"+Inf\"} 3",
            "pointsman_timers_late_seconds_sum{shard=\"1\"} 20.008",
            "pointsman_timers_late_seconds_count{shard=\"1\"} 3",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
        }
    }
}
