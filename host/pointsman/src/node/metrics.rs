//! What the shards tell of themselves, as OpenMetrics families.

pub(crate) mod deliveries;
pub(crate) mod peers;
mod replication;
pub(crate) mod retention;
pub(crate) mod timers;
pub(crate) mod transactions;

use std::fmt::Write as _;

use pointsman_consensus::{Node, ShardMetrics};

/// Microseconds in a second.
const MICROS: f64 = 1e6;

/// Name, help and value of a gauge.
type Gauge<'a> = (&'a str, &'a str, &'a dyn Fn(&ShardMetrics) -> u64);

/// Appends how many publishes were answered as duplicates.
pub(crate) fn write_duplicates(duplicates: u64, text: &mut String) {
    const NAME: &str = "pointsman_publish_duplicates";
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "# TYPE {NAME} counter\n# HELP {NAME} Publishes answered with a message stored before.");
    let _ = writeln!(text, "{NAME}_total {duplicates}");
}

/// Appends the families of a node's shards.
pub(crate) fn write(node: &Node, text: &mut String) {
    let shards: Vec<ShardMetrics> = node.shards().map(|shard| shard.metrics()).collect();
    families(&shards, text);
}

fn families(shards: &[ShardMetrics], text: &mut String) {
    let index = |index: Option<pointsman_model::LogIndex>| index.map_or(0, |index| index.0);
    let gauges: [Gauge<'_>; 16] = [
        ("pointsman_shard_leads", "Whether this node leads the shard.", &|s| u64::from(s.role.as_str() == "leader")),
        ("pointsman_shard_term", "Current Raft term.", &|s| s.term.0),
        ("pointsman_log_last_index", "Last entry of the log.", &|s| index(s.last)),
        ("pointsman_log_flushed_index", "Last entry fsynced.", &|s| index(s.flushed)),
        ("pointsman_shard_applied_index", "Last entry applied.", &|s| index(s.applied)),
        ("pointsman_state_flushed_index", "Entry that a restart would find the state at.", &|s| index(s.state_flushed)),
        ("pointsman_log_end_bytes", "Bytes of frames since the shard's birth.", &|s| s.end.0),
        ("pointsman_log_retained_bytes", "Bytes of frames that the log holds.", &|s| s.retained_bytes),
        ("pointsman_log_purged_index", "Last entry that the log no longer holds.", &|s| index(s.purged)),
        ("pointsman_log_released_index", "Last entry that nothing needs any more.", &|s| index(s.released)),
        ("pointsman_log_trimmed_ms", "When retention was applied last, Unix ms.", &|s| s.trimmed_at.0),
        ("pointsman_checkpoints_made", "Checkpoints written since the start.", &|s| s.checkpoints),
        ("pointsman_log_segments", "Segments of the log.", &|s| s.segments as u64),
        ("pointsman_log_damages", "Places of the log that could not be verified.", &|s| s.damages as u64),
        ("pointsman_log_segments_repaired", "Segments repaired while in use.", &|s| s.segments_repaired),
        ("pointsman_shard_may_vote", "Whether this node may vote in the shard.", &|s| u64::from(s.may_vote)),
    ];
    // Writing to a `String` does not fail.
    for (name, help, value) in gauges {
        let _ = writeln!(text, "# TYPE {name} gauge\n# HELP {name} {help}");
        for shard in shards {
            let _ = writeln!(text, "{name}{{shard=\"{}\"}} {}", shard.shard, value(shard));
        }
    }
    replication::write(shards, text);
    let _ = writeln!(text, "# TYPE pointsman_log_sync_seconds histogram");
    let _ = writeln!(text, "# UNIT pointsman_log_sync_seconds seconds");
    let _ = writeln!(text, "# HELP pointsman_log_sync_seconds Syncs of the log's files.");
    for shard in shards {
        let (id, times) = (shard.shard, &shard.syncs);
        let mut count = 0;
        for (i, bucket) in times.buckets.iter().enumerate() {
            count += bucket;
            let last = i + 1 == times.buckets.len();
            let end = if last { "+Inf".to_owned() } else { format!("{:?}", (1_u64 << i) as f64 / MICROS) };
            let _ = writeln!(text, "pointsman_log_sync_seconds_bucket{{shard=\"{id}\",le=\"{end}\"}} {count}");
        }
        let _ = writeln!(text, "pointsman_log_sync_seconds_sum{{shard=\"{id}\"}} {:?}", times.sum_us as f64 / MICROS);
        let _ = writeln!(text, "pointsman_log_sync_seconds_count{{shard=\"{id}\"}} {count}");
    }
    let _ = writeln!(text, "# TYPE pointsman_log_sync_failures counter");
    let _ = writeln!(text, "# HELP pointsman_log_sync_failures Failed syncs of the log's files.");
    for shard in shards {
        let _ = writeln!(text, "pointsman_log_sync_failures_total{{shard=\"{}\"}} {}", shard.shard, shard.syncs.failed);
    }
}

