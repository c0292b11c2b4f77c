//! Frames as bytes: round trips, and damage.

use bytes::Bytes;
use pointsman_model::{ShardId, limits};

use super::read::{FrameReader, ReadError};
use super::write::{Outgoing, Unwritten};
use super::{Broken, END, Frame, HEADER_BYTES, Head, Kind, REFUSED};

const MAX: usize = 10_000;

fn head() -> Head {
    Head {
        kind: Kind::Append,
        flags: END | REFUSED,
        shard: ShardId(0x1234),
        session: 0xdead_beef,
        sequence: 0x0102_0304,
    }
}

fn encode(frames: &[Outgoing]) -> Vec<u8> {
    let mut unwritten = Unwritten::default();
    for frame in frames {
        unwritten.push(frame);
    }
    unwritten.seal();
    unwritten.concat()
}

async fn decode(bytes: &[u8], max: usize) -> Result<Vec<Frame>, ReadError> {
    let mut reader = FrameReader::new(bytes, 64, max);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

#[tokio::test]
async fn frames_come_back_as_they_were_however_they_are_cut() {
    for lengths in [vec![], vec![0], vec![1, 2, 3], vec![511, 512, 513, 514], vec![5_000, 10, 5_000], vec![9_999, 1]] {
        let pieces: Vec<Bytes> = lengths.iter().map(|length| (0..*length).map(|at| at as u8).collect()).collect();
        let whole: Bytes = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let all: Vec<_> = (0..5).map(|n| Outgoing::new(head().at(n), pieces.clone())).collect();
        let bytes = encode(&all);
        assert_eq!(bytes.len(), all.iter().map(Outgoing::wire_bytes).sum::<usize>());
        let expected: Vec<_> = (0..5).map(|n| Frame { head: head().at(n), body: whole.clone() }).collect();
        assert_eq!(decode(&bytes, MAX + 400).await.unwrap(), expected);
    }
}

/// The bytes of a frame are an agreement between versions: they may not change unnoticed.
#[test]
fn a_frame_has_these_bytes() {
    let bytes = encode(&[Outgoing::new(head(), Bytes::from_static(b"body"))]);
    let expected = [4, 0, 0, 0, 255, 0, 0, 0, 2, 1, 3, 0, 0x34, 0x12, 0, 0, 0xef, 0xbe, 0xad, 0xde, 4, 3, 2, 1];
    assert_eq!(bytes[..4], expected[..4]);
    assert_eq!(bytes[4..8], crc32c::crc32c(&bytes[8..]).to_le_bytes());
    assert_eq!(bytes[8..24], expected[8..24]);
    assert_eq!(bytes[24..], *b"body");
    let numbers: Vec<_> = Kind::ALL.iter().map(|kind| kind.number()).collect();
    assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_flipped_bit_is_noticed() {
    let bytes = encode(&[Outgoing::new(head(), Bytes::from_static(b"a body of some length"))]);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped, MAX).await.is_err(), "bit {bit}");
    }
    for length in 1..bytes.len() {
        assert!(decode(&bytes[..length], MAX).await.is_err(), "cut at {length}");
    }
}

#[tokio::test]
async fn a_body_one_below_at_and_above_the_bound() {
    for (length, fits) in [(MAX - 1, true), (MAX, true), (MAX + 1, false)] {
        let bytes = encode(&[Outgoing::new(head(), Bytes::from(vec![0; length]))]);
        // A longer one is refused at its header, before any of its body is there.
        let header = decode(&bytes[..HEADER_BYTES], MAX).await;
        assert_eq!(matches!(header, Err(ReadError::Broken(Broken::TooLong { .. }))), !fits);
        assert_eq!(decode(&bytes, MAX).await.is_ok(), fits);
    }
}

#[tokio::test]
async fn the_longest_frame_arrives_without_its_memory_being_given_ahead() {
    let max = limits::PEER_FRAME_BYTES_MAX;
    let bytes = encode(&[Outgoing::new(head(), Bytes::from(vec![7; max]))]);
    let frames = decode(&bytes, max).await.unwrap();
    assert_eq!(frames[0].body.len(), max);
    // A header that promises as much and brings nothing gets little.
    let mut reader = FrameReader::new(&bytes[..HEADER_BYTES], 64, max);
    assert!(reader.next().await.is_err());
    assert!(reader.capacity() <= 4 << 20, "{}", reader.capacity());
}
