//! Append requests as bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use pointsman_model::record::{Header, encode as encode_record};

use super::*;
use crate::raft_types::{LeaderId, Membership, RaftNode, Vote};

fn batch(bodies: &[&[u8]], stamp: u64) -> Payload {
    let mut records = BytesMut::new();
    for body in bodies {
        encode_record(&mut records, &Header { kind: record::kind::PUBLISH, ..Header::default() }, b"head", body);
    }
    let records_crc = record::records_crc(&records).unwrap();
    let count = bodies.len() as u32;
    Payload::Batch(Batch { stamp: Timestamp(stamp), count, records_crc, records: records.freeze(), ticket: None })
}

/// Entries from index 10 on, as they are read from a log that has the first at byte 640.
fn sample() -> AppendEntriesRequest<Types> {
    let nodes = BTreeMap::from([(1, RaftNode { addr: "a:1".into() })]);
    let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
    let payloads = [
        (3, 50, Payload::Blank),
        (3, 50, Payload::Membership(membership)),
        (3, 60, batch(&[b"one", b"two"], 60)),
        (4, 61, batch(&[&[7; 900]], 61)),
    ];
    let entries = (10..).zip(payloads).map(|(index, (term, stamp, payload))| Entry {
        log_id: log_id(term, index),
        payload,
        stamp: Timestamp(stamp),
        location: Location { position: LogPosition(640), segment_base: LogPosition(0) },
        expected: None,
    });
    AppendEntriesRequest {
        vote: Vote { leader_id: LeaderId { term: 4, voted_for: 1 << 32 }, committed: true },
        prev_log_id: Some(log_id(2, 9)),
        entries: entries.collect(),
        leader_commit: Some(log_id(2, 8)),
    }
}

fn frame(request: AppendEntriesRequest<Types>) -> Bytes {
    encode(1 << 32, 2 << 32, request).unwrap().concat().into()
}

#[test]
fn what_arrives_is_what_was_sent_and_shares_the_frame() {
    let (sent, bytes) = (sample(), frame(sample()));
    let Received { from, to, request } = decode(&bytes).unwrap();
    assert_eq!((from, to), (1 << 32, 2 << 32));
    assert_eq!((request.vote, request.prev_log_id), (sent.vote, sent.prev_log_id));
    assert_eq!(request.leader_commit, sent.leader_commit);
    let mut position = 640;
    for (got, expected) in request.entries.iter().zip(&sent.entries) {
        assert_eq!((got.log_id, got.stamp), (expected.log_id, expected.stamp));
        assert_eq!(got.expected, Some(LogPosition(position)));
        let length = match (&got.payload, &expected.payload) {
            (Payload::Blank, Payload::Blank) => 0,
            (Payload::Membership(got), Payload::Membership(expected)) => {
                assert_eq!(got, expected);
                membership::encode_record(got).unwrap().0.len()
            }
            (Payload::Batch(got), Payload::Batch(expected)) => {
                assert_eq!(
                    (got.stamp, got.count, got.records_crc),
                    (expected.stamp, expected.count, expected.records_crc)
                );
                assert_eq!(got.records, expected.records);
                assert!(bytes.as_ptr_range().contains(&got.records.as_ptr()), "copied");
                got.records.len()
            }
            other => panic!("{other:?}"),
        };
        position += frame_bytes(length) as u64;
    }
    assert_eq!(request.entries.len(), sent.entries.len());
}

#[test]
fn a_heartbeat_has_no_entries() {
    let request = AppendEntriesRequest { entries: Vec::new(), prev_log_id: None, leader_commit: None, ..sample() };
    let received = decode(&frame(request)).unwrap().request;
    assert!(received.entries.is_empty() && received.prev_log_id.is_none() && received.leader_commit.is_none());
}

#[test]
fn garbage_is_refused_and_never_a_panic() {
    let whole = frame(sample());
    for length in 0..whole.len() {
        assert!(decode(&whole.slice(..length)).is_err(), "{length} bytes");
    }
    assert!(decode(&[&whole[..], b"x"].concat().into()).is_err());
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = decode(&flipped.into());
    }
}

#[test]
fn entries_that_could_lie_in_no_log_are_refused() {
    let refused = |change: fn(&mut AppendEntriesRequest<Types>)| {
        let mut request = sample();
        change(&mut request);
        assert!(decode(&frame(request)).is_err());
    };
    refused(|request| request.entries[2].log_id = log_id(2, 12));
    refused(|request| request.entries[0].log_id = log_id(1, 10));
    refused(|request| request.entries[3].stamp = Timestamp(59));
    refused(|request| match &mut request.entries[2].payload {
        Payload::Batch(batch) => batch.count += 1,
        other => panic!("{other:?}"),
    });
    refused(|request| match &mut request.entries[2].payload {
        Payload::Batch(batch) => batch.records_crc ^= 1,
        other => panic!("{other:?}"),
    });
    refused(|request| match &mut request.entries[2].payload {
        Payload::Batch(batch) => batch.records = batch.records.slice(..batch.records.len() - 1),
        other => panic!("{other:?}"),
    });
}
