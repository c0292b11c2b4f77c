//! Checkpoints: the sorted, checksummed export of the state at a segment boundary.
//!
//! What the retained log cannot give back starts from here. The bytes are a pure function of the state: equal on every
//! replica, so the [`Checkpoint::fingerprint`] of two replicas is a check for divergence. Blocks carry a checksum each,
//! and the whole file one at its end; an import hands out nothing that was not verified, and says at its end whether
//! the file was whole.
//!
//! | module | holds |
//! |---|---|
//! | `format` | header, block and trailer bytes |
//! | `export` | writing a snapshot of the state to a file |
//! | `import` | reading one back, item by item |
//! | `transfer` | sending one to another replica, and receiving it |
//!
//! Layout: `docs/reference/disk-format.md`.

mod export;
mod format;
mod import;
mod transfer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::{LogIndex, Term};

use crate::Error;
use crate::disk::Disk;
use crate::identity::Owner;
use crate::state::Snapshot;
pub use import::Import;
pub use transfer::{Incoming, Outgoing};

type Result<T> = std::result::Result<T, Error>;

/// Longest `meta` of a checkpoint, in bytes.
pub const META_BYTES_MAX: usize = 1 << 20;
/// Bytes copied at once when a checkpoint is taken over.
const COPY_BYTES: usize = 1 << 20;
const SUFFIX: &str = ".checkpoint";
const UNFINISHED: &str = ".tmp";

/// What a checkpoint is the state of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Term of the last entry in it.
    pub term: Term,
    /// Index of the last entry in it.
    pub index: LogIndex,
    /// What the caller wants to find in it: membership, stamp, … The same on every replica.
    pub extra: Bytes,
}

/// A finished checkpoint file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it is the state of.
    pub meta: Meta,
    /// Hash of all its bytes before the trailer.
    pub fingerprint: u64,
    /// Length of the file.
    pub bytes: u64,
}

/// The checkpoints of a shard.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    disk: Arc<dyn Disk>,
    owner: Owner,
    dir: PathBuf,
}

