//! The newest frames, in memory: what was appended last is read first.

use std::collections::VecDeque;

use bytes::Bytes;
use pointsman_model::ids::{LogIndex, LogPosition};

use super::frame::Frame;

/// A run of frames up to the end of the log. Frames that are not durable yet are always in it.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Tail {
    /// Index of its first frame.
    pub(crate) fn first(&self) -> Option<LogIndex> {
        self.frames.front().map(|frame| frame.index)
    }

    /// The frame with an index.
    pub(crate) fn get(&self, index: LogIndex) -> Option<&Frame> {
        let at = index.0.checked_sub(self.first()?.0)?;
        self.frames.get(usize::try_from(at).ok()?)
    }

    /// The bytes at a position, if one frame holds them all.
    pub(crate) fn bytes_at(&self, position: LogPosition, length: usize) -> Option<Bytes> {
        let at = self.frames.partition_point(|frame| frame.records_position() <= position).checked_sub(1)?;
        let frame = &self.frames[at];
        let from = usize::try_from(position.0 - frame.records_position().0).ok()?;
        (from.checked_add(length)? <= frame.records.len()).then(|| frame.records.slice(from..from + length))
    }

    /// Adds the next frame.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
    }

    /// Forgets the oldest frames that are durable, until it fits.
    pub(crate) fn evict(&mut self, bytes_max: usize, durable: LogIndex) {
        while self.bytes > bytes_max && self.frames.front().is_some_and(|frame| frame.index <= durable) {
            self.pop_front();
        }
    }

    /// Forgets everything after `last`.
    pub(crate) fn truncate_after(&mut self, last: Option<LogIndex>) {
        while self.frames.back().is_some_and(|frame| last.is_none_or(|last| frame.index > last)) {
            self.bytes -= self.frames.pop_back().map_or(0, |frame| frame.bytes());
        }
    }

    /// Forgets everything up to `upto`.
    pub(crate) fn purge(&mut self, upto: LogIndex) {
        while self.frames.front().is_some_and(|frame| frame.index <= upto) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        self.bytes -= self.frames.pop_front().map_or(0, |frame| frame.bytes());
    }
}
