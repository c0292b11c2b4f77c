//! The CommitLog as openraft's log storage.
//!
//! `append` returns when the frames are in memory; the writer calls back after its fdatasync. Vote and log writes share
//! one order: `save_vote` and `truncate_after` drain the queue first. Blank and membership entries have no stamp of
//! their own and get their predecessor's here, so that a frame stays a pure function of the log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use pointsman_model::{LogIndex, Term, Timestamp};
use pointsman_storage::log::{Frame, FrameKind, Ticket};
use pointsman_storage::vote;

use crate::core::Core;
use crate::entry::{Batch, Entry, Payload};
use crate::raft_types::{LeaderId, LogId, Types, Vote, log_id};
use crate::{Error, membership};

/// Record bytes read at once for replication or `apply`; one entry is always read.
const READ_BYTES_MAX: usize = 2 << 20;

/// How long replication waits for a damaged segment to be repaired; then openraft stops, and the shard with it.
const REPAIR_WITHIN: Duration = Duration::from_secs(60);

/// openraft's log storage, and its reader: clones share one log.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Core>);

impl LogStore {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// Runs what waits for the disk off the reactor. openraft waits for it in any case; other shards need not.
    async fn blocking<E>(&self, work: impl FnOnce() -> Result<(), E> + Send + 'static) -> Result<(), io::Error>
    where
        E: Into<Error> + Send + 'static,
    {
        let done = self.0.background.run(work).await;
        let panicked = || Err(Error::Raft("a write of the log or the vote panicked".to_owned()));
        Ok(done.map_or_else(panicked, |done| done.map_err(Into::into)).inspect_err(|error| self.0.fail(error))?)
    }

    /// Reads `start..end` a piece at a time.
    fn pieces(&self, start: u64, end: u64) -> impl Iterator<Item = Result<Vec<Entry>, io::Error>> + use<> {
        let (log, store) = (self.0.log.clone(), self.clone());
        let mut next = Some(start);
        std::iter::from_fn(move || {
            let from = next.take()?;
            if from >= end {
                return None;
            }
            let frames = match log.read(LogIndex(from)..LogIndex(end), READ_BYTES_MAX) {
                Ok(frames) => frames,
                Err(error) => {
                    store.0.doubts.report_error(&error);
                    return Some(Err(error.into()));
                }
            };
            next = Some(frames.last()?.index.0 + 1);
            Some(frames.into_iter().map(entry_of).collect::<Result<_, Error>>().map_err(io::Error::from))
        })
    }

    /// Gives an entry the form it has in the log.
    fn frame_of(entry: Entry, last_stamp: Timestamp) -> Result<Frame, Error> {
        let (term, index) = (Term(entry.log_id.leader_id.term), LogIndex(entry.log_id.index));
        let mut frame = Frame::blank(term, index, last_stamp);
        match entry.payload {
            Payload::Blank => {}
            Payload::Membership(membership) => {
                let (records, records_crc) = membership::encode_record(&membership)?;
                frame = Frame { kind: FrameKind::Membership, count: 1, records_crc, records, ..frame };
            }
            Payload::Batch(Batch { stamp, count, records_crc, records, ticket }) => {
                if stamp < last_stamp {
                    return Err(Error::Malformed("entry: its stamp is before that of the entry before it"));
                }
                let ticket = ticket.inspect(|ticket| ticket.hand_over()).map(|ticket| ticket as Arc<dyn Ticket>);
                frame = Frame { kind: FrameKind::Batch, stamp, count, records_crc, records, ticket, ..frame };
            }
        }
        Ok(frame)
    }
}

/// The entry of a frame.
///
/// # Errors
/// [`Error::Malformed`] for a membership frame whose record is not one.
pub(crate) fn entry_of(frame: Frame) -> Result<Entry, Error> {
    let payload = match frame.kind {
        FrameKind::Blank => Payload::Blank,
        FrameKind::Membership => Payload::Membership(membership::decode_record(&frame.records)?),
        FrameKind::Batch => Payload::Batch(Batch {
            stamp: frame.stamp,
            count: frame.count,
            records_crc: frame.records_crc,
            records: frame.records,
            ticket: None,
        }),
    };
    let log_id = log_id(frame.term.0, frame.index.0);
    Ok(Entry { log_id, payload, stamp: frame.stamp, location: frame.location, expected: None })
}

/// `start..end` of any range.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        let mut entries = Vec::new();
        for piece in self.pieces(start, end) {
            entries.extend(piece?);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let stored = self.0.vote.lock().load();
        Ok(stored.map(|vote| Vote {
            leader_id: LeaderId { term: vote.term.0, voted_for: vote.node },
            committed: vote.committed,
        }))
    }

