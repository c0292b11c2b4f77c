//! Checkpoints at segment boundaries, trims, and what each replica then forgets by itself.

use std::time::Instant;

use pointsman_broker::ports::ReadError;
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueOffset};
use pointsman_state_machine::command::{Trim, TrimStep};
use pointsman_state_machine::outcome::{Blocker, Outcome, Trimmed};

use super::*;

/// Fills segments: entries of one message of some KiB.
pub(super) async fn fill(shard: &Shard, entries: usize) {
    for n in 0..entries {
        let mut records = Records::default();
        records.publish((n % 2) as u16, Generation(1), "k", &[n as u8; 6 << 10]);
        commit(shard, records).await;
        // As slow as a log is that fills its segments in more time than a checkpoint takes.
        until("a checkpoint is written", || !shard.core.boundary.is_due()).await;
    }
}

/// A trim of both queues to where the segment with that base starts, which gives up those before it.
pub(super) fn trim(shard: &Shard, base: LogPosition) -> Records {
    let first = shard.state().segments[&base];
    let steps = [0, 1].map(|queue| {
        let from = shard.state().ends(TOPIC, QueueId(queue)).earliest;
        let before = (LogIndex(first.0 - 1), Ordinal(u16::MAX));
        let to = shard.offset_after(TOPIC, QueueId(queue), before).unwrap().0;
        TrimStep { topic: TOPIC.0, queue, from, to, bytes: (to - from) * 6_000 }
    });
    let queues = steps.into_iter().filter(|step| step.to > step.from).collect();
    let head = postcard::to_stdvec(&Trim { queues, base: Some(base.0) }).unwrap();
    let mut records = Records::default();
    records.add(&Header { kind: kind::TRIM, ..Header::default() }, &head, b"");
    records
}

pub(super) async fn trimmed(shard: &Shard, records: Records) -> Trimmed {
    match &commit(shard, records).await.outcomes[..] {
        [Outcome::Trimmed(trimmed)] => *trimmed,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn files(dir: &Path, part: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir.join("1").join(part))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_trim_releases_goes_and_the_rest_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let shard = Shard::open(config(dir.path())).await.unwrap();
    commit(&shard, setup()).await;
    fill(&shard, 60).await;
    let segments: Vec<LogPosition> = shard.state().segments.keys().copied().collect();
    assert!(segments.len() >= 5, "{segments:?}");
    assert!(shard.metrics().checkpoints >= 4, "one at each boundary of so short a log");
    let (base, before) = (segments[3], shard.metrics());
    assert_eq!((before.purged, before.released), (None, None));

    let outcome = trimmed(&shard, trim(&shard, base)).await;
    assert_eq!(outcome, Trimmed { queues: 2, blocked: None, left: false });
    let upto = shard.metrics().released.unwrap();
    until("a checkpoint at or below is purged to", || shard.metrics().purged.is_some()).await;
    let after = shard.metrics();
    assert!(after.purged.unwrap() <= upto && after.retained_bytes < before.retained_bytes, "{after:?}");
    let earliest = QueueOffset(shard.state().ends(TOPIC, QueueId(0)).earliest);
    let expired = Err(ReadError::Expired { earliest });
    assert_eq!(shard.queue(TOPIC, QueueId(0), QueueOffset(0), 9), expired);
    assert!(!shard.queue(TOPIC, QueueId(0), earliest, 9).unwrap().is_empty());
    until("sidecars go with them", || files(dir.path(), "sidecar").iter().all(|name| base.0 <= number(name))).await;
    assert!(files(dir.path(), "checkpoint").len() <= 20);

    // With its state, without it, and with a damaged one: always what was there before.
    let (ends, hash) = (shard.state().queues.clone(), shard.metrics().outcome_hash);
    let mut shard = shard;
    for lost in [None, Some("state"), Some("sidecar")] {
        shard.shutdown().await.unwrap();
        drop(shard);
        if let Some(part) = lost {
            std::fs::remove_dir_all(dir.path().join("1").join(part)).unwrap();
        }
        shard = Shard::open(config(dir.path())).await.unwrap();
        assert_eq!((shard.state().queues.clone(), shard.metrics().outcome_hash != 0), (ends.clone(), hash != 0));
        for (place, ends) in &ends {
            let found = shard.queue(place.0, place.1, QueueOffset(ends.earliest), 1_000).unwrap();
            assert_eq!(found.len() as u64, ends.latest - ends.earliest, "{place:?} without {lost:?}");
            for entry in found {
                shard.record(&entry).unwrap();
            }
        }
        assert_eq!(shard.core.purge_end(), upto.0 + 1, "the fence stands where it stood");
    }
    fill(&shard, 30).await;
    let last = *shard.state().segments.last_key_value().unwrap().0;
    let records = trim(&shard, last);
    assert_eq!(trimmed(&shard, records).await.blocked, None);
    until("once more", || shard.metrics().purged > after.purged).await;
}

/// The base in the name of a file.
fn number(name: &str) -> u64 {
    name.split('.').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_keeps_its_segment_and_everything_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let shard = Shard::open(config(dir.path())).await.unwrap();
    commit(&shard, setup()).await;
    let mut parked = Records::default();
    parked.park(0, Generation(1), shard.now().plus_ms(60_000), b"later");
    commit(&shard, parked).await;
    fill(&shard, 40).await;
    let base = *shard.state().segments.keys().nth(2).unwrap();
    let records = trim(&shard, base);
    let outcome = trimmed(&shard, records).await;
    assert!(matches!(outcome.blocked, Some(Blocker::Owed(_))), "{outcome:?}");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!((shard.metrics().purged, shard.metrics().released), (None, None));
}
