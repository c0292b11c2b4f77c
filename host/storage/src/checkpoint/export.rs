//! Writes a snapshot of the state to a file.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::format::{self, BLOCK_BYTES_TARGET, BLOCK_HEADER_BYTES, Trailer};
use super::{Checkpoint, Meta, Result};
use crate::Error;
use crate::disk::{Disk, DiskFile};
use crate::identity::Owner;
use crate::state::Snapshot;

struct Writer<'a> {
    owner: &'a Owner,
    path: &'a Path,
    file: Arc<dyn DiskFile>,
    hash: Xxh3,
    length: u64,
    /// Header and items of the block that is being filled.
    block: Vec<u8>,
    blocks: u64,
    items: u64,
}

impl Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.length).map_err(Error::io("write", self.path))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn item(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        format::encode_item(&mut self.block, key, value);
        self.items += 1;
        if self.block.len() >= BLOCK_BYTES_TARGET { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<()> {
        let mut block = std::mem::take(&mut self.block);
        let items = &block[BLOCK_HEADER_BYTES..];
        if !items.is_empty() {
            let crc = format::block_crc(self.owner, self.blocks, items).to_le_bytes();
            let length = (items.len() as u32).to_le_bytes();
            block[..4].copy_from_slice(&length);
            block[4..BLOCK_HEADER_BYTES].copy_from_slice(&crc);
            self.write(&block)?;
            self.blocks += 1;
            block.truncate(BLOCK_HEADER_BYTES);
        }
        self.block = block;
        Ok(())
    }
}

/// Writes and syncs the file; the caller gives it its name.
pub(super) fn write(
    disk: &dyn Disk,
    owner: &Owner,
    path: &Path,
    snapshot: &dyn Snapshot,
    meta: &Meta,
) -> Result<Checkpoint> {
    let file = disk.create(path).map_err(Error::io("create", path))?;
    let block = vec![0; BLOCK_HEADER_BYTES];
    let mut writer = Writer { owner, path, file, hash: Xxh3::new(), length: 0, block, blocks: 0, items: 0 };
    writer.write(&format::encode_header(owner, meta))?;
    let mut result = Ok(());
    snapshot.scan((Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
        result = writer.item(key, value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result?;
    writer.end_block()?;
    let trailer = Trailer { items: writer.items, fingerprint: writer.hash.digest() };
    writer.write(&trailer.encode(owner))?;
    writer.file.sync_data().map_err(Error::io("sync", path))?;
    Ok(Checkpoint { meta: meta.clone(), fingerprint: trailer.fingerprint, bytes: writer.length })
}
