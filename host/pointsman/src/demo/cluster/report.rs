//! What the demonstration of a cluster tells, and whether it is what it should be.

use serde::Serialize;

use crate::output::Table;

/// All figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Nodes of the cluster.
    pub(super) nodes: usize,
    /// Time until all were ready.
    pub(super) formed_ms: u64,
    /// The node that was killed: it led the topic.
    pub(super) killed: u32,
    /// Publishes that a node said were done.
    pub(super) acknowledged: usize,
    /// Publishes that nobody said anything final about.
    pub(super) unknown: usize,
    /// Tries beyond the first, with the same key.
    pub(super) retried: u64,
    /// Time from the kill to the answer to a publish begun behind it.
    pub(super) resumed_ms: u64,
    /// Time until the killed node was ready again.
    pub(super) back_ms: u64,
    /// What each node shows.
    pub(super) seen: Vec<Seen>,
    /// Time of all of it.
    pub(super) took_ms: u64,
}

/// What one node shows of the topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    /// Which.
    pub(super) node: u32,
    /// Messages.
    pub(super) messages: usize,
    /// Acknowledged and not there.
    pub(super) lost: usize,
    /// There more than once.
    pub(super) doubled: usize,
    /// Behind a later one of its producer.
    pub(super) reordered: u64,
    /// There though nobody said so.
    pub(super) of_unknown: usize,
}

impl Report {
    /// Whether everything came out as it should.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        if self.acknowledged == 0 {
            wrong.push("nothing was acknowledged".to_owned());
        }
        for seen in &self.seen {
            let Seen { node, messages, lost, doubled, reordered, of_unknown } = seen;
            for (count, what) in [(*lost, "lost"), (*doubled, "doubled"), (*reordered as usize, "reordered")] {
                if count > 0 {
                    wrong.push(format!("node {node}: {count} {what}"));
                }
            }
            let wanted = self.acknowledged + of_unknown;
            if *messages != wanted && *lost == 0 && *doubled == 0 {
                wrong.push(format!("node {node}: {messages} messages instead of {wanted}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("the cluster broke its promise: {}", wrong.join("; "))) }
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let seconds = |ms: u64| ms as f64 / 1e3;
        let mut text = format!(
            "formed     {} nodes in {:.1} s, every shard led\n\
             killed     node {}, which led the topic, with SIGKILL under load\n\
             resumed    {:.2} s after the kill; the node was back and ready {:.1} s after its start\n\
             published  {} acknowledged by a majority, {} retried with their keys, {} unknown\n\n",
            self.nodes,
            seconds(self.formed_ms),
            self.killed,
            seconds(self.resumed_ms),
            seconds(self.back_ms),
            self.acknowledged,
            self.retried,
            self.unknown,
        );
        let mut nodes = Table::new(["NODE", "MESSAGES", "LOST", "DOUBLED", "REORDERED"]);
        for seen in &self.seen {
            nodes.row([
                seen.node.to_string(),
                seen.messages.to_string(),
                seen.lost.to_string(),
                seen.doubled.to_string(),
                seen.reordered.to_string(),
            ]);
        }
        text += &nodes.text();
        text + &format!("\nall of it took {:.1} s", seconds(self.took_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let seen = |node| Seen { node, messages: 101, of_unknown: 1, ..Seen::default() };
        let (formed_ms, resumed_ms) = (1_200, 1_540);
        let seen = vec![seen(1), seen(2), seen(3)];
        Report { nodes: 3, killed: 2, acknowledged: 100, unknown: 2, formed_ms, resumed_ms, seen, ..Report::default() }
    }

    #[test]
    fn equal_counts_are_good_and_told() {
        assert_eq!(good().verdict(), Ok(()));
        let text = good().text();
        for part in ["3 nodes in 1.2 s", "killed     node 2", "1.54 s after the kill", "100 acknowledged", "1     101 "]
        {
            assert!(text.contains(part), "`{part}` is missing in\n{text}");
        }
    }

    #[test]
    fn every_broken_promise_is_an_error() {
        let check = |change: &dyn Fn(&mut Report), expected: &str| {
            let mut report = good();
            change(&mut report);
            let error = report.verdict().expect_err(expected);
            assert!(error.contains(expected), "`{error}` lacks `{expected}`");
        };
        check(&|report| report.seen[0].lost = 1, "node 1: 1 lost");
        check(&|report| report.seen[1].doubled = 2, "node 2: 2 doubled");
        check(&|report| report.seen[2].reordered = 3, "node 3: 3 reordered");
        check(&|report| report.seen[2].messages = 100, "node 3: 100 messages instead of 101");
        check(&|report| report.acknowledged = 0, "nothing was acknowledged");
    }
}
