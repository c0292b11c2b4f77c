//! What a shard does when disk, files or callers misbehave.

use openraft::storage::RaftLogStorage as _;
use parking_lot::Mutex;
use pointsman_broker::ports::{EarlyAck, ReadError};
use pointsman_model::{LogIndex, QueueOffset};
use pointsman_storage::disk::Disk as _;
use pointsman_storage::disk::sim::{Call, Fault, Injection, SimDisk};
use pointsman_storage::state::StateTree;

use super::shard::{check_messages, message, publish, runtime, wait_until};
use super::*;
use crate::log_store::LogStore;
use crate::raft_types::log_id;
use crate::{Node, NodeConfig, Role};

/// A shard whose log lies on a simulated disk; the state's files do not.
fn simulated(dir: &Path) -> (SimDisk, ShardConfig) {
    let disk = SimDisk::default();
    let mut ancestors: Vec<_> = dir.ancestors().collect();
    ancestors.pop();
    for ancestor in ancestors.into_iter().rev() {
        disk.create_dir(ancestor).unwrap();
    }
    let config = ShardConfig { disk: Arc::new(disk.clone()), segment_bytes: 16 << 10, ..config(dir) };
    (disk, config)
}

fn always(call: Call, kind: std::io::ErrorKind) -> Injection {
    Injection { call, path_contains: "/log/", skip: 0, times: u64::MAX, fault: Fault::Error(kind) }
}

#[test]
fn a_full_disk_refuses_before_proposing_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (disk, config) = simulated(dir.path());
        let shard = Shard::open(config).await.unwrap();
        commit(&shard, setup()).await;
        disk.inject(always(Call::Reserve, std::io::ErrorKind::StorageFull));
        let generation = shard.state().topics[&TOPIC].generation;
        let mut stored = 0;
        let refused = loop {
            let mut records = Records::default();
            records.publish(0, generation, "same", &message(1_000_000 + stored));
            match propose(&shard, records).await.unwrap() {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 1_000, "the disk never fills");
        };
        assert_eq!(refused, ProposeError::DiskFull);
        assert!(stored > 3, "{stored} messages fit into the segment that was there");
        let last = shard.metrics().last;
        assert_eq!(shard.state().ends(TOPIC, QueueId(0)).latest, stored);
        assert_eq!((shard.failure(), shard.metrics().last), (None, last));
        disk.heal();
        let mut records = Records::default();
        records.publish(0, generation, "same", b"goes on");
        commit(&shard, records).await;
        assert_eq!(shard.state().ends(TOPIC, QueueId(0)).latest, stored + 1);
    });
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_ends_the_shard() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let (disk, config) = simulated(dir.path());
        let shard = Shard::open(config).await.unwrap();
        commit(&shard, setup()).await;
        let term = shard.leadership().unwrap();
        disk.inject(Injection { times: 1, ..always(Call::Sync, std::io::ErrorKind::Other) });
        let heard = Arc::new(Heard::default());
        let mut records = Records::default();
        records.publish(0, Generation(1), "k", b"in doubt");
        let (reply, answer) = oneshot::channel();
        shard.propose(Proposal { early: Some(Arc::clone(&heard) as _), ..records.proposal(term) }, reply);
        assert_eq!(answer.await.unwrap().unwrap_err(), ProposeError::OutcomeUnknown);
        assert!(matches!(heard.0.lock()[..], [Event::Appended(..), Event::Fsynced(false)]), "{heard:?}");
        wait_until(|| shard.leadership().is_none());
        assert_eq!(shard.metrics().role, Role::Stopped);
        assert!(shard.failure().is_some());
        let (reply, answer) = oneshot::channel();
        shard.propose(setup().proposal(term), reply);
        assert!(matches!(answer.await.unwrap(), Err(ProposeError::StorageFailed(_))));
        assert_eq!(shard.state().ends(TOPIC, QueueId(0)).latest, 0, "it was never applied");
    });
}

#[test]
fn a_command_of_a_newer_release_fences_the_node() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let runtime = runtime();
        runtime.block_on(async {
            let opened = Shard::open(config(dir.path())).await;
            if round == 1 {
                // The entry is in the log, and this release never goes past it.
                let error = opened.map(|_| ()).unwrap_err().to_string();
                assert!(error.contains("kind 99"), "{error}");
                return;
            }
            let shard = opened.unwrap();
            commit(&shard, setup()).await;
            let mut newer = Records::default();
            newer.add(&Header { kind: 99, ..Header::default() }, b"", b"");
            assert_eq!(propose(&shard, newer).await.unwrap().unwrap_err(), ProposeError::OutcomeUnknown);
            assert_eq!(shard.leadership(), None);
            assert!(shard.failure().unwrap().contains("kind 99"), "{:?}", shard.failure());
            let (reply, answer) = oneshot::channel();
            shard.propose(setup().proposal(Term(1)), reply);
            assert!(matches!(answer.await.unwrap(), Err(ProposeError::StorageFailed(_))));
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// A proposal whose outcomes would not fit its count ends the shard for good, once it is in the log.
#[test]
#[should_panic(expected = "records proposed as")]
fn a_proposal_that_contradicts_itself_never_reaches_the_log() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        let (reply, _answer) = oneshot::channel();
        let proposal = setup().proposal(shard.leadership().unwrap());
        shard.propose(Proposal { count: 5, ..proposal }, reply);
    });
}

