//! An append as bytes: a head that says what the entries are, and the records as they lie in the log.
//!
//! `APPEND u8 | length of the head u32 | head (postcard) | records of the first entry | records of the second | …`
//!
//! Nothing of the records is copied or encoded anew on either side: the sender's slices go out as they are, and the
//! receiver's slices of the frame go into its log.

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;
use pointsman_model::{LogPosition, Timestamp, limits, record};
use pointsman_storage::log::{FrameKind, Location, frame_bytes};
use serde::{Deserialize, Serialize};

use super::wire::{APPEND, Place, WireVote};
use crate::entry::{Batch, Entry, Payload};
use crate::raft_types::{LogId, RaftNodeId, Types, log_id};
use crate::{Error, membership};

/// Kind and length of the head.
const PREFIX_BYTES: usize = 5;

#[derive(Serialize, Deserialize)]
struct Head {
    from: RaftNodeId,
    to: RaftNodeId,
    vote: WireVote,
    prev: Option<Place>,
    commit: Option<Place>,
    /// Where the leader has the first entry.
    position: u64,
    entries: Vec<EntryHead>,
}

/// An entry without its records. Its index follows from its place.
#[derive(Serialize, Deserialize)]
struct EntryHead {
    term: u64,
    kind: u8,
    stamp: u64,
    count: u32,
    records_crc: u32,
    length: u32,
}

/// An append as it arrives.
pub(crate) struct Received {
    pub(crate) from: RaftNodeId,
    pub(crate) to: RaftNodeId,
    pub(crate) request: AppendEntriesRequest<Types>,
}

/// The pieces of a frame, in order.
///
/// # Errors
/// [`Error::Malformed`] if a membership cannot be encoded.
pub(crate) fn encode(
    from: RaftNodeId,
    to: RaftNodeId,
    request: AppendEntriesRequest<Types>,
) -> Result<Vec<Bytes>, Error> {
    let position = request.entries.first().map_or(LogPosition(0), |entry| entry.location.position);
    let mut heads = Vec::with_capacity(request.entries.len());
    let mut pieces = Vec::with_capacity(request.entries.len() + 1);
    pieces.push(Bytes::new());
    for entry in request.entries {
        let (kind, count, records_crc, records) = match entry.payload {
            Payload::Blank => (FrameKind::Blank, 0, 0, Bytes::new()),
            Payload::Membership(membership) => {
                let (records, crc) = membership::encode_record(&membership)?;
                (FrameKind::Membership, 1, crc, records)
            }
            Payload::Batch(batch) => (FrameKind::Batch, batch.count, batch.records_crc, batch.records),
        };
        heads.push(EntryHead {
            term: entry.log_id.leader_id.term,
            kind: kind.number(),
            stamp: entry.stamp.0,
            count,
            records_crc,
            length: u32::try_from(records.len()).map_err(|_| Error::Malformed("an entry without end"))?,
        });
        if !records.is_empty() {
            pieces.push(records);
        }
    }
    let head = Head {
        from,
        to,
        vote: WireVote::from(&request.vote),
        prev: request.prev_log_id.map(Place::from),
        commit: request.leader_commit.map(Place::from),
        position: position.0,
        entries: heads,
    };
    let mut first = postcard::to_extend(&head, vec![0; PREFIX_BYTES]).map_err(|_| Error::Malformed("an append"))?;
    first[0] = APPEND;
    let length = u32::try_from(first.len() - PREFIX_BYTES).map_err(|_| Error::Malformed("an append"))?;
    first[1..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    pieces[0] = first.into();
    Ok(pieces)
}

/// Reads what [`encode`] wrote, and verifies that every entry could lie in a log; bodies are verified by their readers.
///
/// # Errors
/// [`Error::Malformed`] if it is not that.
pub(crate) fn decode(frame: &Bytes) -> Result<Received, Error> {
    let malformed = || Error::Malformed("an append of another node");
    let (prefix, rest) = frame.split_first_chunk::<PREFIX_BYTES>().ok_or_else(malformed)?;
    let [APPEND, length @ ..] = *prefix else { return Err(malformed()) };
    let length = u32::from_le_bytes(length) as usize;
    let head: Head = super::wire::decode(rest.get(..length).ok_or_else(malformed)?, "an append of another node")?;
    if head.entries.len() > limits::APPEND_ENTRIES_MAX {
        return Err(malformed());
    }
    let prev: Option<LogId> = head.prev.map(LogId::from);
    let mut index = prev.map_or(0, |prev| prev.index + 1);
    let (mut at, mut position) = (PREFIX_BYTES + length, head.position);
    let mut last = (prev.map_or(0, |prev| prev.leader_id.term), 0);
    let mut entries = Vec::with_capacity(head.entries.len());
    for entry in &head.entries {
        let end = at.checked_add(entry.length as usize).filter(|end| *end <= frame.len()).ok_or_else(malformed)?;
        let bytes = frame_bytes(entry.length as usize);
        // Terms and stamps never go back in a log.
        if entry.term < last.0 || entry.stamp < last.1 || bytes > limits::FRAME_BYTES_MAX {
            return Err(malformed());
        }
        last = (entry.term, entry.stamp);
        entries.push(Entry {
            log_id: log_id(entry.term, index),
            payload: payload(entry, frame.slice(at..end))?,
            stamp: Timestamp(entry.stamp),
            location: Location::default(),
            expected: Some(LogPosition(position)),
        });
        (at, index) = (end, index + 1);
        position = position.checked_add(bytes as u64).ok_or_else(malformed)?;
    }
    if at != frame.len() {
        return Err(malformed());
    }
    let request = AppendEntriesRequest {
        vote: head.vote.into(),
        prev_log_id: prev,
        entries,
        leader_commit: head.commit.map(LogId::from),
    };
    Ok(Received { from: head.from, to: head.to, request })
}

fn payload(entry: &EntryHead, records: Bytes) -> Result<Payload, Error> {
    let malformed = || Error::Malformed("an entry of another node");
    match FrameKind::from_number(entry.kind).ok_or_else(malformed)? {
        FrameKind::Blank if records.is_empty() => Ok(Payload::Blank),
        FrameKind::Blank => Err(malformed()),
        FrameKind::Membership => membership::decode_record(&records).map(Payload::Membership),
        FrameKind::Batch => {
            let (mut count, mut crc) = (0, 0);
            for range in record::ranges(&records) {
                crc = record::records_crc_append(crc, &records[range.map_err(|_| malformed())?]);
                count += 1;
            }
            if crc != entry.records_crc || count != entry.count || count as usize > limits::ENTRY_RECORDS_MAX {
                return Err(malformed());
            }
            let (stamp, count, records_crc) = (Timestamp(entry.stamp), entry.count, entry.records_crc);
            Ok(Payload::Batch(Batch { stamp, count, records_crc, records, ticket: None }))
        }
    }
}

#[cfg(test)]
mod tests;
