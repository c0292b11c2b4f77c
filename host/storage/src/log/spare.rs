//! The next segment's file, made before it is needed.
//!
//! It is reserved first, so that a full disk is found before an entry is accepted, and then zeroed in small steps, each
//! with its own sync: a sync on merely reserved blocks is slower, and so is one that must flush many dirty zeros.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pointsman_model::limits;

use crate::Error;
use crate::disk::{Disk, DiskFile};
use crate::error::is_no_space;

const PREFIX: &str = "spare-";

/// A file that waits to become a segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    len: u64,
    taken: AtomicBool,
    zeroing: Mutex<Zeroing>,
}

#[derive(Debug, Default)]
struct Zeroing {
    done: u64,
    failed: Option<io::Error>,
}

/// True for the names spares have; none outlives its process.
pub(crate) fn is_spare(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl Spare {
    /// Creates and reserves a file of `len` bytes.
    ///
    /// # Errors
    /// [`Error::DiskFull`], or I/O. Nothing is left behind.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, number: u64, len: u64) -> Result<Self, Error> {
        let path = dir.join(format!("{PREFIX}{number}.tmp"));
        let file = disk.create(&path).map_err(|error| Self::refused(error, &path, len))?;
        if let Err(error) = file.reserve(len) {
            if let Err(left) = disk.unlink(&path) {
                tracing::warn!(file.path = %path.display(), error = %left, "cannot remove an unfinished segment");
            }
            return Err(Self::refused(error, &path, len));
        }
        Ok(Self { path, file, len, taken: AtomicBool::new(false), zeroing: Mutex::default() })
    }

    fn refused(error: io::Error, path: &Path, len: u64) -> Error {
        if is_no_space(&error) {
            Error::DiskFull { path: path.to_owned(), needed: len }
        } else {
            Error::io("reserve", path)(error)
        }
    }

    /// Length of the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Zeroes one step, if less than `target` bytes are zeroed; true if it did. A failure shows when the spare is used.
    pub(crate) fn zero_step(&self, target: u64) -> bool {
        let mut zeroing = self.zeroing.lock();
        let step = (limits::ZERO_STEP_BYTES_MAX as u64).min(self.len - zeroing.done);
        if step == 0 || zeroing.done >= target || zeroing.failed.is_some() || self.taken.load(Ordering::Acquire) {
            return false;
        }
        let zeros = vec![0; step as usize];
        let appended = self.file.append(&mut [IoSlice::new(&zeros)], zeroing.done);
        let written = appended.and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => zeroing.done += step,
            Err(error) => zeroing.failed = Some(error),
        }
        zeroing.failed.is_none()
    }

    /// True if a step failed; such a file must not become a segment.
    pub(crate) fn is_bad(&self) -> bool {
        self.zeroing.lock().failed.is_some()
    }

    /// Ends the zeroing; after this the file is the writer's.
    ///
    /// # Errors
    /// A step failed.
    pub(crate) fn take(&self) -> Result<(), Error> {
        self.taken.store(true, Ordering::Release);
        match self.zeroing.lock().failed.take() {
            Some(error) => Err(Error::io("zero", &self.path)(error)),
            None => Ok(()),
        }
    }
}
