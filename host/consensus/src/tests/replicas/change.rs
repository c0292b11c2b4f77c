//! Who leads and who is a member, changed on purpose.

use pointsman_broker::ports::TransferError;
use pointsman_model::LogPosition;

use super::super::retention::{fill, trim, trimmed};
use super::*;

impl Replicas {
    /// A node comes back without anything, as its next life.
    fn replace(&mut self, node: NodeId) {
        self.kill(node);
        self.start(node, 1);
        self.members.values().for_each(|member| member.shard.saw(node, 1));
    }

    /// Whether the leader knows this life of a node as a voter that has everything.
    fn votes(&self, node: NodeId, incarnation: u32) -> bool {
        let status = pointsman_broker::ports::Shard::status(&**self.shard(self.leader()));
        let found = status.replicas.iter().find(|replica| replica.node == node && replica.incarnation == incarnation);
        status.replicas.len() == 3 && found.is_some_and(|replica| replica.votes && replica.matched >= status.committed)
    }
}

#[test]
fn leadership_is_handed_over_without_a_loss() {
    let replicas = Replicas::form();
    replicas.commit(setup);
    replicas.publish(0, 100);
    let (leader, follower) = (replicas.leader(), replicas.follower());
    let generation = replicas.shard(leader).state().topics[&TOPIC].generation;
    let (handed, answers) = replicas.run(leader, async |shard| {
        let answers: Vec<Answer> = (0..200)
            .map(|n| {
                let mut records = Records::default();
                records.publish(0, generation, &format!("moved {n}"), b"taken before");
                propose(shard, records)
            })
            .collect();
        let handed = shard.transfer(follower, PATIENCE).await;
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(answer.await.unwrap());
        }
        (handed, outcomes)
    });
    assert_eq!(handed, Ok(()));
    assert!(answers.iter().all(Result::is_ok), "what was taken before is committed: {answers:?}");
    assert_eq!(replicas.leader(), follower);
    let refused = replicas.run(leader, async |shard| shard.transfer(follower, PATIENCE).await);
    assert_eq!(refused, Err(TransferError::NotLeader));
    let unknown = replicas.run(follower, async |shard| shard.transfer(NodeId(9), PATIENCE).await);
    assert_eq!(unknown, Err(TransferError::NotAVoter(NodeId(9))));
    let start = Instant::now();
    replicas.commit(|| {
        let mut records = Records::default();
        records.publish(0, generation, "after", b"after");
        records
    });
    println!("the first entry {} ms after the hand-over", start.elapsed().as_millis());
    assert_eq!(replicas.shard(follower).state().ends(TOPIC, QueueId(0)).latest, 301);
}

#[test]
fn a_node_that_leaves_hands_over_and_takes_nothing_back() {
    let replicas = Replicas::form();
    replicas.commit(setup);
    let leaving = replicas.leader();
    assert!(replicas.run(leaving, async |shard| shard.leave(PATIENCE).await));
    let leader = replicas.leader();
    assert_ne!(leader, leaving);
    let refused = replicas.run(leader, async |shard| shard.transfer(leaving, Duration::from_secs(5)).await);
    assert_eq!(refused, Err(TransferError::TimedOut(leaving)));
    replicas.publish(0, 10);
    assert_eq!(replicas.leader(), leader, "it goes on where it was");
}

#[test]
fn leadership_is_not_handed_to_a_node_that_is_away() {
    let mut replicas = Replicas::form();
    replicas.commit(setup);
    let (leader, follower) = (replicas.leader(), replicas.follower());
    replicas.kill(follower);
    let away = replicas.run(leader, async |shard| shard.transfer(follower, Duration::from_secs(5)).await);
    assert_eq!(away, Err(TransferError::TimedOut(follower)));
    replicas.publish(0, 10);
    assert_eq!(replicas.leader(), leader);
}

#[test]
fn a_replaced_node_gets_its_voice_back() {
    let mut replicas = Replicas::form();
    replicas.commit(setup);
    replicas.publish(0, 200);
    let replaced = replicas.follower();
    replicas.replace(replaced);
    wait_for("the new life votes", || replicas.votes(replaced, 1));
    replicas.converge(200);
    // Its voice counts: without the third node it makes the quorum.
    let third = *replicas.members.keys().find(|node| **node != replaced && **node != replicas.leader()).unwrap();
    replicas.kill(third);
    replicas.publish(200, 50);
    replicas.start(third, 0);
    replicas.converge(250);
}

#[test]
fn a_replica_that_needs_what_is_purged_gets_the_checkpoint() {
    let mut replicas = Replicas::form();
    replicas.commit(setup);
    let replaced = replicas.follower();
    let leader = replicas.leader();
    let base: LogPosition = replicas.run(leader, async |shard| {
        fill(shard, 60).await;
        let base = *shard.state().segments.keys().nth(3).unwrap();
        assert_eq!(trimmed(shard, trim(shard, base)).await.blocked, None);
        base
    });
    wait_for("the leader purges", || replicas.shard(leader).metrics().purged.is_some());
    replicas.replace(replaced);
    wait_for("the new life votes", || replicas.votes(replaced, 1));
    let got = replicas.shard(replaced).metrics();
    assert_eq!(got.checkpoints_installed, 1, "{got:?}");
    assert!(got.purged.is_some() && got.retained_bytes <= replicas.shard(leader).metrics().end.0 - base.0 + (64 << 10));
    wait_for("the same state", || {
        let (a, b) = (replicas.shard(leader).metrics(), replicas.shard(replaced).metrics());
        (a.applied, a.outcome_hash, a.end) == (b.applied, b.outcome_hash, b.end)
    });
    for queue in [0, 1].map(QueueId) {
        let read = |node| {
            let shard: &Arc<Shard> = replicas.shard(node);
            let from = pointsman_model::QueueOffset(shard.state().ends(TOPIC, queue).earliest);
            let entries = shard.queue(TOPIC, queue, from, usize::MAX).unwrap();
            let body = |entry| shard.record(entry).unwrap().body;
            entries.iter().map(|entry| (entry.position, body(entry))).collect::<Vec<_>>()
        };
        assert_eq!(read(leader), read(replaced), "queue {queue}");
        assert!(!read(leader).is_empty());
    }
    // And it starts again from what it was given.
    replicas.kill(replaced);
    replicas.start(replaced, 1);
    replicas.run(leader, async |shard| fill(shard, 4).await);
    wait_for("the same log", || {
        let (a, b) = (replicas.shard(leader).metrics(), replicas.shard(replaced).metrics());
        (a.applied, a.outcome_hash, a.end) == (b.applied, b.outcome_hash, b.end)
    });
}