#[cfg(test)]
mod tests {
    use pointsman_consensus::{Role, SyncTimes};
    use pointsman_model::{LogIndex, LogPosition, NodeId, ShardId, Term, Timestamp};

    use super::*;

    #[test]
    fn families_are_open_metrics() {
        let mut syncs = SyncTimes { count: 3, failed: 1, sum_us: 1_500_000, ..SyncTimes::default() };
        syncs.buckets[1] = 2;
        syncs.buckets[20] = 1;
        let shard = ShardMetrics {
            shard: ShardId(1),
            role: Role::Leader,
            term: Term(2),
            last: Some(LogIndex(9)),
            flushed: Some(LogIndex(9)),
            leader: Some(NodeId(3)),
            committed: Some(LogIndex(8)),
            lags: vec![(NodeId(1), Some(4)), (NodeId(2), None)],
            elections: 2,
            append_bytes_sent: 700,
            appends_sent: 7,
            append_bytes_received: 90,
            checkpoints_installed: 1,
            applied: None,
            state_flushed: None,
            outcome_hash: 0,
            end: LogPosition(4_096),
            retained_bytes: 4_000,
            purged: Some(LogIndex(3)),
            released: Some(LogIndex(4)),
            trimmed_at: Timestamp(5),
            checkpoints: 6,
            segments: 1,
            segments_sealed: 0,
            damages: 0,
            segments_repaired: 2,
            may_vote: true,
            failure: None,
            syncs,
        };
        let mut text = String::new();
        families(&[shard], &mut text);
        for line in [
            "pointsman_shard_leads{shard=\"1\"} 1",
            "pointsman_log_last_index{shard=\"1\"} 9",
            "pointsman_log_segments_repaired{shard=\"1\"} 2",
            "pointsman_shard_may_vote{shard=\"1\"} 1",
            "pointsman_log_retained_bytes{shard=\"1\"} 4000",
            "pointsman_log_released_index{shard=\"1\"} 4",
            "pointsman_shard_leader{shard=\"1\"} 3",
            "pointsman_shard_committed_index{shard=\"1\"} 8",
            "pointsman_replica_lag_entries{shard=\"1\",node=\"1\"} 4",
            "pointsman_shard_elections_total{shard=\"1\"} 2",
            "pointsman_append_sent_bytes_total{shard=\"1\"} 700",
            "pointsman_log_sync_seconds_bucket{shard=\"1\",le=\"1e-6\"} 0",
            "pointsman_log_sync_seconds_bucket{shard=\"1\",le=\"2e-6\"} 2",
            "pointsman_log_sync_seconds_bucket{shard=\"1\",le=\"+Inf\"} 3",
            "pointsman_log_sync_seconds_sum{shard=\"1\"} 1.5",
            "pointsman_log_sync_seconds_count{shard=\"1\"} 3",
            "pointsman_log_sync_failures_total{shard=\"1\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
        }
    }
}
