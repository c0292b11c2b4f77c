//! The batcher over a fake shard.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_model::record::{Header, kind};
use pointsman_model::time::FakeClock;
use pointsman_model::{ShardId, TenantId, Term, Timestamp, limits};
use pointsman_state_machine::command::Durability;
use tokio_util::task::TaskTracker;

use super::{Batcher, Request, Ticket};
use crate::Error;
use crate::testing::FakeShard;

fn batcher() -> (Arc<FakeShard>, Arc<Batcher>) {
    let clock = Arc::new(FakeClock::new(Timestamp(1)));
    let shard = Arc::new(FakeShard::new(ShardId(1), clock));
    let batcher = Batcher::new(Arc::clone(&shard) as _, TaskTracker::new());
    (shard, batcher)
}

fn request(tenant: u32) -> Request {
    let deadline = Instant::now() + Duration::from_secs(60);
    Request { tenant: TenantId(tenant), term: Term(1), deadline, ack: Durability::Quorum }
}

/// Submits one record of exactly so many bytes; it is refused when it is applied, which is an outcome as well.
fn submit(batcher: &Arc<Batcher>, tenant: u32, bytes: usize) -> Result<Ticket, Error> {
    let body = vec![0; bytes - pointsman_model::record::HEADER_BYTES];
    let header = Header { kind: kind::PUBLISH, ..Header::default() };
    batcher.submit(request(tenant), body.len(), |writer| writer.write(&header, &(), &body))
}

#[tokio::test]
async fn nothing_waits_when_idle_and_much_shares_an_entry() {
    let (shard, batcher) = batcher();
    shard.hold();
    let tickets: Vec<_> = (0..100).map(|_| submit(&batcher, 1, 100).unwrap()).collect();
    assert_eq!(shard.held(), 2, "two at once, the rest collects");
    shard.release();
    for ticket in tickets {
        let answer = batcher.wait(ticket, request(1).deadline).await.unwrap();
        assert_eq!(answer.outcomes().len(), 1);
    }
    assert_eq!(shard.entries(), [1, 1, 98]);
}

#[tokio::test]
async fn an_entry_that_is_long_enough_does_not_wait() {
    let (shard, batcher) = batcher();
    shard.hold();
    let _first: Vec<_> = (0..2).map(|_| submit(&batcher, 1, 100).unwrap()).collect();
    let half = limits::ENTRY_BYTES_TARGET / 2;
    let _next: Vec<_> = (0..4).map(|_| submit(&batcher, 1, half).unwrap()).collect();
    assert_eq!(shard.held(), 4, "64 KiB twice");
    let batch = batcher.submit(request(1), 100 << 10, |writer| {
        for _ in 0..100 {
            writer.write(&Header { kind: kind::PUBLISH, ..Header::default() }, &(), &[0; 1 << 10]);
        }
    });
    assert_eq!(shard.held(), 5);
    shard.release();
    batcher.wait(batch.unwrap(), request(1).deadline).await.unwrap();
    assert_eq!(shard.entries(), [1, 1, 2, 2, 100], "a request lies in one entry");
}

#[tokio::test]
async fn an_entry_holds_no_more_records_than_it_may() {
    let (shard, batcher) = batcher();
    shard.hold();
    let many = |n: usize| {
        let write = move |writer: &mut super::RecordWriter<'_>| {
            (0..n).for_each(|_| writer.write(&Header { kind: kind::PUBLISH, ..Header::default() }, &(), &[]));
        };
        batcher.submit(request(1), 0, write).unwrap()
    };
    let tickets = vec![many(1), many(1), many(600), many(600), many(600), many(1)];
    shard.release();
    for ticket in tickets {
        batcher.wait(ticket, request(1).deadline).await.unwrap();
    }
    assert_eq!(shard.entries().iter().sum::<u32>(), 1_803);
    assert!(shard.entries().iter().all(|records| *records as usize <= limits::ENTRY_RECORDS_MAX));
}

#[tokio::test]
async fn bytes_in_flight_one_below_at_and_above() {
    let half = limits::SHARD_INFLIGHT_BYTES_MAX / 2;
    for (extra, taken) in [(-1_i64, true), (0, true), (1, false)] {
        let (shard, batcher) = batcher();
        shard.hold();
        submit(&batcher, 1, half / 2).unwrap();
        let rest = (half as i64 / 2 + extra) as usize;
        let result = submit(&batcher, 1, rest);
        assert_eq!(result.is_ok(), taken, "one tenant, {extra}");
        assert!(taken || matches!(result.err(), Some(Error::Overloaded(_))));
        // The other half is for others.
        let (first, second) =
            (half / 2, if taken { half / 2 - extra.max(-1).unsigned_abs() as usize } else { half / 2 });
        submit(&batcher, 2, first).unwrap();
        submit(&batcher, 2, second).unwrap();
    }
    for (extra, taken) in [(-1_i64, true), (0, true), (1, false)] {
        let (shard, batcher) = batcher();
        shard.hold();
        let quarter = limits::SHARD_INFLIGHT_BYTES_MAX / 4;
        for tenant in 1..4 {
            submit(&batcher, tenant, quarter).unwrap();
        }
        let result = submit(&batcher, 4, (quarter as i64 + extra) as usize);
        assert_eq!(result.is_ok(), taken, "the shard, {extra}");
        shard.release();
        batcher.close();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(batcher.queue.lock().bytes, 0, "all of it is given back");
        assert!(batcher.queue.lock().bytes_of.is_empty());
    }
}

