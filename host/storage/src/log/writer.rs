//! The one who writes: group commits, new segments, and the threads that do both.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use pointsman_model::ids::{LogIndex, LogPosition};
use pointsman_model::limits;

use super::frame::{FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, Frame};
use super::mutant::Mutant;
use super::segment::{Source, file_offset, path};
use super::segment_header::{SegmentHeader, Watermark};
use super::spare::Spare;
use super::state::{Job, State};
use super::{Inner, OnFlushed};
use crate::Error;
use crate::base::BaseFile;
use crate::disk::DiskFile;

/// The active segment as the writer knows it.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) base: LogPosition,
    pub(crate) file: Arc<dyn DiskFile>,
    /// End of the last group commit that was synced.
    pub(crate) durable: LogPosition,
    /// Counter of the newest watermark slot.
    pub(crate) counter: u64,
}

/// What only the writer touches.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) active: Option<Active>,
    pub(crate) base_file: BaseFile,
}

/// What one commit takes from the queue: frames of one segment and the callbacks among them, or one new segment.
#[derive(Default)]
struct Batch {
    open: Option<(SegmentHeader, Arc<Spare>)>,
    frames: Vec<(Frame, [u8; FRAME_HEADER_BYTES])>,
    calls: Vec<OnFlushed>,
}

impl Batch {
    fn take(queue: &mut VecDeque<Job>) -> Self {
        let mut batch = Self::default();
        let mut bytes = 0;
        loop {
            match queue.front() {
                Some(Job::Write(frame, _))
                    if batch.frames.is_empty() || bytes + frame.bytes() <= limits::GROUP_COMMIT_BYTES_MAX =>
                {
                    bytes += frame.bytes();
                }
                Some(Job::Call(_)) => {}
                Some(Job::Open(..)) if batch.frames.is_empty() && batch.calls.is_empty() => {}
                _ => return batch,
            }
            match queue.pop_front() {
                Some(Job::Write(frame, header)) => batch.frames.push((frame, header)),
                Some(Job::Call(call)) => batch.calls.push(call),
                Some(Job::Open(header, spare)) => {
                    batch.open = Some((header, spare));
                    return batch;
                }
                None => return batch,
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.open.is_none() && self.frames.is_empty() && self.calls.is_empty()
    }
}

impl Inner {
    /// Does everything that is queued.
    pub(crate) fn drain(&self, writer: &mut Writer) -> Result<(), Error> {
        while self.commit(writer)? {}
        self.state.lock().check_poison()
    }

    /// Does one batch; false if nothing was queued.
    pub(crate) fn commit(&self, writer: &mut Writer) -> Result<bool, Error> {
        let mut state = self.state.lock();
        state.check_poison()?;
        let batch = Batch::take(&mut state.queue);
        drop(state);
        if batch.is_empty() {
            return Ok(false);
        }
        let Batch { open, frames, calls } = batch;
        if let Some((header, spare)) = open {
            return match self.open_segment(writer, header, &spare) {
                Ok(()) => Ok(true),
                Err(error) => Err(self.poison(error, frames, calls)),
            };
        }
        let calls = self.mutated_calls(&frames, calls);
        if let Err(error) = self.write(writer, &frames) {
            return Err(self.poison(error, frames, calls));
        }
        self.publish(frames, calls);
        Ok(true)
    }

    /// One group commit: frames and watermark, then one sync.
    fn write(&self, writer: &mut Writer, frames: &[(Frame, [u8; FRAME_HEADER_BYTES])]) -> Result<(), Error> {
        let (Some((first, _)), Some((last, _))) = (frames.first(), frames.last()) else { return Ok(()) };
        let owner = self.config.owner();
        let Some(active) = &mut writer.active else {
            unreachable!("a frame is queued behind the opening of its segment")
        };
        assert_eq!(active.base, first.location.segment_base, "a frame is written to its own segment");
        assert_eq!(active.durable, first.location.position, "frames follow each other without a gap");
        let path = path(&self.config.segments_dir(), active.base);

        let padding = [0; FRAME_ALIGN_BYTES];
        let mut slices = Vec::with_capacity(frames.len() * 3);
        for (frame, header) in frames {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&frame.records));
            slices.push(IoSlice::new(&padding[..frame.bytes() - FRAME_HEADER_BYTES - frame.records.len()]));
        }
        let watermark = if self.mutated(Mutant::WatermarkTooEarly) { last.end() } else { active.durable };
        let slot = Watermark { counter: active.counter + 1, position: watermark };
        let offset = file_offset(active.base, first.location.position);
        active.file.append(&mut slices, offset).map_err(Error::io("write", &path))?;
        active
            .file
            .write_all_at(&slot.encode(&owner, active.base), slot.offset())
            .map_err(Error::io("write", &path))?;
        self.sync(&*active.file).map_err(Error::io("sync", &path))?;
        active.counter += 1;
        active.durable = last.end();
        Ok(())
    }

