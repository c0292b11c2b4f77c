//! Three replicas of one shard in one process, on real disks.

mod change;
mod mesh;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use pointsman_broker::ports::BarrierError;
use pointsman_model::NodeId;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::shard::{check_messages, publish, runtime};
use super::*;
use crate::{Cluster, Role};
use mesh::{Mesh, Side};

/// Longer than any change of leader takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

fn nodes() -> BTreeMap<NodeId, String> {
    (1..=3).map(|node| (NodeId(node), format!("node-{node}:1"))).collect()
}

/// A replica: its runtime dies with it, as a process would.
pub(super) struct Member {
    pub(super) runtime: Option<Runtime>,
    pub(super) shard: Arc<Shard>,
}

/// Replicas by node.
pub(super) struct Replicas {
    pub(super) dir: TempDir,
    pub(super) mesh: Arc<Mesh>,
    pub(super) members: BTreeMap<NodeId, Member>,
}

impl Replicas {
    /// Three replicas, the first of which initialised them.
    pub(super) fn form() -> Self {
        let mut replicas = Self { dir: tempfile::tempdir().unwrap(), mesh: Mesh::new(), members: BTreeMap::new() };
        for node in nodes().into_keys() {
            replicas.start(node, 0);
        }
        let first = &replicas.members[&NodeId(1)];
        first.runtime.as_ref().unwrap().block_on(first.shard.initialise(&nodes())).unwrap();
        replicas
    }

    pub(super) fn path(&self, node: NodeId, incarnation: u32) -> PathBuf {
        self.dir.path().join(format!("{node}-{incarnation}"))
    }

    pub(super) fn start(&mut self, node: NodeId, incarnation: u32) {
        let path = self.path(node, incarnation);
        std::fs::create_dir_all(&path).unwrap();
        let transport = Arc::new(Side { mesh: Arc::clone(&self.mesh), node });
        let config = ShardConfig {
            identity: Identity { node: node.0, incarnation, ..identity() },
            cluster: Some(Cluster { transport, nodes: nodes() }),
            ..config(&path)
        };
        let runtime = runtime();
        let shard = Arc::new(runtime.block_on(Shard::open(config)).unwrap());
        self.mesh.join(node, &shard);
        self.members.insert(node, Member { runtime: Some(runtime), shard });
    }

    /// Ends a replica as it is, without a flush.
    pub(super) fn kill(&mut self, node: NodeId) {
        self.mesh.leave(node);
        let mut member = self.members.remove(&node).unwrap();
        drop(member.shard);
        member.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }

    pub(super) fn shard(&self, node: NodeId) -> &Arc<Shard> {
        &self.members[&node].shard
    }

    /// The one that may propose, once there is one.
    pub(super) fn leader(&self) -> NodeId {
        let mut found = None;
        wait_for("a leader", || {
            found = self.members.iter().find(|(_, member)| member.shard.leadership().is_some()).map(|(node, _)| *node);
            found.is_some()
        });
        found.unwrap()
    }

    pub(super) fn follower(&self) -> NodeId {
        let leader = self.leader();
        *self.members.keys().find(|node| **node != leader).unwrap()
    }

    pub(super) fn run<T>(&self, node: NodeId, work: impl AsyncFnOnce(&Arc<Shard>) -> T) -> T {
        let member = &self.members[&node];
        member.runtime.as_ref().unwrap().block_on(work(&member.shard))
    }

    /// Proposes at whoever leads until it is told that the entry is committed.
    pub(super) fn commit(&self, records: impl Fn() -> Records) -> Committed {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader();
            let answer = self.run(leader, async |shard| {
                let (reply, answer) = oneshot::channel();
                let Some(term) = shard.leadership() else { return Err(ProposeError::NotLeader) };
                shard.propose(records().proposal(term), reply);
                answer.await.unwrap()
            });
            match answer {
                Ok(committed) => return committed,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
        }
    }

    pub(super) fn publish(&self, first: u64, count: u64) {
        let leader = self.leader();
        self.run(leader, async |shard| publish(shard, first, count).await);
    }

