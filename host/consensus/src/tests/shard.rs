//! A shard from the outside, on a real disk.

use std::time::Instant;

use pointsman_model::{LogIndex, Ordinal, QueueOffset};
use pointsman_state_machine::Outcome;
use pointsman_storage::state::{StateConfig, StateTree};

use super::*;

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(super) fn message(n: u64) -> Vec<u8> {
    format!("message {n} {}", "x".repeat((n * 37 % 900) as usize)).into_bytes()
}

/// Publishes `count` entries of two messages, many at once, and returns the committed ones.
pub(super) async fn publish(shard: &Shard, first: u64, count: u64) -> Vec<Committed> {
    let generation = shard.state().topics[&TOPIC].generation;
    let answers: Vec<_> = (first..first + count)
        .map(|n| {
            let mut records = Records::default();
            records.publish(0, generation, &format!("k{n}"), &message(n));
            records.publish(1, generation, "same", &message(n + 1_000_000));
            propose(shard, records)
        })
        .collect();
    let mut committed = Vec::new();
    for answer in answers {
        committed.push(answer.await.unwrap().unwrap());
    }
    committed
}

/// Reads both queues whole and compares every message, by offset, by id and by key.
pub(super) fn check_messages(shard: &Shard, count: u64) {
    for queue in [0, 1] {
        let entries = shard.queue(TOPIC, QueueId(queue), QueueOffset(0), usize::MAX).unwrap();
        assert_eq!(entries.len() as u64, count, "queue {queue}");
        assert_eq!(shard.state().ends(TOPIC, QueueId(queue)).latest, count);
        for (n, entry) in (0..).zip(&entries) {
            let expected = message(if queue == 0 { n } else { n + 1_000_000 });
            assert_eq!(shard.record(entry).unwrap().body, expected, "queue {queue} offset {n}");
            let found = shard.find(entry.term, entry.index, entry.ordinal).unwrap().expect("it is there");
            assert_eq!((found.offset, found.stored_at), (QueueOffset(n), entry.stamp));
            assert_eq!(found.record.body, expected);
            assert_eq!(shard.offset_after(TOPIC, QueueId(queue), entry.log_place()).unwrap(), QueueOffset(n + 1));
        }
    }
    let key = |key: &str| pointsman_model::hash::hash(key.as_bytes());
    assert_eq!(shard.by_key(TOPIC, key("same"), usize::MAX).unwrap().len() as u64, count);
    for n in 0..count {
        assert_eq!(shard.by_key(TOPIC, key(&format!("k{n}")), 10).unwrap().len(), 1, "k{n}");
    }
}

