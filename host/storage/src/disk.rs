//! The seam between the storage code and the file system.
//!
//! Everything durable goes through [`Disk`]; the crash tests put a simulated disk behind it that keeps, drops, tears and
//! reorders what was not synced. The rules a caller must keep are those of the note in `docs/reference/disk-format.md`:
//! a new file is durable after `sync_data` of the file *and* [`Disk::sync_dir`] of its directory.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

mod appending;
mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use real::{RealDisk, caution};

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its length in bytes.
    pub len: u64,
    /// True if no one may write to it.
    pub read_only: bool,
}

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Creates a directory; one that is there already is fine. Its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and directories in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Length and mode of a file.
    fn info(&self, path: &Path) -> io::Result<FileInfo>;
    /// Creates a file for reading and writing; one of that name is an error.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name in the same file system, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes a file read-only or writable again.
    fn set_read_only(&self, path: &Path, read_only: bool) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Locks a file that is created if need be; an error of kind `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<DiskLock>;
    /// Bytes that this process may still allocate on the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// Held for as long as a directory is in use.
pub type DiskLock = Box<dyn std::any::Any + Send + Sync>;

/// An open file.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Writes slices one after another at an offset; may write fewer bytes than given.
    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Writes all slices at an offset behind which the file holds nothing but zeros up to the next 4 KiB, and goes on so:
    /// only an append may change what is there. Quicker than a write, whose blocks must be read first.
    fn append(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        write_all(slices, offset, |slices, offset| self.pwritev(slices, offset))
    }
    /// Reads at an offset; may read fewer bytes than asked, 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reserves blocks for `0..len` and makes the file at least that long; new bytes read as zeros.
    fn reserve(&self, len: u64) -> io::Result<()>;
    /// Makes everything written to the file durable, with the size needed to read it back.
    fn sync_data(&self) -> io::Result<()>;
    /// The first byte at or after an offset that may be other than zero; the length if there is none. A hint that may be
    /// `offset` itself.
    fn next_data(&self, offset: u64) -> io::Result<u64> {
        Ok(offset)
    }
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Maps the first `len` bytes for reading, or `None` where mapping is not possible. The file must never change there again.
    fn map(&self, len: usize) -> io::Result<Option<Bytes>>;
}

impl dyn DiskFile + '_ {
    /// Writes all bytes at an offset.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all(&mut [IoSlice::new(bytes)], offset, |slices, offset| self.pwritev(slices, offset))
    }

    /// Fills the buffer from an offset; the end of the file before that is an error of kind `UnexpectedEof`.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.read_up_to(buffer, offset)?;
        if read < buffer.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Fills as much of the buffer as the file holds and returns how much that is.
    pub(crate) fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// Slices of one `pwritev` at most (`IOV_MAX` of Linux).
const SLICES_MAX: usize = 1_024;

/// Writes all slices at an offset, in as few calls as the system allows.
fn write_all(
    slices: &mut [IoSlice<'_>],
    mut offset: u64,
    write: impl Fn(&[IoSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut rest = slices;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match write(&rest[..rest.len().min(SLICES_MAX)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut rest, written);
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Creates a directory and makes its entry durable. Its parent must exist.
///
/// # Errors
/// I/O.
pub fn ensure_dir(disk: &dyn Disk, path: &Path) -> Result<(), crate::Error> {
    disk.create_dir(path).map_err(crate::Error::io("create", path))?;
    if let Some(parent) = path.parent() {
        disk.sync_dir(parent).map_err(crate::Error::io("sync", parent))?;
    }
    Ok(())
}
