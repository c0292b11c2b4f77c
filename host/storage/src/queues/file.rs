//! The file that all three sidecars are: a header, a body, and a checksum for each block of the body.
//!
//! Written under another name, synced, made read-only and renamed; never changed after that. A reader verifies the
//! blocks it hands out each time, on the bytes it hands out. Layout: `docs/reference/disk-format.md`.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use pointsman_model::{LogIndex, LogPosition};

use super::Result;
use crate::Error;
use crate::disk::{Disk, DiskFile};
use crate::identity::Owner;

const MAGIC: [u8; 6] = *b"PMSIDE";
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 64;
const HEADER_CRC_AT: usize = HEADER_BYTES - 4;
const BLOCK_BYTES: usize = 4_096;
const CHECKSUM_BYTES: usize = 4;
/// Encoded bytes held before they are written.
const BUFFER_BYTES: usize = 64 * BLOCK_BYTES;

/// Which sidecar a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queues = 1,
    Keys = 2,
    Positions = 3,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Queues, Self::Keys, Self::Positions];

    /// The file of a segment. No name in it is a client's.
    pub(super) fn file_name(self, base: LogPosition) -> String {
        let extension = match self {
            Self::Queues => "queues",
            Self::Keys => "keys",
            Self::Positions => "positions",
        };
        format!("{:020}.{extension}", base.0)
    }
}

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) base: LogPosition,
    pub(super) first: LogIndex,
    pub(super) last: LogIndex,
    /// Entries of the directory at the start of the body.
    pub(super) directory: u32,
    /// Items behind it.
    pub(super) items: u64,
}

impl Header {
    fn encode(&self, owner: &Owner, checksums_crc: u32) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut rest = &mut out[..];
        rest.put_slice(&MAGIC);
        rest.put_u16_le(FORMAT);
        rest.put_u8(self.kind as u8);
        rest.put_slice(&[0; 3]);
        rest.put_u32_le(self.directory);
        rest.put_u64_le(self.base.0);
        rest.put_u64_le(self.first.0);
        rest.put_u64_le(self.last.0);
        rest.put_u64_le(self.items);
        rest.put_u32_le(checksums_crc);
        let crc = owner.crc(&out[..HEADER_CRC_AT]);
        out[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header and the checksum of the block checksums, or what is wrong.
    fn decode(bytes: &[u8; HEADER_BYTES], kind: Kind, owner: &Owner) -> std::result::Result<(Self, u32), &'static str> {
        let crc = owner.crc(&bytes[..HEADER_CRC_AT]).to_le_bytes();
        if bytes[..6] != MAGIC || crc[..] != bytes[HEADER_CRC_AT..] {
            return Err("the header does not match its checksum");
        }
        let mut rest = &bytes[6..];
        if rest.get_u16_le() != FORMAT {
            return Err("the format is not known");
        }
        if rest.get_u8() != kind as u8 {
            return Err("it is a sidecar of another kind");
        }
        rest.advance(3);
        let directory = rest.get_u32_le();
        let base = LogPosition(rest.get_u64_le());
        let first = LogIndex(rest.get_u64_le());
        let last = LogIndex(rest.get_u64_le());
        let items = rest.get_u64_le();
        Ok((Self { kind, base, first, last, directory, items }, rest.get_u32_le()))
    }
}

/// The checksum of a block covers its place too, so that a block in another's place is damage.
fn block_crc(owner: &Owner, kind: Kind, base: LogPosition, block: usize, bytes: &[u8]) -> u32 {
    let mut place = [0; 17];
    place[0] = kind as u8;
    place[1..9].copy_from_slice(&base.0.to_le_bytes());
    place[9..].copy_from_slice(&(block as u64).to_le_bytes());
    crc32c::crc32c_append(owner.crc(&place), bytes)
}

/// Writes one file.
pub(super) struct Writer<'a> {
    disk: &'a dyn Disk,
    owner: &'a Owner,
    dir: &'a Path,
    unfinished: PathBuf,
    file: Arc<dyn DiskFile>,
    header: Header,
    buffer: Vec<u8>,
    checksums: Vec<u8>,
    written: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn create(disk: &'a dyn Disk, owner: &'a Owner, dir: &'a Path, header: Header) -> Result<Self> {
        let unfinished = dir.join(format!("{}.tmp", header.kind.file_name(header.base)));
        remove(disk, &unfinished)?;
        let file = disk.create(&unfinished).map_err(Error::io("create", &unfinished))?;
        let (buffer, checksums) = (Vec::with_capacity(BUFFER_BYTES + BLOCK_BYTES), Vec::new());
        Ok(Self { disk, owner, dir, unfinished, file, header, buffer, checksums, written: 0 })
    }

    /// Where to append the next item, of at most a block; what is there is written when it is enough.
    pub(super) fn item(&mut self) -> Result<&mut Vec<u8>> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_blocks(BUFFER_BYTES)?;
        }
        Ok(&mut self.buffer)
    }

    fn write_blocks(&mut self, length: usize) -> Result<()> {
        for block in self.buffer[..length].chunks(BLOCK_BYTES) {
            let number = self.checksums.len() / CHECKSUM_BYTES;
            let crc = block_crc(self.owner, self.header.kind, self.header.base, number, block);
            self.checksums.put_u32_le(crc);
        }
        let at = HEADER_BYTES as u64 + self.written;
        self.file.write_all_at(&self.buffer[..length], at).map_err(Error::io("write", &self.unfinished))?;
        self.written += length as u64;
        self.buffer.drain(..length);
        Ok(())
    }

    /// Writes the rest and gives the file its name; the caller syncs the directory.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write_blocks(self.buffer.len())?;
        let at = HEADER_BYTES as u64 + self.written;
        let header = self.header.encode(self.owner, crc32c::crc32c(&self.checksums));
        let path = self.dir.join(self.header.kind.file_name(self.header.base));
        self.file
            .write_all_at(&self.checksums, at)
            .and_then(|()| self.file.write_all_at(&header, 0))
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.disk.set_read_only(&self.unfinished, true))
            .and_then(|()| self.disk.rename(&self.unfinished, &path))
            .map_err(Error::io("write", &self.unfinished))
    }
}