#[test]
fn acknowledged_entries_are_there_after_each_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    let mut last = Committed { term: Term(0), index: LogIndex(0), stamp: Timestamp(0), outcomes: Vec::new() };
    for round in 0..4_u64 {
        let runtime = runtime();
        runtime.block_on(async {
            let shard = Shard::open(config(dir.path())).await.unwrap();
            assert_eq!(shard.recovery().damages, [], "round {round}");
            if round == 0 {
                let committed = commit(&shard, setup()).await;
                assert!(committed.outcomes.iter().all(|o| matches!(o, Outcome::Configured { created: true, .. })));
            }
            check_messages(&shard, count);
            for committed in publish(&shard, count, 100).await {
                assert!(committed.index > last.index && committed.term >= last.term && committed.stamp >= last.stamp);
                for (ordinal, outcome) in committed.outcomes.iter().enumerate() {
                    let Outcome::Published(published) = outcome else { panic!("{outcome:?}") };
                    assert_eq!(published.offset, QueueOffset(count), "dense");
                    assert_eq!((published.index, published.ordinal), (committed.index, Ordinal(ordinal as u16)));
                }
                last = committed;
                count += 1;
            }
            check_messages(&shard, count);
            assert!(shard.metrics().segments > 1, "the log has grown into further segments");
            // One stops cleanly, the others are dropped as they are.
            if round == 1 {
                shard.shutdown().await.unwrap();
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

#[test]
fn sidecars_that_are_gone_or_damaged_are_made_again_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let sidecars = dir.path().join("1/sidecar");
    let read = || -> std::collections::BTreeMap<_, _> {
        let files = std::fs::read_dir(&sidecars).unwrap().map(|file| file.unwrap().path());
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let run = |check: &dyn Fn(&Shard)| {
        let runtime = runtime();
        runtime.block_on(async {
            let shard = Shard::open(config(dir.path())).await.unwrap();
            check(&shard);
            shard.shutdown().await.unwrap();
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    };
    let first = runtime();
    first.block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        commit(&shard, setup()).await;
        publish(&shard, 0, 300).await;
        wait_until(|| shard.metrics().segments_sealed + 1 == shard.metrics().segments);
        shard.shutdown().await.unwrap();
    });
    first.shutdown_timeout(Duration::from_secs(5));
    run(&|shard| assert_eq!(shard.recovery().sidecars_rebuilt, 0));
    let before = read();
    assert!(before.len() >= 6, "{} sidecar files", before.len());
    for (n, path) in before.keys().enumerate() {
        if n % 3 == 0 {
            std::fs::remove_file(path).unwrap();
        } else if n % 5 == 1 {
            let mut permissions = std::fs::metadata(path).unwrap().permissions();
            #[expect(clippy::permissions_set_readonly_false, reason = "a test's own file")]
            permissions.set_readonly(false);
            std::fs::set_permissions(path, permissions).unwrap();
            let mut bytes = std::fs::read(path).unwrap();
            bytes[20] ^= 4;
            std::fs::write(path, bytes).unwrap();
        }
    }
    run(&|shard| {
        assert!(shard.recovery().sidecars_rebuilt > 0);
        check_messages(shard, 300);
    });
    assert!(read() == before, "the sidecars differ from those that apply made");
}

#[test]
fn state_ahead_of_the_log_is_deleted_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let runtime = runtime();
        let shard = runtime.block_on(Shard::open(config(dir.path()))).unwrap();
        (runtime, shard)
    };
    let (first, shard) = open();
    let hash = first.block_on(async {
        commit(&shard, setup()).await;
        publish(&shard, 0, 20).await;
        let hash = shard.metrics().outcome_hash;
        shard.shutdown().await.unwrap();
        hash
    });
    drop(shard);
    first.shutdown_timeout(Duration::from_secs(5));
    {
        let state =
            StateTree::open(&dir.path().join("1/state"), StateConfig::new(Arc::new(|| Some(LogIndex(u64::MAX)))));
        let state = state.unwrap();
        use pointsman_storage::state::{Applied, Read as _, StateStore as _};
        let applied = state.applied().unwrap();
        let ahead = Applied { index: LogIndex(applied.index.0 + 50), meta: applied.meta };
        state.write(&ahead, &mut [(&b"\x02junk"[..], Some(&b"junk"[..]))].into_iter()).unwrap();
        state.flush_now().unwrap();
    }
    let (second, shard) = open();
    assert_eq!(shard.recovery().state_rebuilt, Some("it is ahead of the log"));
    check_messages(&shard, 20);
    // One more blank entry, whose outcomes are none.
    assert_eq!(shard.metrics().role, crate::Role::Leader);
    assert_ne!(hash, 0);
    drop(shard);
    second.shutdown_timeout(Duration::from_secs(5));
}

#[test]
fn a_restarted_node_is_writable_within_100_ms() {
    let dir = tempfile::tempdir().unwrap();
    let mut best = Duration::MAX;
    for round in 0..5 {
        let runtime = runtime();
        runtime.block_on(async {
            let start = Instant::now();
            let shard = Shard::open(config(dir.path())).await.unwrap();
            if round == 0 {
                commit(&shard, setup()).await;
            } else {
                publish(&shard, round, 1).await;
                best = best.min(start.elapsed());
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
    assert!(best < Duration::from_millis(100), "{best:?} at best");
}

#[test]
fn a_proposal_of_another_term_is_surely_not_proposed() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        let led = shard.leadership().unwrap();
        let last = shard.metrics().last;
        for term in [Term(0), Term(led.0 - 1), Term(led.0 + 1)] {
            let (reply, answer) = oneshot::channel();
            shard.propose(setup().proposal(term), reply);
            assert_eq!(answer.await.unwrap().unwrap_err(), ProposeError::NotLeader);
        }
        assert_eq!(shard.metrics().last, last);
        shard.shutdown().await.unwrap();
        let (reply, answer) = oneshot::channel();
        shard.propose(setup().proposal(led), reply);
        assert!(answer.await.unwrap().is_err());
    });
}

#[test]
fn a_stale_generation_is_refused_and_its_offset_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        commit(&shard, setup()).await;
        let mut stale = Records::default();
        stale.publish(0, Generation(99), "k", b"stale");
        let refused = commit(&shard, stale).await;
        assert!(matches!(refused.outcomes[..], [Outcome::Refused(_)]), "{:?}", refused.outcomes);
        assert!(shard.find(refused.term, refused.index, Ordinal(0)).unwrap().is_none());
        publish(&shard, 0, 1).await;
        check_messages(&shard, 1);
    });
}

/// Waits for what a background thread does.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_entry_that_would_lie_elsewhere_than_on_the_leader_ends_the_shard() {
    use openraft::entry::RaftEntry as _;
    use openraft::storage::{IOFlushed, RaftLogStorage as _};
    use openraft::type_config::TypeConfigExt as _;

    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        commit(&shard, setup()).await;
        let (term, last) = (shard.leadership().unwrap(), shard.metrics().last.unwrap());
        let id = crate::raft_types::log_id(term.0, last.0 + 1);
        let expected = Some(pointsman_model::LogPosition(shard.metrics().end.0 + 8));
        let entry = crate::entry::Entry { expected, ..crate::entry::Entry::new(id, crate::entry::Payload::Blank) };
        let mut store = crate::log_store::LogStore::new(std::sync::Arc::clone(&shard.core));
        let (done, _flushed) = crate::raft_types::Types::oneshot();
        let error = store.append([entry], IOFlushed::signal(done)).await.unwrap_err();
        assert!(error.to_string().contains("lies at"), "{error}");
        assert_eq!((shard.metrics().last, shard.failure().is_some()), (Some(last), true));
    });
}

#[test]
fn an_end_of_openraft_that_nobody_asked_for_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let shard = Shard::open(config(dir.path())).await.unwrap();
        commit(&shard, setup()).await;
        shard.raft().unwrap().shutdown().await.unwrap();
        wait_until(|| shard.failure().is_some());
        assert_eq!((shard.leadership(), shard.metrics().role), (None, crate::Role::Stopped));
    });
}
