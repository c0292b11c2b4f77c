//! A replica whose files were damaged while it was down has them again from the others, byte for byte, and serves
//! nothing wrong on the way.
//!
//! One node writes a log alone; the others are copies of its directory, so that all three have the same bytes, as
//! replicas do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{NodeId, QueueOffset};
use tempfile::TempDir;

use super::shard::{check_messages, message, publish, wait_until};
use super::*;
use crate::Cluster;
use crate::questions;
use crate::transport::{AppendStream, Lane, Transport, TransportError};

/// What is done to segment files, in words.
type Harm<'a> = (&'a str, &'a dyn Fn(&[PathBuf]));

/// Messages of each queue.
const MESSAGES: u64 = 200;

/// Shards that answer each other's questions.
#[derive(Default)]
struct Way(Mutex<BTreeMap<NodeId, Arc<Shard>>>);

impl Transport for Way {
    fn call(
        &self,
        to: NodeId,
        _lane: Lane,
        _shard: ShardId,
        request: Vec<Bytes>,
        _within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let target = self.0.lock().get(&to).cloned();
        Box::pin(async move {
            let Some(shard) = target else { return Err(TransportError::Unreachable(to)) };
            let refused = |reason: String| TransportError::Refused { node: to, reason };
            let Some(answer) = questions::serve(&shard.core, &request.concat()) else {
                return Err(refused("no question".into()));
            };
            answer.await.map(|pieces| pieces.concat().into()).map_err(refused)
        })
    }

    fn append_stream(&self, to: NodeId, _shard: ShardId) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        Box::pin(async move { Err(TransportError::Unreachable(to)) })
    }
}

/// Three directories with one log.
struct Group {
    root: TempDir,
    way: Arc<Way>,
}

