//! The CommitLog of one shard: its Raft log, its messages, and its only journal.
//!
//! # How it works
//!
//! [`CommitLog::append`] gives each frame its place, keeps it in the tail cache and queues it; a frame can be read at once.
//! The writer takes all that is queued for a segment, writes it with one `pwritev` and the watermark beside it, syncs once,
//! and only then moves the durable end and calls back. A frame that does not fit opens the next segment, whose file was
//! reserved before the frame was accepted: a full disk is [`Error::DiskFull`] and changes nothing.
//!
//! # Invariants
//!
//! * Positions are a pure function of the entries: where a frame lies depends on no clock, no node and no crash.
//! * Nothing is called back before its sync. The first failed write or sync ends all writing here.
//! * Files are read below the durable end only; above it, frames come from the tail cache.
//! * A segment whose successor exists is whole and durable. The watermark alone tells a torn tail from damage.
//! * A log that recovery found damaged is read-only: it serves what it can verify and changes no byte.
//!
//! What [`CommitLog::truncate_after`] must never cut (applied entries) is its caller's knowledge.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pointsman_model::ids::{LogIndex, LogPosition, Term};
use pointsman_model::time::Timestamp;

use crate::Error;
use crate::base::Base;
use crate::disk::Disk;

mod append;
mod change;
mod config;
mod cursor;
mod frame;
mod mutant;
mod prepare;
mod read;
mod rebuild;
mod recovery;
mod repair;
mod scan;
mod segment;
mod segment_header;
mod spare;
mod state;
mod survey;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use config::{Damage, LogConfig, RecoveryReport, WriterMode};
pub use frame::{FRAME_HEADER_BYTES, Frame, FrameKind, Location, Ticket, frame_bytes};
#[cfg(any(test, feature = "sim"))]
pub use mutant::Mutant;
pub use rebuild::Rebuild;
pub use segment::{Mark, SegmentInfo};
pub use survey::{Gap, GapEnd};

use state::State;
use writer::Writer;

/// Called once when the frames it came with are durable, or never will be. Runs on the writer's thread; must not block.
pub type OnFlushed = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The log of one shard. Clones share it; the last one dropped drains the queue and stops the threads.
#[derive(Clone)]
pub struct CommitLog(Arc<Handle>);

struct Handle {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
///
/// Lock order: `writer`, then `state`. `state` is held for memory work alone, but for reserving a file that was not ready.
struct Inner {
    disk: Arc<dyn Disk>,
    config: LogConfig,
    writer: Mutex<Writer>,
    state: Mutex<State>,
    /// Something was queued, or the log closes.
    queued: Condvar,
    /// The durable end moved, or writing ended.
    durable: Condvar,
    /// The active segment grew, or the log closes.
    grown: Condvar,
}

impl fmt::Debug for CommitLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitLog").field("dir", &self.0.inner.config.dir).finish_non_exhaustive()
    }
}

impl CommitLog {
    /// Opens or creates the log of a shard, whose directory must exist. Recovers: a torn tail is cut, zeroed and synced;
    /// damage is reported and left alone.
    ///
    /// # Errors
    /// I/O; or a segment is missing, foreign, newer than this release, or has no readable header.
    pub fn open(disk: Arc<dyn Disk>, config: LogConfig) -> Result<(Self, RecoveryReport), Error> {
        config.check()?;
        let recovered = match recovery::recover(&*disk, &config) {
            Err(error) if config.replicated => survey::open_read_only(&*disk, &config, error)?,
            recovered => recovered?,
        };
        let mode = config.writer;
        let name = config.shard;
        let inner = Arc::new(Inner {
            disk,
            config,
            writer: Mutex::new(recovered.writer),
            state: Mutex::new(recovered.state),
            queued: Condvar::new(),
            durable: Condvar::new(),
            grown: Condvar::new(),
        });
        let log = Self(Arc::new(Handle { inner: Arc::clone(&inner), threads: Mutex::default() }));
        if mode == WriterMode::Thread {
            let mut threads = log.0.threads.lock();
            for (role, body) in [("log", Inner::run_writer as fn(&Inner)), ("spare", Inner::run_preparer)] {
                let inner = Arc::clone(&inner);
                let thread = thread::Builder::new().name(format!("{role}-{name}")).spawn(move || body(&inner));
                threads.push(thread.map_err(Error::io("start a thread for", &log.0.inner.config.dir))?);
            }
        }
        Ok((log, recovered.report))
    }

