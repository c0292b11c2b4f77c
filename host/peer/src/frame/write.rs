//! Turns frames into bytes and bytes into as few writes as possible, without copying bodies.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::{HEADER_BYTES, Head};

/// Pieces up to this are copied beside their header: cheaper than one more slice of a write.
const COPY_BYTES_MAX: usize = 512;
/// Slices of one write.
const SLICES_MAX: usize = 256;

/// The body of a frame to be sent.
#[derive(Debug)]
pub(crate) enum Pieces {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Pieces {
    pub(crate) const NONE: Self = Self::Many(Vec::new());

    pub(crate) fn as_slice(&self) -> &[Bytes] {
        match self {
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().iter().map(Bytes::len).sum()
    }
}

impl From<Bytes> for Pieces {
    fn from(piece: Bytes) -> Self {
        Self::One(piece)
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self::Many(pieces)
    }
}

/// A frame to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) head: Head,
    pub(crate) pieces: Pieces,
    /// Set once a part of it may have left: until then it was surely not delivered.
    pub(crate) left: Option<Arc<AtomicBool>>,
}

impl Outgoing {
    pub(crate) fn new(head: Head, pieces: impl Into<Pieces>) -> Self {
        Self { head, pieces: pieces.into(), left: None }
    }

    /// A frame without a body.
    pub(crate) fn bare(head: Head) -> Self {
        Self { head, pieces: Pieces::NONE, left: None }
    }

    pub(crate) fn wire_bytes(&self) -> usize {
        HEADER_BYTES + self.pieces.len()
    }
}

/// Bytes waiting to be written: headers and small pieces in an arena, large pieces as they are.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    slices: VecDeque<Bytes>,
    arena: BytesMut,
}

impl Unwritten {
    /// Adds a frame.
    pub(crate) fn push(&mut self, frame: &Outgoing) {
        let pieces = frame.pieces.as_slice();
        self.arena.extend_from_slice(&frame.head.encode(pieces));
        for piece in pieces {
            if piece.len() <= COPY_BYTES_MAX {
                self.arena.extend_from_slice(piece);
            } else {
                self.seal();
                self.slices.push_back(piece.clone());
            }
        }
    }

    /// Makes the arena's bytes writable; to be called after the last `push`.
    pub(crate) fn seal(&mut self) {
        if !self.arena.is_empty() {
            self.slices.push_back(self.arena.split().freeze());
        }
    }

    /// Whether everything was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.arena.is_empty()
    }

    /// One write of as much as the connection takes; how many bytes it took. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// Of the connection.
    pub(crate) async fn write_some<W: AsyncWrite + Unpin + ?Sized>(&mut self, io: &mut W) -> io::Result<usize> {
        let count = std::future::poll_fn(|context| {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = self.slices.len().min(SLICES_MAX);
            for (slice, bytes) in slices.iter_mut().zip(&self.slices) {
                *slice = IoSlice::new(bytes);
            }
            Pin::new(&mut *io).poll_write_vectored(context, &slices[..used])
        })
        .await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.advance(count);
        Ok(count)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.slices.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.slices.pop_front();
        }
        assert_eq!(count, 0, "a connection takes no more than it is given");
    }
}

#[cfg(test)]
impl Unwritten {
    /// Everything in it as one piece.
    pub(crate) fn concat(&self) -> Vec<u8> {
        assert!(self.arena.is_empty(), "to be sealed first");
        let mut bytes = Vec::new();
        for slice in &self.slices {
            bytes.extend_from_slice(slice);
        }
        bytes
    }
}
