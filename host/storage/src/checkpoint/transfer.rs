//! A checkpoint on its way from one replica to another, piece by piece.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pointsman_model::LogIndex;

use super::format::{TRAILER_BYTES, Trailer};
use super::{Checkpoint, Checkpoints, Import, Result, UNFINISHED};
use crate::Error;
use crate::disk::DiskFile;

/// A finished checkpoint that is being sent. The file stays readable if it is removed meanwhile.
#[derive(Debug)]
pub struct Outgoing {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Length of the file.
    pub bytes: u64,
    /// What its trailer says is the hash of all before it; whoever receives it verifies that.
    pub fingerprint: u64,
}

impl Outgoing {
    /// Bytes from an offset on, at most `max`; none at the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn piece(&self, offset: u64, max: usize) -> Result<Bytes> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut piece = BytesMut::zeroed(left.min(max));
        self.file.read_exact_at(&mut piece, offset).map_err(Error::io("read", &self.path))?;
        Ok(piece.freeze())
    }
}

/// A checkpoint that is being received. Dropped before its end, its file stays until the next start.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    index: LogIndex,
    bytes: u64,
    have: u64,
}

impl Incoming {
    /// How many bytes are there.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Takes the next piece; one that is there already, or that leaves a gap, changes nothing.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::DamagedFile`] if it does not fit.
    pub fn write(&mut self, offset: u64, piece: &[u8]) -> Result<()> {
        if offset != self.have {
            return Ok(());
        }
        if self.bytes - self.have < piece.len() as u64 {
            return Err(Error::DamagedFile { path: self.path.clone(), reason: "it is longer than announced" });
        }
        self.file.write_all_at(piece, offset).map_err(Error::io("write", &self.path))?;
        self.have += piece.len() as u64;
        Ok(())
    }
}

impl Checkpoints {
    /// Opens a checkpoint to send it.
    ///
    /// # Errors
    /// [`Error::DamagedFile`] if it has no trailer; [`Error::Io`].
    pub fn outgoing(&self, index: LogIndex) -> Result<Outgoing> {
        let path = self.path(index);
        let file = self.disk.open_read(&path).map_err(Error::io("open", &path))?;
        let bytes = file.len().map_err(Error::io("read", &path))?;
        let damaged = |reason| Error::DamagedFile { path: path.clone(), reason };
        let at = bytes.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| damaged("it is too short"))?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, at).map_err(Error::io("read", &path))?;
        let trailer = Trailer::decode(&trailer, &self.owner).ok_or_else(|| damaged("its trailer is damaged"))?;
        Ok(Outgoing { path, file, bytes, fingerprint: trailer.fingerprint })
    }

    /// A place for a checkpoint that will come.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn incoming(&self, index: LogIndex, bytes: u64) -> Result<Incoming> {
        let path = self.dir.join(format!("{:020}.incoming{UNFINISHED}", index.0));
        match self.disk.unlink(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path)(error));
            }
            _ => {}
        }
        let file = self.disk.create(&path).map_err(Error::io("create", &path))?;
        Ok(Incoming { path, file, index, bytes, have: 0 })
    }

    /// Verifies a checkpoint that came whole and keeps it.
    ///
    /// # Errors
    /// [`Error::DamagedFile`], [`Error::KeysOutOfOrder`], [`Error::UnknownFormat`] if it is not whole, or of another entry;
    /// [`Error::Io`].
    pub fn receive(&self, incoming: Incoming) -> Result<Checkpoint> {
        incoming.file.sync_data().map_err(Error::io("sync", &incoming.path))?;
        let checkpoint = Import::open(&*self.disk, &self.owner, &incoming.path)?.verify()?;
        if checkpoint.meta.index != incoming.index {
            return Err(Error::DamagedFile { path: incoming.path, reason: "it is the state of another entry" });
        }
        self.finish(&incoming.path, incoming.index)?;
        Ok(checkpoint)
    }
}
