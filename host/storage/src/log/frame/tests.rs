//! Tests of the frame codec.

use bytes::BytesMut;
use pointsman_model::ids::ShardId;

use super::*;

fn owner() -> Owner {
    Owner { cluster: [1; 16], shard: ShardId(2) }
}

fn sample() -> Frame {
    let mut records = BytesMut::new();
    for body in [&b"first body"[..], b"", b"third"] {
        record::encode(
            &mut records,
            &record::Header { kind: record::kind::PUBLISH, ..Default::default() },
            b"head",
            body,
        );
    }
    let records = records.freeze();
    Frame {
        kind: FrameKind::Batch,
        count: 3,
        records_crc: record::records_crc(&records).expect("whole records"),
        records,
        location: Location { position: LogPosition(4_096), segment_base: LogPosition(4_000) },
        ..Frame::blank(Term(5), LogIndex(77), Timestamp(1_700_000_000_000))
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = frame.header(&owner()).encode().to_vec();
    out.extend_from_slice(&frame.records);
    out.resize(frame.bytes(), 0);
    out
}

/// The whole verification a scan does.
fn decode(bytes: &[u8], base: LogPosition) -> Result<Frame, Bad> {
    let Some(fixed) = bytes.first_chunk() else { return Err(Bad::Frame("short")) };
    let header = FrameHeader::decode(fixed, &owner(), base)?;
    if header.bytes() != bytes.len() as u64 {
        return Err(Bad::Frame("short"));
    }
    let rest = Bytes::copy_from_slice(&bytes[FRAME_HEADER_BYTES..]);
    header.verify_records(&rest)?;
    Ok(header.frame(&rest, Location { position: LogPosition(4_096), segment_base: base }))
}

#[test]
fn round_trip() {
    for frame in [sample(), Frame::blank(Term(1), LogIndex(0), Timestamp(0))] {
        let found = decode(&encoded(&frame), frame.location.segment_base).expect("good");
        assert_eq!(found, frame);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let frame = sample();
    let good = encoded(&frame);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bad, frame.location.segment_base).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_and_every_zeroed_tail_is_found() {
    let frame = sample();
    let good = encoded(&frame);
    for length in 0..good.len() {
        assert!(decode(&good[..length], frame.location.segment_base).is_err(), "length {length}");
        let mut zeroed = good.clone();
        zeroed[length..].fill(0);
        if zeroed != good {
            assert!(decode(&zeroed, frame.location.segment_base).is_err(), "zeroed from {length}");
        }
    }
}

#[test]
fn a_frame_of_another_place_or_owner_is_no_frame() {
    let frame = sample();
    assert!(decode(&encoded(&frame), LogPosition(0)).is_err());
    let other = Owner { shard: ShardId(3), ..owner() };
    let header = frame.header(&owner()).encode();
    assert!(FrameHeader::decode(&header, &other, frame.location.segment_base).is_err());
}

#[test]
fn zeros_are_the_end_and_not_a_frame() {
    assert_eq!(FrameHeader::decode(&[0; FRAME_HEADER_BYTES], &owner(), LogPosition(0)), Err(Bad::Empty));
}

#[test]
fn the_magic_of_a_frame_is_fixed() {
    assert_eq!(encoded(&sample())[..4], *b"PMFR");
}
