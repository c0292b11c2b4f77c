//! The four faults, each with the proof that it happened.

use std::time::{Duration, Instant};

use super::HOME;
use super::ledger::Ledger;
use super::nodes::{Cluster, NODES};
use super::whole::number;

/// How long a stopped leader stays stopped.
const STOPPED: Duration = Duration::from_secs(10);
/// A fault that takes longer to be overcome fails the test by itself.
const OVERCOME: Duration = Duration::from_secs(60);
/// How long a killed node is away.
const AWAY: Duration = Duration::from_millis(1_500);

/// What is done to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL to the home shard's leader, which comes back soon after.
    LeaderKilled,
    /// SIGSTOP to the home shard's leader for ten seconds.
    LeaderStopped,
    /// SIGKILL to a follower, which comes back with an empty directory and `--replace`.
    FollowerWiped,
    /// SIGKILL to all at once.
    AllKilled,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::LeaderKilled, Self::LeaderStopped, Self::FollowerWiped, Self::AllKilled];

    /// As the table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed",
            Self::LeaderStopped => "leader stopped 10 s",
            Self::FollowerWiped => "follower killed, wiped, replaced",
            Self::AllKilled => "all killed",
        }
    }

    /// Does it, waits until it is overcome, and fails if it did not happen.
    pub(crate) fn strike(self, cluster: &mut Cluster, ledger: &Ledger) {
        let (leader, term) = cluster.leader(HOME);
        let others: Vec<u32> = NODES.into_iter().filter(|node| *node != leader).collect();
        let at = Instant::now();
        match self {
            Self::LeaderKilled => {
                cluster.kill(leader);
                ledger.begin(self.name(), at);
                another_leads(cluster, &others, term);
                std::thread::sleep(AWAY.saturating_sub(at.elapsed()));
                cluster.spawn(leader, &[]);
            }
            Self::LeaderStopped => {
                cluster.stop(leader);
                ledger.begin(self.name(), at);
                another_leads(cluster, &others, term);
                std::thread::sleep(STOPPED.saturating_sub(at.elapsed()));
                assert!(cluster.is_stopped(leader), "node {leader} did not stay stopped");
                cluster.go_on(leader);
            }
            Self::FollowerWiped => {
                let follower = others[ledger.state().periods.len() % others.len()];
                let before = incarnation(cluster, follower);
                cluster.kill(follower);
                ledger.begin(self.name(), at);
                cluster.wipe(follower);
                cluster.spawn(follower, &["--replace"]);
                cluster.wait_until_whole();
                let after = incarnation(cluster, follower);
                assert!(after > before, "node {follower} was not replaced: incarnation {before}, then {after}");
            }
            Self::AllKilled => {
                for node in NODES {
                    cluster.kill(node);
                }
                ledger.begin(self.name(), at);
                NODES.iter().for_each(|node| cluster.spawn(*node, &[]));
                cluster.wait_until_whole();
                let (_, after) = cluster.leader(HOME);
                assert!(after > term, "all died and the term is still {term}");
            }
        }
        cluster.wait_until_whole();
        while ledger.resumed().is_none() {
            assert!(at.elapsed() < OVERCOME, "no publish is acknowledged after: {}\n{}", self.name(), cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Waits until one of those nodes says that one of them leads, in a later term.
fn another_leads(cluster: &Cluster, nodes: &[u32], term: u64) {
    let start = Instant::now();
    loop {
        if let Some((leader, now)) = cluster.leader_seen_by(nodes, HOME)
            && nodes.contains(&leader)
            && now > term
        {
            return;
        }
        assert!(start.elapsed() < OVERCOME, "none of {nodes:?} leads after term {term}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How often a node was replaced.
fn incarnation(cluster: &Cluster, node: u32) -> u64 {
    let view = cluster.view(node).expect("a view of a cluster that is whole");
    let nodes = view["nodes"].as_array().expect("nodes");
    let found = nodes.iter().find(|n| number(&n["node"]) == Some(u64::from(node)));
    found.and_then(|n| number(&n["incarnation"])).unwrap_or_else(|| panic!("node {node} is not in {view}"))
}
