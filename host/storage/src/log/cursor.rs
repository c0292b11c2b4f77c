//! Walks the frames of one segment, from a mapping or through chunks of the file.

use std::io;

use bytes::{Bytes, BytesMut};
use pointsman_model::ids::LogPosition;

use super::frame::{Bad, FRAME_HEADER_BYTES, FrameHeader};
use super::segment::{Source, file_offset};
use crate::identity::Owner;

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Reads frames one after another.
#[derive(Debug)]
pub(crate) struct Cursor {
    source: Source,
    owner: Owner,
    base: LogPosition,
    /// Frames must end here at the latest.
    limit: LogPosition,
    /// Where the next frame starts.
    pub(crate) position: LogPosition,
    chunk: Bytes,
    chunk_at: LogPosition,
}

/// Why there is no next frame.
#[derive(Debug)]
pub(crate) enum Stop {
    Bad(Bad),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        // A file that ends early is no failure of the disk, it is a frame that is not all there.
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Bad(Bad::Frame("the file ends early"))
        } else {
            Self::Io(error)
        }
    }
}

impl Cursor {
    pub(crate) fn new(source: Source, owner: Owner, base: LogPosition, from: LogPosition, limit: LogPosition) -> Self {
        Self { source, owner, base, limit, position: from, chunk: Bytes::new(), chunk_at: from }
    }

    /// The header at the cursor, verified; does not move.
    pub(crate) fn header(&mut self) -> Result<FrameHeader, Stop> {
        if self.position.0 + FRAME_HEADER_BYTES as u64 > self.limit.0 {
            return Err(Stop::Bad(Bad::Empty));
        }
        let bytes = self.bytes(self.position, FRAME_HEADER_BYTES)?;
        let Some(fixed) = bytes.first_chunk() else { return Err(Stop::Bad(Bad::Empty)) };
        let header = FrameHeader::decode(fixed, &self.owner, self.base).map_err(Stop::Bad)?;
        if self.position.0 + header.bytes() > self.limit.0 {
            return Err(Stop::Bad(Bad::Frame("the frame does not fit its segment")));
        }
        Ok(header)
    }

    /// The records, with the zeros behind them, of the frame at the cursor, verified; does not move.
    pub(crate) fn records(&mut self, header: &FrameHeader) -> Result<Bytes, Stop> {
        let from = LogPosition(self.position.0 + FRAME_HEADER_BYTES as u64);
        let rest = self.bytes(from, header.bytes() as usize - FRAME_HEADER_BYTES)?;
        header.verify_records(&rest).map_err(Stop::Bad)?;
        Ok(rest)
    }

    /// Moves behind the frame at the cursor.
    pub(crate) fn skip(&mut self, header: &FrameHeader) {
        self.position.0 += header.bytes();
    }

    /// Bytes of the segment, from the chunk at hand if it has them.
    pub(crate) fn bytes(&mut self, from: LogPosition, length: usize) -> io::Result<Bytes> {
        let file = match &self.source {
            Source::Mapped(map) => {
                let at = file_offset(self.base, from) as usize;
                return match at.checked_add(length) {
                    Some(end) if end <= map.len() => Ok(map.slice(at..end)),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            Source::File(file) => file,
        };
        let within = |chunk: &Bytes, chunk_at: LogPosition| {
            let at = from.0.checked_sub(chunk_at.0)? as usize;
            (at + length <= chunk.len()).then(|| chunk.slice(at..at + length))
        };
        if let Some(bytes) = within(&self.chunk, self.chunk_at) {
            return Ok(bytes);
        }
        let wanted = length.max(CHUNK_BYTES.min(self.limit.0.saturating_sub(from.0) as usize));
        let mut chunk = BytesMut::zeroed(wanted);
        let read = file.read_up_to(&mut chunk, file_offset(self.base, from))?;
        chunk.truncate(read);
        (self.chunk, self.chunk_at) = (chunk.freeze(), from);
        within(&self.chunk, self.chunk_at).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