/// Removes a file that may not be there.
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[derive(Debug)]
enum Source {
    Mapped(Bytes),
    File(Arc<dyn DiskFile>),
}

/// One file, open for reading.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    owner: Owner,
    header: Header,
    body_bytes: u64,
    source: Source,
    checksums: Bytes,
}

impl Reader {
    /// Opens a file and verifies all but the blocks of its body. `body_bytes` tells the body's length from the header.
    ///
    /// # Errors
    /// [`Error::SidecarDamaged`] also if the file is not there: both heal by building it again.
    pub(super) fn open(
        disk: &dyn Disk,
        owner: &Owner,
        dir: &Path,
        kind: Kind,
        base: LogPosition,
        body_bytes: impl FnOnce(&Header) -> Option<u64>,
    ) -> Result<Self> {
        let path = dir.join(kind.file_name(base));
        let damaged = |reason| Error::SidecarDamaged { segment: base, path: path.clone(), reason };
        let file = match disk.open_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("it is not there")),
            other => other.map_err(Error::io("open", &path))?,
        };
        let length = file.len().map_err(Error::io("read", &path))?;
        let mut bytes = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(damaged("it is too short"));
        }
        file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", &path))?;
        let (header, checksums_crc) = Header::decode(&bytes, kind, owner).map_err(damaged)?;
        if header.base != base {
            return Err(damaged("it belongs to another segment"));
        }
        let body_bytes = body_bytes(&header).ok_or_else(|| damaged("its counts are impossible"))?;
        let checksums_bytes = body_bytes.div_ceil(BLOCK_BYTES as u64) * CHECKSUM_BYTES as u64;
        let checksums_at = HEADER_BYTES as u64 + body_bytes;
        if checksums_at.checked_add(checksums_bytes) != Some(length) {
            return Err(damaged("its length does not fit its header"));
        }
        let length = usize::try_from(length).map_err(|_| damaged("it is too long"))?;
        let source = match file.map(length).map_err(Error::io("map", &path))? {
            Some(bytes) => Source::Mapped(bytes),
            None => Source::File(file),
        };
        let mut reader = Self { path, owner: *owner, header, body_bytes, source, checksums: Bytes::new() };
        reader.checksums = reader.raw(checksums_at..length as u64)?;
        if crc32c::crc32c(&reader.checksums) != checksums_crc {
            return Err(reader.damaged("its checksums do not match theirs"));
        }
        Ok(reader)
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn damaged(&self, reason: &'static str) -> Error {
        Error::SidecarDamaged { segment: self.header.base, path: self.path.clone(), reason }
    }

    /// Bytes of the body, verified.
    pub(super) fn read(&self, range: Range<u64>) -> Result<Bytes> {
        assert!(range.start <= range.end && range.end <= self.body_bytes, "a read outside the sidecar");
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let block = BLOCK_BYTES as u64;
        let blocks = range.start / block * block..range.end.next_multiple_of(block).min(self.body_bytes);
        let bytes = self.raw(HEADER_BYTES as u64 + blocks.start..HEADER_BYTES as u64 + blocks.end)?;
        let first = (blocks.start / block) as usize;
        for (number, bytes) in (first..).zip(bytes.chunks(BLOCK_BYTES)) {
            let crc = block_crc(&self.owner, self.header.kind, self.header.base, number, bytes).to_le_bytes();
            if crc[..] != self.checksums[number * CHECKSUM_BYTES..][..CHECKSUM_BYTES] {
                return Err(self.damaged("a block does not match its checksum"));
            }
        }
        let from = (range.start - blocks.start) as usize;
        Ok(bytes.slice(from..from + (range.end - range.start) as usize))
    }

    /// Bytes of the file, as they are.
    fn raw(&self, range: Range<u64>) -> Result<Bytes> {
        match &self.source {
            Source::Mapped(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Source::File(file) => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                match file.read_exact_at(&mut bytes, range.start) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged("it is too short")),
                    other => other.map(|()| bytes.into()).map_err(Error::io("read", &self.path)),
                }
            }
        }
    }
}