    /// Moves the durable end, then tells everyone.
    fn publish(&self, frames: Vec<(Frame, [u8; FRAME_HEADER_BYTES])>, calls: Vec<OnFlushed>) {
        if let Some((last, _)) = frames.last() {
            let mut state = self.state.lock();
            state.flushed = Some(last.index);
            let durable = last.index;
            state.tail.evict(self.config.tail_cache_bytes, durable);
            drop(state);
            self.durable.notify_all();
            self.grown.notify_one();
        }
        for ticket in frames.iter().filter_map(|(frame, _)| frame.ticket.as_ref()) {
            ticket.fsynced(true);
        }
        for call in calls {
            call(Ok(()));
        }
    }

    /// Makes a reserved file the active segment: header, sync, name, sync of the directory.
    fn open_segment(&self, writer: &mut Writer, header: SegmentHeader, spare: &Spare) -> Result<(), Error> {
        let dir = self.config.segments_dir();
        let fresh;
        let spare = match spare.take() {
            Ok(()) => spare,
            Err(error) => {
                tracing::warn!(%error, "a segment could not be zeroed ahead; another one is made");
                fresh = self.fresh_spare(spare.len())?;
                &fresh
            }
        };
        let to = path(&dir, header.base);
        let page = header.encode_page(&self.config.owner());
        spare.file.write_all_at(&page, 0).map_err(Error::io("write", &spare.path))?;
        self.sync(&*spare.file).map_err(Error::io("sync", &spare.path))?;
        self.disk.rename(&spare.path, &to).map_err(Error::io("rename", &spare.path))?;
        if !self.mutated(Mutant::DirectoryNotSynced) {
            self.disk.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        }
        let file = Arc::clone(&spare.file);
        let mut state = self.state.lock();
        if let Some(segment) = state.segments.iter_mut().find(|segment| segment.base == header.base) {
            segment.source = Some(Source::File(Arc::clone(&file)));
        }
        state.spare_refused = false;
        writer.active = Some(Active { base: header.base, file, durable: header.base, counter: 0 });
        Ok(())
    }

    pub(crate) fn sync(&self, file: &dyn DiskFile) -> std::io::Result<()> {
        let done = file.sync_data();
        if self.mutated(Mutant::SyncErrorIgnored) { Ok(()) } else { done }
    }

    /// Ends all writing: everything queued fails, and so does every later call.
    pub(crate) fn poison(
        &self,
        error: Error,
        frames: Vec<(Frame, [u8; FRAME_HEADER_BYTES])>,
        calls: Vec<OnFlushed>,
    ) -> Error {
        let cause = Arc::new(error);
        tracing::error!(log.dir = %self.config.dir.display(), error = %cause, "writing to the log stopped");
        let mut state = self.state.lock();
        state.poison.get_or_insert_with(|| Arc::clone(&cause));
        let queued = std::mem::take(&mut state.queue);
        drop(state);
        self.durable.notify_all();
        let mut tickets: Vec<_> = frames.into_iter().filter_map(|(frame, _)| frame.ticket).collect();
        let mut calls = calls;
        for job in queued {
            match job {
                Job::Write(frame, _) => tickets.extend(frame.ticket),
                Job::Call(call) => calls.push(call),
                Job::Open(..) => {}
            }
        }
        for ticket in tickets {
            ticket.fsynced(false);
        }
        for call in calls {
            call(Err(Error::Poisoned(Arc::clone(&cause))));
        }
        Error::Poisoned(cause)
    }

    /// The writer's thread.
    pub(crate) fn run_writer(&self) {
        let _guard = PoisonOnPanic(self);
        loop {
            let mut state = self.state.lock();
            while state.queue.is_empty() && !state.closing {
                self.queued.wait(&mut state);
            }
            if state.queue.is_empty() {
                return;
            }
            drop(state);
            // A failure has answered everyone; what is queued later is refused at the door.
            if self.commit(&mut self.writer.lock()).is_err() {
                self.state.lock().queue.clear();
            }
        }
    }

    /// Where the log ends for a reader of `index`: nothing above it is on disk.
    pub(crate) fn is_durable(state: &State, index: LogIndex) -> bool {
        state.flushed.is_some_and(|flushed| index <= flushed)
    }
}

/// Answers everyone who waits if the writer's thread panics.
struct PoisonOnPanic<'a>(&'a Inner);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(Error::WriterPanicked, Vec::new(), Vec::new());
        }
    }
}