    /// Waits until all have applied the same, and compares everything that must be equal.
    pub(super) fn converge(&self, count: u64) {
        let applied = |shard: &Arc<Shard>| (shard.metrics().applied, shard.metrics().last);
        let leader = self.leader();
        wait_for("the same log everywhere", || {
            let expected = applied(self.shard(leader));
            expected.0 == expected.1 && self.members.values().all(|member| applied(&member.shard) == expected)
        });
        let expected = self.shard(leader).metrics();
        for (node, member) in &self.members {
            let metrics = member.shard.metrics();
            assert_eq!((metrics.outcome_hash, metrics.end), (expected.outcome_hash, expected.end), "node {node}");
            assert_eq!(metrics.failure, None, "node {node}");
            check_messages(&member.shard, count);
        }
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        let nodes: Vec<_> = self.members.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.kill(node));
    }
}

#[track_caller]
pub(super) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn entries_are_on_all_replicas_and_survive_the_leader() {
    let mut replicas = Replicas::form();
    replicas.commit(setup);
    replicas.publish(0, 200);
    replicas.converge(200);
    let first = replicas.leader();
    let term = replicas.shard(first).leadership().unwrap();
    replicas.kill(first);
    let start = Instant::now();
    replicas.publish(200, 1);
    println!("the first entry after {} ms without the leader", start.elapsed().as_millis());
    replicas.publish(201, 99);
    let second = replicas.leader();
    assert!(second != first && replicas.shard(second).leadership().unwrap() > term);
    replicas.start(first, 0);
    replicas.converge(300);
}

#[test]
fn a_follower_that_was_away_catches_up_from_the_log() {
    let mut replicas = Replicas::form();
    replicas.commit(setup);
    let follower = replicas.follower();
    replicas.publish(0, 50);
    replicas.kill(follower);
    replicas.publish(50, 500);
    replicas.start(follower, 0);
    replicas.converge(550);
    assert_eq!(replicas.shard(follower).metrics().role, Role::Follower);
}

#[test]
fn a_leader_without_a_quorum_refuses_and_what_it_took_is_not_served() {
    let replicas = Replicas::form();
    replicas.commit(setup);
    replicas.publish(0, 10);
    replicas.converge(10);
    let old = replicas.leader();
    let term = replicas.shard(old).leadership().unwrap();
    replicas.mesh.isolate(old, true);
    let cut = Instant::now();
    // Taken, because nothing tells it yet that it is alone.
    let generation = replicas.shard(old).state().topics[&TOPIC].generation;
    let mut lost = Records::default();
    lost.publish(0, generation, "lost", b"lost");
    let answer = replicas.run(old, async |shard| propose(shard, lost));
    wait_for("the end of the lease", || replicas.shard(old).leadership().is_none());
    assert!(cut.elapsed() < Duration::from_secs(2), "{:?}", cut.elapsed());
    let refused = replicas.run(old, async |shard| {
        let (reply, answer) = oneshot::channel();
        shard.propose(setup().proposal(term), reply);
        answer.await.unwrap().unwrap_err()
    });
    assert_eq!(refused, ProposeError::NotLeader);
    let unknown = replicas.run(old, async |_| answer.await.unwrap().unwrap_err());
    assert_eq!(
        unknown,
        ProposeError::OutcomeUnknown,
        "it is in a log, and nobody can say whether it will be overwritten"
    );
    assert!(cut.elapsed() < Duration::from_secs(2), "{:?}", cut.elapsed());
    let stale = replicas.run(old, async |shard| shard.barrier(Duration::from_millis(300)).await);
    assert_eq!(stale, Err(BarrierError::NoLeader));
    replicas.publish(10, 20);
    assert_eq!(replicas.shard(old).state().ends(TOPIC, QueueId(0)).latest, 10, "nothing uncommitted is there");
    replicas.mesh.isolate(old, false);
    replicas.converge(30);
}

#[test]
fn a_fresh_read_on_a_follower_sees_what_was_committed_before() {
    let replicas = Replicas::form();
    replicas.commit(setup);
    let follower = replicas.follower();
    for n in 0..20 {
        replicas.publish(n, 1);
        replicas.run(follower, async |shard| shard.barrier(PATIENCE).await.unwrap());
        assert_eq!(replicas.shard(follower).state().ends(TOPIC, QueueId(0)).latest, n + 1);
    }
    replicas.mesh.isolate(follower, true);
    let alone = replicas.run(follower, async |shard| shard.barrier(Duration::from_millis(200)).await);
    assert_eq!(alone, Err(BarrierError::NoLeader));
    replicas.mesh.isolate(follower, false);
    replicas.run(follower, async |shard| shard.barrier(PATIENCE).await.unwrap());
}
