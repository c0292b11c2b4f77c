//! What replicas of a shard ask each other beside Raft: how far they are, committed entries, outcome hashes.
//!
//! A question is one byte that no message of Raft starts with, then postcard. Answers come from what every open shard
//! has, whether openraft runs on it or not.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{LogIndex, limits};
use pointsman_storage::log::{Frame, FrameKind, Location};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::core::Core;
use crate::raft_types::{LogId, RaftNodeId, log_id};

/// First byte of a question.
const TAG: u8 = 0xA5;

/// What a replica may be asked. Variants are added at the end only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// How far it is.
    Standing,
    /// Committed entries from this index on, as many as fit into one answer.
    Entries {
        /// Index of the first.
        first: u64,
    },
    /// The hashes of outcomes it remembers.
    Hashes,
}

/// How far a replica is, and whom it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// openraft's id of the one who says so.
    pub(crate) id: RaftNodeId,
    /// The term of its vote.
    pub(crate) term: u64,
    /// openraft's id of the leader it knows.
    pub(crate) leader: Option<RaftNodeId>,
    /// It leads in this term and has committed an entry of it.
    pub(crate) leads: Option<u64>,
    /// Term and index of its last entry, purged ones included.
    pub(crate) last: Option<(u64, u64)>,
    /// Its last committed and applied entry.
    pub(crate) applied: Option<u64>,
    /// The last entry it no longer has.
    pub(crate) purged: Option<u64>,
}

impl Standing {
    /// Its last entry.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.last.map(|(term, index)| log_id(term, index))
    }

    fn of(core: &Core) -> Self {
        let purged = core.log.purged();
        let last = core.log.last().map(|(term, index, _)| (term.0, index.0));
        Self {
            id: core.id,
            term: core.vote.lock().load().map_or(0, |vote| vote.term.0),
            leader: core.leadership.known_leader(),
            leads: core.leadership.term().map(|term| term.0),
            last: last.or(purged.map(|base| (base.term.0, base.index.0))),
            applied: core.applied_index().map(LogIndex::get),
            purged: purged.map(|base| base.index.0),
        }
    }
}

/// A frame without its records.
#[derive(Serialize, Deserialize)]
struct FrameHead {
    term: u64,
    index: u64,
    kind: u8,
    stamp: u64,
    count: u32,
    records_crc: u32,
    length: u32,
    position: u64,
    segment_base: u64,
}

/// Answer to [`Question::Entries`]; the records follow one after another.
#[derive(Serialize, Deserialize)]
struct EntriesHead {
    standing: Standing,
    frames: Vec<FrameHead>,
}

/// Committed entries of another replica. Nothing of them is verified but their shape.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) standing: Standing,
    pub(crate) frames: Vec<Frame>,
}

impl Question {
    /// The request.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it cannot be encoded.
    pub(crate) fn encode(&self) -> Result<Vec<Bytes>, Error> {
        let mut out = vec![TAG];
        out.extend(postcard::to_stdvec(self).map_err(|_| Error::Malformed("a question"))?);
        Ok(vec![out.into()])
    }

    fn decode(request: &[u8]) -> Option<Result<Self, Error>> {
        let (tag, rest) = request.split_first()?;
        (*tag == TAG).then(|| postcard::from_bytes(rest).map_err(|_| Error::Malformed("a question")))
    }
}

/// Answers a question; `None` if it is none.
pub(crate) fn serve(core: &Arc<Core>, request: &[u8]) -> Option<BoxFuture<'static, Result<Vec<Bytes>, String>>> {
    let question = match Question::decode(request)? {
        Ok(question) => question,
        Err(error) => return Some(Box::pin(async move { Err(error.to_string()) })),
    };
    let core = Arc::clone(core);
    Some(Box::pin(async move {
        let answer = match question {
            Question::Standing => encode(&Standing::of(&core)).map(|head| vec![head]),
            // Reads files, which may be old and cold.
            Question::Entries { first } => {
                let background = core.background;
                let read = background.run(move || entries(&core, LogIndex(first)));
                read.await.unwrap_or(Err(Error::Malformed("the reader panicked")))
            }
            Question::Hashes => encode(&core.outcomes.known()).map(|hashes| vec![hashes]),
        };
        answer.map_err(|error| error.to_string())
    }))
}

/// Committed entries as this node can verify them itself.
fn entries(core: &Core, first: LogIndex) -> Result<Vec<Bytes>, Error> {
    let end = core
        .applied_index()
        .map_or(LogIndex(0), LogIndex::next)
        .min(LogIndex(first.0.saturating_add(limits::REPAIR_ENTRIES_MAX)));
    let read = core.log.read(first..end, limits::REPAIR_BYTES_MAX);
    if let Err(error) = &read {
        core.doubts.report_error(error);
    }
    let mut frames = read?;
    // A purge that came between moves the start.
    if frames.first().is_some_and(|frame| frame.index != first) {
        frames.clear();
    }
    let head = |frame: &Frame| FrameHead {
        term: frame.term.0,
        index: frame.index.0,
        kind: frame.kind.number(),
        stamp: frame.stamp.0,
        count: frame.count,
        records_crc: frame.records_crc,
        length: frame.records.len() as u32,
        position: frame.location.position.0,
        segment_base: frame.location.segment_base.0,
    };
    let head = EntriesHead { standing: Standing::of(core), frames: frames.iter().map(head).collect() };
    let mut out = vec![encode(&head)?];
    out.extend(frames.into_iter().map(|frame| frame.records).filter(|records| !records.is_empty()));
    Ok(out)
}

fn encode(value: &impl Serialize) -> Result<Bytes, Error> {
    postcard::to_stdvec(value).map(Bytes::from).map_err(|_| Error::Malformed("an answer"))
}

impl Entries {
    /// Reads an answer to [`Question::Entries`].
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not that.
    pub(crate) fn decode(answer: &Bytes) -> Result<Self, Error> {
        let malformed = || Error::Malformed("entries of another node");
        let (head, rest) = postcard::take_from_bytes::<EntriesHead>(answer).map_err(|_| malformed())?;
        let mut at = answer.len() - rest.len();
        let mut frames = Vec::new();
        for frame in head.frames {
            let end = at.checked_add(frame.length as usize).filter(|end| *end <= answer.len()).ok_or_else(malformed)?;
            frames.push(Frame {
                term: pointsman_model::Term(frame.term),
                index: LogIndex(frame.index),
                kind: FrameKind::from_number(frame.kind).ok_or_else(malformed)?,
                stamp: pointsman_model::Timestamp(frame.stamp),
                count: frame.count,
                records_crc: frame.records_crc,
                records: answer.slice(at..end),
                location: Location {
                    position: pointsman_model::LogPosition(frame.position),
                    segment_base: pointsman_model::LogPosition(frame.segment_base),
                },
                ticket: None,
            });
            at = end;
        }
        if at == answer.len() { Ok(Self { standing: head.standing, frames }) } else { Err(malformed()) }
    }
}

/// Reads an answer to [`Question::Hashes`].
///
/// # Errors
/// [`Error::Malformed`] if it is not that.
pub(crate) fn hashes(answer: &[u8]) -> Result<Vec<(u64, u64)>, Error> {
    postcard::from_bytes(answer).map_err(|_| Error::Malformed("hashes of another node"))
}

/// Reads an answer to [`Question::Standing`].
///
/// # Errors
/// [`Error::Malformed`] if it is not that.
pub(crate) fn standing(answer: &[u8]) -> Result<Standing, Error> {
    postcard::from_bytes(answer).map_err(|_| Error::Malformed("standing of another node"))
}