impl Checkpoints {
    /// Opens or creates the directory and removes unfinished files.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(disk: Arc<dyn Disk>, owner: Owner, dir: &Path) -> Result<Self> {
        disk.create_dir(dir).map_err(Error::io("create", dir))?;
        // Without its name the directory and all in it may be gone after a power cut, however often it was synced.
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(Error::io("sync the parent of", dir))?;
        }
        for name in disk.list(dir).map_err(Error::io("list", dir))? {
            if name.ends_with(UNFINISHED) {
                let path = dir.join(name);
                disk.unlink(&path).map_err(Error::io("remove", &path))?;
            }
        }
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        Ok(Self { disk, owner, dir: dir.to_path_buf() })
    }

    /// Writes the state that `snapshot` sees, durable when this returns. An existing checkpoint of this index is
    /// replaced; which old ones go is the caller's to say ([`Checkpoints::retain`]).
    ///
    /// # Errors
    /// [`Error::Io`], or what reading the state says. What was there before is untouched then.
    ///
    /// # Panics
    /// If `snapshot` is not the state of entry `meta.index`, or `meta.extra` is longer than [`META_BYTES_MAX`].
    pub fn export(&self, snapshot: &dyn Snapshot, meta: &Meta) -> Result<Checkpoint> {
        assert_eq!(snapshot.applied().map(|applied| applied.index), Some(meta.index), "a snapshot of another entry");
        assert!(meta.extra.len() <= META_BYTES_MAX, "a checkpoint's meta is too long");
        let unfinished = self.unfinished(meta.index)?;
        let written = export::write(&*self.disk, &self.owner, &unfinished, snapshot, meta);
        let written = written.and_then(|checkpoint| self.finish(&unfinished, meta.index).map(|()| checkpoint));
        if written.is_err() {
            // A full disk must not stay full of it. What cannot be removed now goes at the next start.
            let _ = self.disk.unlink(&unfinished);
        }
        written
    }

    /// Takes over a checkpoint file that a replica made, as [`Checkpoints::export`] would have written it.
    ///
    /// # Errors
    /// [`Error::DamagedFile`], [`Error::KeysOutOfOrder`], [`Error::UnknownFormat`] if `from` is not whole; [`Error::Io`].
    pub fn adopt(&self, from: &Path) -> Result<Checkpoint> {
        let source = self.disk.open_read(from).map_err(Error::io("open", from))?;
        let index = Import::open(&*self.disk, &self.owner, from)?.meta().index;
        let unfinished = self.unfinished(index)?;
        let target = self.disk.create(&unfinished).map_err(Error::io("create", &unfinished))?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            let read = source.read_up_to(&mut buffer, at).map_err(Error::io("read", from))?;
            if read == 0 {
                break;
            }
            target.write_all_at(&buffer[..read], at).map_err(Error::io("write", &unfinished))?;
            at += read as u64;
        }
        // The copy is what counts, so the copy is verified.
        let checkpoint = Import::open(&*self.disk, &self.owner, &unfinished)?.verify()?;
        target.sync_data().map_err(Error::io("sync", &unfinished))?;
        self.finish(&unfinished, index)?;
        Ok(checkpoint)
    }

    /// A name to write under, with nothing there yet.
    fn unfinished(&self, index: LogIndex) -> Result<PathBuf> {
        let path = self.dir.join(format!("{:020}{UNFINISHED}", index.0));
        match self.disk.unlink(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(path),
        }
    }

    /// Gives a synced file its name.
    fn finish(&self, unfinished: &Path, index: LogIndex) -> Result<()> {
        self.disk.set_read_only(unfinished, true).map_err(Error::io("seal", unfinished))?;
        self.disk.rename(unfinished, &self.path(index)).map_err(Error::io("rename", unfinished))?;
        self.disk.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }

    /// Indexes of the checkpoints that are there, oldest first. Whether one is whole, its import says.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<LogIndex>> {
        let names = self.disk.list(&self.dir).map_err(Error::io("list", &self.dir))?;
        let mut found: Vec<LogIndex> = names.iter().filter_map(|name| parse_name(name)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Opens a checkpoint for reading; [`Import::verify`] or its items tell whether it is whole.
    ///
    /// # Errors
    /// [`Error::DamagedFile`], [`Error::UnknownFormat`] if it is newer than this release, [`Error::Io`].
    pub fn import(&self, index: LogIndex) -> Result<Import> {
        let path = self.path(index);
        let import = Import::open(&*self.disk, &self.owner, &path)?;
        if import.meta().index == index {
            Ok(import)
        } else {
            Err(Error::DamagedFile { path, reason: "it is the state of another entry" })
        }
    }

    /// The newest checkpoint at or below an index that is whole. Damaged ones are reported in the log and passed over.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::UnknownFormat`].
    pub fn newest_at_or_below(&self, index: LogIndex) -> Result<Option<Checkpoint>> {
        for found in self.list()?.into_iter().rev().filter(|found| *found <= index) {
            match self.import(found).and_then(Import::verify) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error @ (Error::DamagedFile { .. } | Error::KeysOutOfOrder)) => {
                    tracing::error!(checkpoint.index = found.0, error = %error, "a checkpoint is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The file of a checkpoint, for sending it to a replica.
    #[must_use]
    pub fn path(&self, index: LogIndex) -> PathBuf {
        self.dir.join(format!("{:020}{SUFFIX}", index.0))
    }

    /// Removes the checkpoints of which this says no.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn retain(&self, keep: impl Fn(LogIndex) -> bool) -> Result<()> {
        for index in self.list()?.into_iter().filter(|index| !keep(*index)) {
            let path = self.path(index);
            self.disk.unlink(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }
}

fn parse_name(name: &str) -> Option<LogIndex> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(LogIndex)).flatten()
}

#[cfg(test)]
mod tests;
