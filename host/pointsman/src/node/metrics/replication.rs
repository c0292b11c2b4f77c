//! Replication as OpenMetrics families: who leads, how far the others are, what went over the wire.

use std::fmt::Write as _;

use pointsman_consensus::ShardMetrics;

/// Name, help and value of a gauge or a counter.
type Family<'a> = (&'a str, &'a str, &'a dyn Fn(&ShardMetrics) -> u64);

/// Appends the families.
pub(super) fn write(shards: &[ShardMetrics], text: &mut String) {
    let gauges: [Family<'_>; 2] = [
        ("pointsman_shard_leader", "Node that leads the shard, 0 if none is known.", &|s| {
            s.leader.map_or(0, |node| u64::from(node.0))
        }),
        ("pointsman_shard_committed_index", "Last entry known to be committed.", &|s| {
            s.committed.map_or(0, |index| index.0)
        }),
    ];
    let counters: [Family<'_>; 5] = [
        ("pointsman_shard_elections", "Elections that this node won.", &|s| s.elections),
        ("pointsman_append_sent_bytes", "Bytes of appends sent to followers.", &|s| s.append_bytes_sent),
        ("pointsman_append_sent_requests", "Appends sent to followers.", &|s| s.appends_sent),
        ("pointsman_append_received_bytes", "Bytes of appends received from leaders.", &|s| s.append_bytes_received),
        ("pointsman_checkpoint_installs", "Checkpoints taken over from a leader.", &|s| s.checkpoints_installed),
    ];
    let kinds = [("gauge", "", &gauges[..]), ("counter", "_total", &counters[..])];
    // Writing to a `String` does not fail.
    for (kind, suffix, families) in kinds {
        for (name, help, value) in families {
            let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
            for shard in shards {
                let _ = writeln!(text, "{name}{suffix}{{shard=\"{}\"}} {}", shard.shard, value(shard));
            }
        }
    }
    const LAG: &str = "pointsman_replica_lag_entries";
    let _ = writeln!(text, "# TYPE {LAG} gauge\n# HELP {LAG} Entries that a replica lacks, as its leader knows it.");
    for shard in shards {
        for (node, lag) in &shard.lags {
            if let Some(lag) = lag {
                let _ = writeln!(text, "{LAG}{{shard=\"{}\",node=\"{node}\"}} {lag}", shard.shard);
            }
        }
    }
}
