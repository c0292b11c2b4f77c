//! Reads a checkpoint back, item by item.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::format::{self, BLOCK_HEADER_BYTES, BadHeader, FORMAT, HEADER_BYTES, TRAILER_BYTES, Trailer};
use super::{Checkpoint, Meta, Result};
use crate::Error;
use crate::disk::{Disk, DiskFile};
use crate::identity::Owner;

/// A checkpoint that is being read: an iterator over its keys and values, ascending.
///
/// An item comes out of a block whose checksum held. Damage is an item that is an error, and the last one; so is a file
/// that ends too early or does not match its own hash. A caller that saw an error has seen *part* of a state.
pub struct Import {
    path: PathBuf,
    owner: Owner,
    file: Arc<dyn DiskFile>,
    length: u64,
    meta: Meta,
    at: u64,
    hash: Xxh3,
    block: Bytes,
    blocks: u64,
    items: u64,
    last_key: Bytes,
    /// The fingerprint, once everything was read and matched.
    whole: Option<u64>,
    failed: bool,
}

impl Import {
    pub(super) fn open(disk: &dyn Disk, owner: &Owner, path: &Path) -> Result<Self> {
        let damaged = |reason| Error::DamagedFile { path: path.to_path_buf(), reason };
        let file = disk.open_read(path).map_err(Error::io("open", path))?;
        let length = file.len().map_err(Error::io("read", path))?;
        let mut fixed = [0; HEADER_BYTES];
        let bad = |bad| match bad {
            BadHeader::Damaged(reason) => damaged(reason),
            BadHeader::Format(found) => Error::UnknownFormat { path: path.to_path_buf(), found, known: FORMAT },
        };
        if length < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(damaged("it is too short"));
        }
        file.read_exact_at(&mut fixed, 0).map_err(Error::io("read", path))?;
        let extra_bytes = format::extra_bytes(&fixed).map_err(bad)?;
        let at = (HEADER_BYTES + extra_bytes) as u64;
        if at + TRAILER_BYTES as u64 > length {
            return Err(damaged("it is too short"));
        }
        let mut extra = vec![0; extra_bytes];
        file.read_exact_at(&mut extra, HEADER_BYTES as u64).map_err(Error::io("read", path))?;
        let meta = format::decode_header(owner, &fixed, &extra).map_err(bad)?;
        let mut hash = Xxh3::new();
        hash.update(&fixed);
        hash.update(&extra);
        Ok(Self {
            path: path.to_path_buf(),
            owner: *owner,
            file,
            length,
            meta,
            at,
            hash,
            block: Bytes::new(),
            blocks: 0,
            items: 0,
            last_key: Bytes::new(),
            whole: None,
            failed: false,
        })
    }

    /// What it is the state of.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Reads it to the end.
    ///
    /// # Errors
    /// [`Error::DamagedFile`], [`Error::KeysOutOfOrder`], [`Error::Io`].
    pub fn verify(mut self) -> Result<Checkpoint> {
        for item in &mut self {
            item?;
        }
        match self.whole {
            Some(fingerprint) => Ok(Checkpoint { meta: self.meta, fingerprint, bytes: self.length }),
            None => Err(self.damaged("it was read in part")),
        }
    }

    fn damaged(&self, reason: &'static str) -> Error {
        Error::DamagedFile { path: self.path.clone(), reason }
    }

    fn read(&self, length: usize) -> Result<Bytes> {
        let mut bytes = BytesMut::zeroed(length);
        match self.file.read_exact_at(&mut bytes, self.at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged("it is too short")),
            other => other.map(|()| bytes.freeze()).map_err(Error::io("read", &self.path)),
        }
    }

    fn next_item(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        if self.block.is_empty() && !self.next_block()? {
            return Ok(None);
        }
        let (key, value) =
            format::decode_item(&mut self.block).ok_or_else(|| self.damaged("a block's lengths do not fit"))?;
        if key <= self.last_key {
            return Err(Error::KeysOutOfOrder);
        }
        self.last_key = key.clone();
        self.items += 1;
        Ok(Some((key, value)))
    }

    /// Reads the next block, or verifies the trailer and returns false.
    fn next_block(&mut self) -> Result<bool> {
        let left = self.length - self.at;
        let trailer = TRAILER_BYTES as u64;
        if left == trailer {
            return self.end().map(|()| false);
        }
        if left < trailer + BLOCK_HEADER_BYTES as u64 {
            return Err(self.damaged("it ends within a block"));
        }
        let header = self.read(BLOCK_HEADER_BYTES)?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        // Bounded by the file before anything is allocated.
        if length == 0 || u64::from(length) + BLOCK_HEADER_BYTES as u64 + trailer > left {
            return Err(self.damaged("a block's length does not fit"));
        }
        self.at += BLOCK_HEADER_BYTES as u64;
        let items = self.read(length as usize)?;
        if format::block_crc(&self.owner, self.blocks, &items).to_le_bytes()[..] != header[4..] {
            return Err(self.damaged("a block does not match its checksum"));
        }
        self.at += u64::from(length);
        self.hash.update(&header);
        self.hash.update(&items);
        self.blocks += 1;
        self.block = items;
        Ok(true)
    }

    fn end(&mut self) -> Result<()> {
        let mut bytes = [0; TRAILER_BYTES];
        bytes.copy_from_slice(&self.read(TRAILER_BYTES)?);
        let trailer = Trailer::decode(&bytes, &self.owner).ok_or_else(|| self.damaged("its trailer is damaged"))?;
        if trailer != (Trailer { items: self.items, fingerprint: self.hash.digest() }) {
            return Err(self.damaged("it does not match its trailer"));
        }
        self.whole = Some(trailer.fingerprint);
        Ok(())
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").field("path", &self.path).field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Iterator for Import {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.whole.is_some() {
            return None;
        }
        let item = self.next_item();
        self.failed = item.is_err();
        item.transpose()
    }
}
