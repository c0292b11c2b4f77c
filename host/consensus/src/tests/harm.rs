//! Three replicas of which one is harmed: its files while it is down, or what its `apply` comes to.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use pointsman_model::NodeId;

use super::replicas::{Replicas, wait_for};
use super::shard::check_messages;
use super::*;

/// A node's segment files, oldest first.
fn segments(replicas: &Replicas, node: NodeId) -> Vec<PathBuf> {
    let dir = replicas.path(node, 0).join("1/log");
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect();
    files.sort();
    files
}

/// Their bytes without the watermarks, which replicas need not have in common.
fn bytes(replicas: &Replicas, node: NodeId) -> Vec<(String, Vec<u8>)> {
    let masked = |path: PathBuf| {
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.len() > 1_536 {
            bytes[512..532].fill(0);
            bytes[1_024..1_044].fill(0);
        }
        (path.file_name().unwrap().to_string_lossy().into_owned(), bytes)
    };
    segments(replicas, node).into_iter().map(masked).collect()
}

/// Writes a file's new content; a sealed one stays read-only.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    let permissions = std::fs::metadata(path).unwrap().permissions();
    change(&mut bytes);
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, permissions).unwrap();
}

/// The end of a segment's frames, as an offset in its file.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(4_096, |last| last + 1)
}

/// Publishes to whoever leads, a few times if it just changed.
fn publish(replicas: &Replicas, count: &mut u64, more: u64) {
    for n in *count..*count + more {
        replicas.commit(|| {
            let mut records = Records::default();
            let generation = Generation(1);
            records.publish(0, generation, &format!("k{n}"), &super::shard::message(n));
            records.publish(1, generation, "same", &super::shard::message(n + 1_000_000));
            records
        });
    }
    *count += more;
}

type Harm<'a> = (&'a str, &'a dyn Fn(&[PathBuf]));

const HARMS: [Harm<'static>; 10] = [
    ("a flipped bit", &|files| change(&files[0], |bytes| bytes[20_000] ^= 16)),
    ("a zeroed page", &|files| change(&files[1], |bytes| bytes[8_192..12_288].fill(0))),
    ("a flipped bit below the watermark", &|files| change(&files[files.len() - 1], |bytes| bytes[4_130] ^= 1)),
    ("a cut file", &|files| change(&files[1], |bytes| bytes.truncate(30_000))),
    ("a deleted file", &|files| std::fs::remove_file(&files[1]).unwrap()),
    ("the last file deleted", &|files| std::fs::remove_file(&files[files.len() - 1]).unwrap()),
    ("swapped files", &|files| {
        let first = std::fs::read(&files[0]).unwrap();
        let second = std::fs::read(&files[1]).unwrap();
        change(&files[0], |bytes| *bytes = second);
        change(&files[1], |bytes| *bytes = first);
    }),
    ("a torn tail", &|files| {
        change(&files[files.len() - 1], |bytes| {
            let end = used(bytes);
            bytes[end + 9..end + 900].fill(0xA7);
        });
    }),
    ("every header zeroed", &|files| {
        files.iter().for_each(|file| change(file, |bytes| bytes[..4_096].fill(0)));
    }),
    ("every file deleted", &|files| files.iter().for_each(|file| std::fs::remove_file(file).unwrap())),
];

/// Harms one node's files while it is down and the others go on, and waits until all three are equal again.
fn check(replicas: &mut Replicas, victim: NodeId, harm: Harm<'_>, count: &mut u64) {
    println!("node {victim}: {}", harm.0);
    wait_for("sealed segments", || {
        let metrics = replicas.shard(victim).metrics();
        metrics.segments_sealed + 1 == metrics.segments
    });
    replicas.kill(victim);
    let before = bytes(replicas, victim);
    harm.1(&segments(replicas, victim));
    assert!(bytes(replicas, victim) != before, "the harm did nothing");
    publish(replicas, count, 3);
    replicas.start(victim, 0);
    let shard = Arc::clone(replicas.shard(victim));
    if shard.recovery().damages.is_empty() {
        publish(replicas, count, 3);
    } else {
        assert!(shard.leadership().is_none(), "it repairs first");
    }
    wait_for("a node that is whole", || shard.failure().is_none() && shard.core.gate.reason().is_none());
    publish(replicas, count, 3);
    replicas.converge(*count);
    wait_for("equal files", || {
        let found = bytes(replicas, victim);
        [1, 2, 3].iter().all(|node| bytes(replicas, NodeId(*node)) == found)
    });
    check_messages(&shard, *count);
}

