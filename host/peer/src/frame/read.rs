//! Reads frames off a connection, without copying their bodies.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Announced, Broken, Frame, HEADER_BYTES};

/// A frame is given so much memory before any of it has arrived; a longer one grows as it comes.
const AHEAD_BYTES: usize = 2 << 20;

/// Buffers that are kept to be used again: memory that was just given back to the system costs more than reading into it.
const SPENT_MAX: usize = 8;
/// Longer buffers than so many chunks are not kept.
const SPENT_CHUNKS_MAX: usize = 8;

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Reads frames; bodies share the buffer they were read into.
pub(crate) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    /// Buffers that were read full; their frames may still be in use.
    spent: VecDeque<BytesMut>,
    chunk_bytes: usize,
    length_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads `chunk_bytes` at a time, if they are there, and frames with bodies of at most `length_max` bytes.
    pub(crate) fn new(io: R, chunk_bytes: usize, length_max: usize) -> Self {
        Self { io, buffer: BytesMut::new(), spent: VecDeque::new(), chunk_bytes, length_max }
    }

    /// Changes the bounds, for what comes after the hello.
    pub(crate) fn set_bounds(&mut self, chunk_bytes: usize, length_max: usize) {
        (self.chunk_bytes, self.length_max) = (chunk_bytes, length_max);
    }

    /// A frame that has already arrived whole.
    ///
    /// # Errors
    /// What arrived is no frame. The connection is of no further use.
    pub(crate) fn ready(&mut self) -> Result<Option<Frame>, Broken> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>().copied() else {
            return Ok(None);
        };
        let announced = Announced::decode(&header, self.length_max)?;
        if self.buffer.len() < HEADER_BYTES + announced.length {
            return Ok(None);
        }
        announced.verify(&header, &self.buffer[HEADER_BYTES..][..announced.length])?;
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(Frame { head: announced.head, body: self.buffer.split_to(announced.length).freeze() }))
    }

    /// Reads what has arrived, at least a byte; 0 at the end. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// Of the connection; also if it ends within a frame.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.reserve();
        let count = self.io.read_buf(&mut self.buffer).await?;
        if count == 0 && !self.buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }

    /// The next frame, or `None` at the end.
    ///
    /// # Errors
    /// Of the connection, or what arrived is no frame.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Makes room for the rest of the frame under way, or for a chunk.
    fn reserve(&mut self) {
        let have = self.buffer.len();
        let length = self.buffer.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        let missing = (HEADER_BYTES + length.min(self.length_max)).saturating_sub(have).min(AHEAD_BYTES.max(have));
        let spare = self.buffer.capacity() - have;
        if spare >= missing && spare >= self.chunk_bytes / 4 {
            return;
        }
        let wanted = missing.max(self.chunk_bytes);
        if self.buffer.try_reclaim(wanted) {
            return;
        }
        let mut next = self.unused(have + wanted);
        next.extend_from_slice(&self.buffer);
        let mut spent = std::mem::replace(&mut self.buffer, next);
        if have + wanted <= SPENT_CHUNKS_MAX * self.chunk_bytes {
            spent.clear();
            if self.spent.len() == SPENT_MAX {
                self.spent.pop_front();
            }
            self.spent.push_back(spent);
        }
    }

    /// A spent buffer whose frames are all gone, or a new one.
    fn unused(&mut self, bytes: usize) -> BytesMut {
        let free = self.spent.iter_mut().position(|spent| spent.try_reclaim(bytes));
        free.and_then(|at| self.spent.remove(at)).unwrap_or_else(|| BytesMut::with_capacity(bytes))
    }
}

#[cfg(test)]
impl<R> FrameReader<R> {
    /// The memory it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}
