//! What the connections to other nodes tell of themselves.

use std::fmt::Write as _;

use pointsman_peer::Counters;

/// Appends the families of the peer port.
pub(crate) fn write(counters: &Counters, text: &mut String) {
    let counts: [(&str, &str, u64); 8] = [
        ("opened", "Connections that got through the hello.", counters.connected),
        ("refused", "Connections refused: strangers, other clusters.", counters.refused),
        ("garbage", "Connections closed for what arrived on them.", counters.garbage),
        ("silent", "Connections closed because the other node fell silent.", counters.silent),
        ("sent_bytes", "Bytes sent to other nodes.", counters.sent_bytes),
        ("received_bytes", "Bytes received from other nodes.", counters.received_bytes),
        ("sent_frames", "Frames sent to other nodes.", counters.sent_frames),
        ("received_frames", "Frames received from other nodes.", counters.received_frames),
    ];
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "# TYPE pointsman_peer_connections gauge");
    let _ = writeln!(text, "# HELP pointsman_peer_connections Open connections with other nodes.");
    let _ = writeln!(text, "pointsman_peer_connections {}", counters.connections);
    for (name, help, value) in counts {
        let _ = writeln!(text, "# TYPE pointsman_peer_{name} counter\n# HELP pointsman_peer_{name} {help}");
        let _ = writeln!(text, "pointsman_peer_{name}_total {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_line() {
        let mut text = String::new();
        write(&Counters { connections: 6, garbage: 2, ..Counters::default() }, &mut text);
        assert!(text.contains("pointsman_peer_connections 6\n"), "{text}");
        assert!(text.contains("pointsman_peer_garbage_total 2\n"), "{text}");
        assert_eq!(text.lines().count(), 27);
    }
}