fn formed() -> (Replicas, u64) {
    let replicas = Replicas::form();
    replicas.commit(setup);
    replicas.publish(0, 200);
    replicas.converge(200);
    (replicas, 200)
}

#[test]
fn a_follower_is_whole_again_after_any_harm_to_its_files() {
    let (mut replicas, mut count) = formed();
    for harm in HARMS {
        let victim = replicas.follower();
        check(&mut replicas, victim, harm, &mut count);
    }
}

#[test]
fn a_leader_is_whole_again_after_any_harm_to_its_files() {
    let (mut replicas, mut count) = formed();
    for harm in [1, 2, 5, 9].map(|at| HARMS[at]) {
        let victim = replicas.leader();
        check(&mut replicas, victim, harm, &mut count);
    }
}

#[test]
fn replicas_with_torn_tails_elect_nobody_before_all_are_there() {
    let (mut replicas, mut count) = formed();
    let nodes = [1, 2, 3].map(NodeId);
    nodes.into_iter().for_each(|node| replicas.kill(node));
    for node in [1, 2].map(NodeId) {
        (HARMS[7].1)(&segments(&replicas, node));
        replicas.start(node, 0);
        assert!(replicas.shard(node).recovery().torn_bytes > 0);
    }
    let waited = Instant::now();
    while waited.elapsed() < Duration::from_secs(4) {
        assert!([1, 2].iter().all(|node| replicas.shard(NodeId(*node)).leadership().is_none()), "two cut their tails");
        std::thread::sleep(Duration::from_millis(20));
    }
    replicas.start(NodeId(3), 0);
    publish(&replicas, &mut count, 5);
    replicas.converge(count);
    wait_for("open gates", || nodes.iter().all(|node| replicas.shard(*node).core.gate.reason().is_none()));
}

fn bend(replicas: &Replicas, node: u32, wrong: u64) {
    replicas.shard(NodeId(node)).core.outcomes.bent.wrong.store(wrong, Ordering::Relaxed);
}

/// Three replicas that remember a hash every 16 entries.
fn watchful() -> (Replicas, u64) {
    let (replicas, count) = formed();
    for node in [1, 2, 3].map(NodeId) {
        replicas.shard(node).core.outcomes.bent.often.store(true, Ordering::Relaxed);
    }
    (replicas, count)
}

fn failures(replicas: &Replicas) -> Vec<u32> {
    replicas.members.iter().filter(|(_, member)| member.shard.failure().is_some()).map(|(node, _)| node.0).collect()
}

#[test]
fn a_replica_that_comes_to_other_outcomes_fences_itself_and_nobody_else_does() {
    for choose in [Replicas::follower, Replicas::leader] {
        let (replicas, mut count) = watchful();
        publish(&replicas, &mut count, 40);
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(failures(&replicas), [0; 0], "equal outcomes are no difference");
        let wrong = choose(&replicas);
        bend(&replicas, wrong.0, 7);
        publish(&replicas, &mut count, 40);
        wait_for("a fenced replica", || !failures(&replicas).is_empty());
        assert_eq!(failures(&replicas), [wrong.0]);
        let failure = replicas.shard(wrong).failure().unwrap();
        assert!(failure.contains("other outcomes"), "{failure}");
        assert_eq!(replicas.shard(wrong).leadership(), None);
        publish(&replicas, &mut count, 40);
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(failures(&replicas), [wrong.0], "the two that agree go on");
    }
}

#[test]
fn one_against_one_waits_for_the_third_and_three_that_differ_all_stop() {
    let (mut replicas, mut count) = watchful();
    let away = replicas.follower();
    let wrong = [1, 2, 3].map(NodeId).into_iter().find(|node| *node != away && *node != replicas.leader()).unwrap();
    replicas.kill(away);
    bend(&replicas, wrong.0, 9);
    publish(&replicas, &mut count, 40);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(failures(&replicas), [0; 0], "nobody knows who is right");
    replicas.start(away, 0);
    replicas.shard(away).core.outcomes.bent.often.store(true, Ordering::Relaxed);
    publish(&replicas, &mut count, 40);
    wait_for("a verdict", || !failures(&replicas).is_empty());
    assert_eq!(failures(&replicas), [wrong.0]);

    let (replicas, mut count) = watchful();
    (1..=3).for_each(|node| bend(&replicas, node, u64::from(node)));
    publish(&replicas, &mut count, 20);
    wait_for("all to stop", || failures(&replicas).len() == 3);
    assert!(replicas.shard(NodeId(1)).failure().unwrap().contains("no majority"));
}