impl Group {
    /// A log of several segments, all but the last sealed.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let group = Self { root, way: Arc::default() };
        std::fs::create_dir(group.dir(1)).unwrap();
        let runtime = super::shard::runtime();
        runtime.block_on(async {
            let shard = Shard::open(config(&group.dir(1))).await.unwrap();
            commit(&shard, setup()).await;
            publish(&shard, 0, MESSAGES).await;
            wait_until(|| shard.metrics().segments_sealed + 1 == shard.metrics().segments);
            assert!(shard.metrics().segments > 3);
            shard.shutdown().await.unwrap();
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        for node in [2, 3] {
            copy(&group.dir(1), &group.dir(node));
        }
        group
    }

    fn dir(&self, node: u32) -> PathBuf {
        self.root.path().join(format!("node{node}"))
    }

    fn config(&self, node: u32) -> ShardConfig {
        let nodes = (1..=3).map(|node| (NodeId(node), String::new())).collect();
        ShardConfig {
            identity: Identity { node, ..identity() },
            cluster: Some(Cluster { transport: Arc::clone(&self.way) as _, nodes }),
            ..config(&self.dir(node))
        }
    }

    async fn open(&self, node: u32) -> Arc<Shard> {
        let shard = Arc::new(Shard::open(self.config(node)).await.unwrap());
        self.way.0.lock().insert(NodeId(node), Arc::clone(&shard));
        shard
    }

    /// Segment files, oldest first.
    fn segments(&self, node: u32) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.dir(node).join("1/log")).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
        files.sort();
        files
    }

    /// Their bytes without the watermarks.
    fn bytes(&self, node: u32) -> Vec<(String, Vec<u8>)> {
        let masked = |path: PathBuf| {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[512..532].fill(0);
            bytes[1_024..1_044].fill(0);
            (path.file_name().unwrap().to_string_lossy().into_owned(), bytes)
        };
        self.segments(node).into_iter().map(masked).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Writes a file's new content; sealed files stay read-only.
fn put(path: &Path, bytes: &[u8]) {
    let permissions = std::fs::metadata(path).map(|metadata| metadata.permissions()).ok();
    drop(std::fs::remove_file(path));
    std::fs::write(path, bytes).unwrap();
    if let Some(permissions) = permissions {
        std::fs::set_permissions(path, permissions).unwrap();
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    put(path, &bytes);
}

/// Everything that can be read is right; true if everything can be read.
fn serves_nothing_wrong(shard: &Shard) -> bool {
    let mut whole = true;
    for queue in [0, 1] {
        let Ok(entries) = shard.queue(TOPIC, QueueId(queue), QueueOffset(0), usize::MAX) else {
            whole = false;
            continue;
        };
        for (n, entry) in (0..).zip(&entries) {
            match shard.record(entry) {
                Ok(record) => assert_eq!(record.body, message(if queue == 0 { n } else { n + 1_000_000 })),
                Err(_) => whole = false,
            }
        }
        whole &= entries.len() as u64 == MESSAGES;
    }
    whole
}

/// Damages one node's files, starts all three, and waits until the files are what they were. `known`: a start notices.
fn check(group: &Group, known: bool, harm: impl FnOnce(&[PathBuf])) {
    let runtime = super::shard::runtime();
    let expected = group.bytes(2);
    harm(&group.segments(2));
    assert!(group.bytes_or_none() != Some(expected.clone()), "the harm did nothing");
    runtime.block_on(async {
        let damaged = group.open(2).await;
        assert_eq!(!damaged.recovery().damages.is_empty(), known);
        if known {
            assert_eq!(damaged.leadership(), None);
            assert!(damaged.failure().unwrap().contains("damaged"), "{:?}", damaged.failure());
            serves_nothing_wrong(&damaged);
            // Nobody is there to ask.
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(damaged.failure().is_some());
        }
        let _others = (group.open(1).await, group.open(3).await);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while group.bytes_or_none().as_ref() != Some(&expected) || damaged.failure().is_some() {
            serves_nothing_wrong(&damaged);
            assert!(std::time::Instant::now() < deadline, "not repaired: {:?}", damaged.failure());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wait_until(|| serves_nothing_wrong(&damaged));
        check_messages(&damaged, MESSAGES);
        wait_until(|| damaged.metrics().role == crate::Role::Learner);
        group.way.0.lock().clear();
        damaged.shutdown().await.unwrap();
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
}

impl Group {
    /// The bytes of the damaged node, if all its files can be read.
    fn bytes_or_none(&self) -> Option<Vec<(String, Vec<u8>)>> {
        let whole = self.segments(2).iter().all(|path| std::fs::metadata(path).is_ok_and(|m| m.len() > 4_096));
        whole.then(|| self.bytes(2))
    }
}

#[test]
fn lost_cut_swapped_and_overwritten_segments_come_again() {
    let harms: [Harm<'_>; 7] = [
        ("deleted", &|files| std::fs::remove_file(&files[1]).unwrap()),
        ("the first and the next deleted", &|files| {
            std::fs::remove_file(&files[0]).unwrap();
            std::fs::remove_file(&files[1]).unwrap();
        }),
        ("cut", &|files| change(&files[2], |bytes| bytes.truncate(20_000))),
        ("empty", &|files| put(&files[1], b"")),
        ("swapped", &|files| {
            let (first, second) = (std::fs::read(&files[1]).unwrap(), std::fs::read(&files[2]).unwrap());
            put(&files[1], &second);
            put(&files[2], &first);
        }),
        ("header zeroed", &|files| change(&files[0], |bytes| bytes[..4_096].fill(0))),
        ("header of the last zeroed", &|files| change(&files[files.len() - 1], |bytes| bytes[..4_096].fill(0))),
    ];
    for (name, harm) in harms {
        println!("{name}");
        check(&Group::new(), true, harm);
    }
}

#[test]
fn sealed_segments_that_rot_are_found_and_come_again_while_the_shard_runs() {
    let harms: [Harm<'_>; 2] = [
        ("a flipped bit", &|files| change(&files[1], |bytes| bytes[30_000] ^= 4)),
        ("a zeroed page", &|files| change(&files[0], |bytes| bytes[8_192..12_288].fill(0))),
    ];
    for (name, harm) in harms {
        println!("{name}");
        check(&Group::new(), false, harm);
    }
}
