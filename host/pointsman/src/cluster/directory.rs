//! Whose data directory this is: its lock, its identity, and how many shards it has.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pointsman_storage::Error;
use pointsman_storage::disk::{Disk, RealDisk};
use pointsman_storage::identity::{DirectoryLock, Identity};

/// A data directory, held by this process.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    _lock: DirectoryLock,
}

impl Directory {
    /// Takes a directory that exists.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let lock = DirectoryLock::acquire(&*disk, path)?;
        Ok(Self { path: path.to_owned(), disk, _lock: lock })
    }

    /// Whose it is; `None` if it is nobody's yet.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, Error> {
        Identity::open(&*self.disk, &self.path)
    }

    /// Makes it someone's, durably. One that has an identity keeps it, and that is returned.
    pub(crate) fn claim(&self, identity: Identity) -> Result<Identity, Error> {
        Identity::open_or_create(&*self.disk, &self.path, || identity)
    }
}