    /// What replication reads. Damage is not handed on: the entries come when they are repaired.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let (doubts, range) = (&self.0.doubts, LogIndex(start)..LogIndex(end));
        let read = match self.0.log.read(range.clone(), READ_BYTES_MAX) {
            Err(error) => match doubts.report_error(&error) {
                Some(place) if doubts.wait(place, REPAIR_WITHIN).await => self.0.log.read(range, READ_BYTES_MAX),
                _ => Err(error),
            },
            read => read,
        };
        let entries: Result<_, Error> = read?.into_iter().map(entry_of).collect();
        Ok(entries?)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = bounds(&range);
        let entries = self.pieces(start, end).flat_map(|piece| {
            let (entries, error) = match piece {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            entries.into_iter().map(Ok).chain(error.map(Err))
        });
        futures_util::stream::iter(entries)
    }

    /// The last entry of each term, from what the log knows of its segments.
    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> Result<Vec<LogId>, io::Error> {
        let (first, last) = (range.start(), range.end());
        let starts = self.0.log.term_starts(LogIndex(first.index), LogIndex(last.index));
        if let Err(error) = &starts {
            self.0.doubts.report_error(error);
        }
        let starts = starts?;
        let ends = starts.iter().skip(1).map(|(_, start)| start.0 - 1).chain([last.index]);
        Ok(starts.iter().zip(ends).map(|((term, _), end)| log_id(term.0, end)).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let purged = self.0.log.purged().map(|base| log_id(base.term.0, base.index.0));
        let last = self.0.log.last().map(|(term, index, _)| log_id(term.0, index.0));
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let stored =
            vote::Vote { term: Term(vote.leader_id.term), node: vote.leader_id.voted_for, committed: vote.committed };
        let core = Arc::clone(&self.0);
        let save = move || core.log.barrier().and_then(|()| core.vote.lock().save(stored));
        self.blocking(save).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut stamp = self.0.log.last_stamp();
        let mut end = self.0.log.end();
        let mut frames = Vec::new();
        for entry in entries {
            if let Some(expected) = entry.expected.filter(|expected| *expected != end) {
                let error = Error::Misplaced { index: entry.log_id.index, here: end, expected };
                self.0.fail(&error);
                return Err(error.into());
            }
            let frame = Self::frame_of(entry, stamp).inspect_err(|error| self.0.fail(error))?;
            stamp = frame.stamp;
            end.0 += frame.bytes() as u64;
            frames.push(frame);
        }
        #[cfg(test)]
        let callback = self.0.probe.before_sync(callback);
        let core = Arc::downgrade(&self.0);
        let on_flushed = Box::new(move |result: Result<(), pointsman_storage::Error>| {
            if let (Err(error), Some(core)) = (&result, core.upgrade()) {
                core.fail(error);
            }
            callback.io_completed(result.map_err(io::Error::from));
        });
        self.0.log.append(frames, on_flushed).inspect_err(|error| self.0.fail(error))?;
        #[cfg(test)]
        self.0.probe.notify();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let last = last.map(|id| LogIndex(id.index));
        assert!(
            !self.0.strict || self.0.applied_index() <= last,
            "asked to cut applied entries: {:?} are applied, {last:?} shall be kept",
            self.0.applied_index()
        );
        let core = Arc::clone(&self.0);
        let cut = move || -> Result<(), Error> {
            if let Some(reopened) = core.log.truncate_after(last)? {
                core.derive_again(reopened)?;
            }
            Ok(())
        };
        self.blocking(cut).await
    }

    /// What is purged is gone for good, so openraft alone must not decide it (`DESIGN.md` §4).
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let core = &self.0;
        if core.strict && upto.index >= core.purge_end() {
            let error = Error::PurgeFenced { upto: upto.index, allowed: core.purge_end().saturating_sub(1) };
            core.fail(&error);
            return Err(error.into());
        }
        let (core, upto) = (Arc::clone(core), (Term(upto.leader_id.term), LogIndex(upto.index)));
        self.blocking(move || core.purge(upto.0, upto.1)).await
    }
}