    /// Takes frames as the next entries, in order. They can be read when this returns, and are durable when `on_flushed` is
    /// called. The frames' locations are filled in. Callbacks run in the order of their appends.
    ///
    /// # Errors
    /// Nothing was accepted: [`Error::DiskFull`] (heals), [`Error::NotContiguous`], [`Error::TermWentBack`],
    /// [`Error::FrameTooLarge`], [`Error::ReadOnly`], [`Error::Poisoned`]. The callback was dropped uncalled.
    pub fn append(&self, frames: Vec<Frame>, on_flushed: OnFlushed) -> Result<(), Error> {
        self.0.inner.append(frames, on_flushed)
    }

    /// Checks that an entry with so many bytes of records could be appended now; makes the next segment if need be.
    ///
    /// # Errors
    /// As [`CommitLog::append`]. Callers refuse proposals on an error, because a Raft core does not survive a failed append.
    pub fn check_room(&self, records_bytes: usize) -> Result<(), Error> {
        self.0.inner.check_room(records_bytes)
    }

    /// Writes and syncs everything appended so far; it is durable at return.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn barrier(&self) -> Result<(), Error> {
        self.0.inner.drain(&mut self.0.inner.writer.lock())
    }

    /// Does one group commit on this thread, and what is due on the next segment. True if there was something to write.
    /// For [`WriterMode::Manual`].
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn step(&self) -> Result<bool, Error> {
        let inner = &self.0.inner;
        let wrote = inner.commit(&mut inner.writer.lock())?;
        while inner.prepare() {}
        Ok(wrote)
    }

    /// Index of the last durable entry: purged ones count.
    #[must_use]
    pub fn flushed(&self) -> Option<LogIndex> {
        self.0.inner.state.lock().flushed
    }

    /// Waits until an entry is durable; false if the time ran out first.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if it never will be.
    pub fn wait_flushed(&self, index: LogIndex, timeout: Duration) -> Result<bool, Error> {
        let inner = &self.0.inner;
        let deadline = Instant::now() + timeout;
        let mut state = inner.state.lock();
        while state.flushed.is_none_or(|flushed| flushed < index) {
            state.check_poison()?;
            if inner.durable.wait_until(&mut state, deadline).timed_out() {
                return Ok(state.flushed.is_some_and(|flushed| flushed >= index));
            }
        }
        Ok(true)
    }

    /// The last entry; none if the log is empty, whatever was purged.
    #[must_use]
    pub fn last(&self) -> Option<(Term, LogIndex, Timestamp)> {
        self.0.inner.state.lock().last()
    }

    /// Stamp of the last entry, also if it is purged.
    #[must_use]
    pub fn last_stamp(&self) -> Timestamp {
        self.0.inner.state.lock().tail_entry.map_or(Timestamp(0), |tail| tail.stamp)
    }

    /// Index of the first entry; none if the log is empty.
    #[must_use]
    pub fn first_index(&self) -> Option<LogIndex> {
        self.0.inner.state.lock().first_index()
    }

    /// What was purged last.
    #[must_use]
    pub fn purged(&self) -> Option<Base> {
        self.0.inner.state.lock().purged
    }

    /// Where the next frame goes, unless it opens a segment: the end of the log.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        self.0.inner.state.lock().position
    }

    /// Size of a segment file.
    #[must_use]
    pub fn segment_bytes(&self) -> u64 {
        self.0.inner.config.segment_bytes
    }

    /// Damage that recovery found.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        self.0.inner.state.lock().damages.clone()
    }

    /// All segments, oldest first; the last one is active.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.0.inner.state.lock().segments.iter().map(segment::Segment::info).collect()
    }

    /// Segments that are full but not sealed. The caller seals them once their last entry is applied and flushed.
    #[must_use]
    pub fn full_segments(&self) -> Vec<SegmentInfo> {
        let mut all = self.segments();
        all.pop();
        all.retain(|segment| !segment.sealed);
        all
    }

    /// Makes a full segment read-only and maps it.
    ///
    /// # Errors
    /// [`Error::NotInLog`] if no full segment starts there; I/O.
    pub fn seal(&self, base: LogPosition) -> Result<(), Error> {
        self.0.inner.seal(base)
    }

    /// Removes every entry after `last`, or all. Durable at return. Gives the base of a sealed segment that had to be opened
    /// again because it is the last one now: what was derived from it must be derived again.
    ///
    /// # Errors
    /// [`Error::NotInLog`] if `last` was purged; [`Error::ReadOnly`], [`Error::Poisoned`].
    ///
    /// # Panics
    /// If frames of a sealed segment would go: they were applied.
    pub fn truncate_after(&self, last: Option<LogIndex>) -> Result<Option<LogPosition>, Error> {
        self.0.inner.truncate_after(last)
    }

    /// Forgets every entry up to `upto`: saves the base, then unlinks the segments that hold nothing else. The active segment
    /// stays. An index past the end empties the log, and the next frame goes to the position where the log ended.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Poisoned`].
    pub fn purge(&self, upto: (Term, LogIndex)) -> Result<(), Error> {
        self.0.inner.purge(upto)
    }

    /// Empties the log, which goes on after `base`: what installing a checkpoint past its end needs.
    ///
    /// # Errors
    /// [`Error::NotContiguous`] if the base is not past the end; [`Error::ReadOnly`], [`Error::Poisoned`].
    pub fn reset(&self, base: Base) -> Result<(), Error> {
        self.0.inner.reset(base)
    }

    /// Entries of `start..end` that are in the log, in order and without gaps, up to `bytes_max` bytes of records but at
    /// least one.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the first of them is; I/O.
    pub fn read(&self, range: std::ops::Range<LogIndex>, bytes_max: usize) -> Result<Vec<Frame>, Error> {
        self.0.inner.read(range, bytes_max)
    }

    /// The bytes of one record; the caller verifies them with [`pointsman_model::record`].
    ///
    /// # Errors
    /// [`Error::NoSuchRecord`] if the bytes are not in the log; I/O.
    pub fn read_record(&self, position: LogPosition, length: usize) -> Result<bytes::Bytes, Error> {
        self.0.inner.read_record(position, length)
    }

    /// The term of an entry, or of the last one purged.
    ///
    /// # Errors
    /// [`Error::NotInLog`], [`Error::Damaged`]; I/O.
    pub fn term_at(&self, index: LogIndex) -> Result<Term, Error> {
        self.0.inner.term_at(index)
    }

    /// The first entry of each term within `first..=last`, and the entry `first` itself.
    ///
    /// # Errors
    /// As [`CommitLog::term_at`].
    pub fn term_starts(&self, first: LogIndex, last: LogIndex) -> Result<Vec<(Term, LogIndex)>, Error> {
        self.0.inner.term_starts(first, last)
    }

    /// The position index of a segment: one frame of every 64 KiB, for its sidecar.
    ///
    /// # Errors
    /// [`Error::Damaged`]; I/O. A segment that is not there has none.
    pub fn marks(&self, base: LogPosition) -> Result<Vec<Mark>, Error> {
        self.0.inner.marks(base)
    }

    /// Gives a sealed segment the position index its sidecar kept, so that it need not be walked.
    pub fn restore_marks(&self, base: LogPosition, marks: Vec<Mark>) {
        self.0.inner.restore_marks(base, marks);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.state.lock().closing = true;
        self.inner.queued.notify_all();
        self.inner.grown.notify_all();
        for thread in self.threads.get_mut().drain(..) {
            // The last clone may be dropped by a callback, on the writer's own thread.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!(log.dir = %self.inner.config.dir.display(), "a thread of the log panicked");
            }
        }
    }
}