#[tokio::test]
async fn what_was_decided_in_one_term_is_not_proposed_with_another() {
    let (shard, batcher) = batcher();
    shard.hold();
    for _ in 0..3 {
        submit(&batcher, 1, 100).unwrap();
    }
    let header = Header { kind: kind::PUBLISH, ..Header::default() };
    let later = Request { term: Term(2), ..request(1) };
    let later = batcher.submit(later, 0, |writer| writer.write(&header, &(), &[])).unwrap();
    assert_eq!(shard.held(), 3, "the entry of term 1 goes first and alone");
    shard.set_term(Some(2));
    shard.release();
    assert!(batcher.wait(later, request(1).deadline).await.is_ok());
    assert_eq!(shard.entries(), [1], "term 1 is over");
}

#[tokio::test]
async fn a_caller_that_went_away_loses_nothing() {
    let (shard, batcher) = batcher();
    shard.hold();
    for _ in 0..10 {
        drop(submit(&batcher, 1, 100).unwrap());
    }
    shard.release();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(shard.entries().iter().sum::<u32>(), 10);
    assert_eq!(batcher.queue.lock().entries, 0);
    assert_eq!(batcher.queue.lock().bytes, 0);
}

#[test]
fn a_proposal_holds_hardly_more_memory_than_it_has_bytes() {
    let mut open = super::OpenEntry::default();
    for sizes in [vec![100; 600], vec![100], vec![100], vec![60_000], vec![1_000; 30], vec![10]] {
        for size in &sizes {
            let header = Header { kind: kind::PUBLISH, ..Header::default() };
            super::RecordWriter::new(&mut open).write(&header, &(), &vec![0; *size]);
        }
        let mut entry = open.take();
        let (records, buffer) = entry.freeze();
        open.collect_in(buffer);
        assert_eq!(pointsman_model::record::records_crc(&records), Ok(entry.crc()));
        let length = records.len();
        let capacity = records.try_into_mut().expect("not shared").capacity();
        assert!(capacity <= 2 * length, "{capacity} bytes for {length}");
    }
}

#[tokio::test]
async fn one_with_a_little_does_not_wait_behind_one_with_much() {
    let (shard, batcher) = batcher();
    let submit = |tenant: u32, bytes: usize| {
        let body = vec![0; bytes];
        let header = Header { kind: kind::PUBLISH, tenant: TenantId(tenant), ..Header::default() };
        batcher.submit(request(tenant), body.len(), |writer| writer.write(&header, &(), &body)).unwrap()
    };
    shard.hold();
    let first = submit(2, 100);
    let noisy: Vec<_> = (0..4_000).map(|_| submit(1, 1 << 10)).collect();
    let held = shard.held();
    assert!(held < 16, "the log is shared: {held} entries of 4 MiB are proposed");
    let quiet = submit(2, 100);
    let more: Vec<_> = (0..100).map(|_| submit(1, 1 << 10)).collect();
    shard.release();
    for ticket in noisy.into_iter().chain(more).chain([first, quiet]) {
        batcher.wait(ticket, request(1).deadline).await.unwrap();
    }
    let order = shard.tenants();
    assert_eq!(order.len(), 4_102, "all of it");
    let at = order.iter().rposition(|tenant| *tenant == 2).expect("the quiet one");
    assert!(at < 1_000, "it lies behind {at} records of 4,100");
    assert_eq!(batcher.queue.lock().bytes, 0);
    assert_eq!(batcher.queue.lock().proposed_bytes, 0);
}

#[tokio::test]
async fn one_tenant_alone_has_the_whole_log() {
    let (shard, batcher) = batcher();
    shard.hold();
    let tickets: Vec<_> = (0..6_000).map(|_| submit(&batcher, 1, 1 << 10).unwrap()).collect();
    let held = shard.held();
    shard.release();
    for ticket in tickets {
        batcher.wait(ticket, request(1).deadline).await.unwrap();
    }
    assert!(held > 60, "{held} entries of 64 KiB");
    assert_eq!(shard.entries().iter().sum::<u32>(), 6_000);
}