/// What an early ack was told, in order.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Event>>);

#[derive(Debug, PartialEq)]
enum Event {
    Appended(Term, LogIndex),
    Fsynced(bool),
}

impl EarlyAck for Heard {
    fn appended(&self, term: Term, index: LogIndex) {
        self.0.lock().push(Event::Appended(term, index));
    }

    fn fsynced(&self, ok: bool) {
        self.0.lock().push(Event::Fsynced(ok));
    }
}

#[test]
fn an_early_ack_hears_of_its_place_and_then_of_its_sync() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        let heard = Arc::new(Heard::default());
        let (reply, answer) = oneshot::channel();
        let proposal = setup().proposal(shard.leadership().unwrap());
        shard.propose(Proposal { early: Some(Arc::clone(&heard) as _), ..proposal }, reply);
        let committed = answer.await.unwrap().unwrap();
        let expected = [Event::Appended(committed.term, committed.index), Event::Fsynced(true)];
        wait_until(|| *heard.0.lock() == expected);
    });
}

#[test]
fn a_damaged_log_is_served_as_far_as_it_goes_and_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        commit(&shard, setup()).await;
        publish(&shard, 0, 100).await;
        // Each a group commit of its own: only the last one of a log is in doubt.
        for n in 100..140 {
            publish(&shard, n, 1).await;
        }
        shard.shutdown().await.unwrap();
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    let mut segments: Vec<_> =
        std::fs::read_dir(dir.path().join("1/log")).unwrap().map(|file| file.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let last = segments.last().unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    bytes[4_096 + 700] ^= 1;
    std::fs::write(last, bytes).unwrap();

    super::shard::runtime().block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        let metrics = shard.metrics();
        assert!(metrics.damages > 0);
        assert_eq!((metrics.role, shard.leadership()), (Role::Stopped, None));
        assert!(shard.failure().unwrap().contains("damaged"), "{:?}", shard.failure());
        let (reply, answer) = oneshot::channel();
        shard.propose(setup().proposal(Term(1)), reply);
        assert!(matches!(answer.await.unwrap(), Err(ProposeError::StorageFailed(_))));
        let entries = shard.queue(TOPIC, QueueId(0), QueueOffset(0), usize::MAX).unwrap();
        assert!(entries.len() > 10, "{} entries of the segments before", entries.len());
        assert_eq!(shard.record(&entries[0]).unwrap().body, message(0));
        let expired = shard.record(&pointsman_model::queue_entry::QueueEntry { length: 60, ..entries[0] });
        assert!(matches!(expired, Err(ReadError::Storage(_))), "a record that does not verify");
        shard.shutdown().await.unwrap();
    });
}

#[test]
fn openraft_alone_never_purges() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        commit(&shard, setup()).await;
        let first = shard.core.log.first_index();
        let mut store = LogStore::new(Arc::clone(&shard.core));
        let refused = store.purge(log_id(0, 0)).await.unwrap_err();
        assert!(refused.to_string().contains("refused to purge"), "{refused}");
        assert_eq!(shard.core.log.first_index(), first, "nothing is gone");
        assert!(shard.failure().is_some());
        let (reply, answer) = oneshot::channel();
        shard.propose(setup().proposal(Term(1)), reply);
        assert!(matches!(answer.await.unwrap(), Err(ProposeError::StorageFailed(_))));
    });
}

#[test]
fn a_lost_state_comes_again_from_the_checkpoint_and_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let first = runtime();
    let hash = first.block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        commit(&shard, setup()).await;
        publish(&shard, 0, 60).await;
        let core = Arc::clone(&shard.core);
        let snapshot = tokio::task::spawn_blocking(move || core.export()).await.unwrap().unwrap();
        assert_eq!(snapshot.meta.last_log_id.map(|id| LogIndex(id.index)), shard.metrics().applied);
        publish(&shard, 60, 40).await;
        shard.shutdown().await.unwrap();
        shard.metrics().outcome_hash
    });
    first.shutdown_timeout(Duration::from_secs(5));
    StateTree::destroy(&dir.path().join("1/state")).unwrap();
    runtime().block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        assert!(shard.recovery().applied < shard.recovery().last && shard.recovery().applied > Some(LogIndex(50)));
        check_messages(&shard, 100);
        // The new leader's blank entry has no outcome, but counts.
        assert_ne!((shard.metrics().outcome_hash, hash), (0, 0));
    });
}

#[test]
fn a_node_opens_both_shards_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Term(0);
    for _ in 0..2 {
        let runtime = runtime();
        runtime.block_on(async {
            let clock = Arc::new(SystemClock::new());
            let config = NodeConfig {
                segment_bytes: 64 << 10,
                zero_ahead: false,
                ..NodeConfig::new(dir.path().to_path_buf(), identity(), Arc::new(RealDisk), clock)
            };
            let node = Node::open(config).await.unwrap();
            for (n, shard) in (0..).zip(node.shards()) {
                assert_eq!(shard.id(), ShardId(n));
                commit(shard, setup()).await;
            }
            assert!(node.data[0].leadership() > Some(last));
            last = node.data[0].leadership().unwrap();
            node.shutdown().await.unwrap();
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}
