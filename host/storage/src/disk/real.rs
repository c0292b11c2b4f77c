//! The file system of the machine.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::appending::Appending;
use super::{Disk, DiskFile, DiskLock, FileInfo};
use crate::mmap;

/// Magic numbers of file systems, from `statfs(2)`.
const UNFIT: [(u32, &str); 3] = [
    (0x0102_1994, "tmpfs forgets everything with the machine"),
    (0x794C_7630, "overlayfs belongs to a container and goes with it"),
    (0x6969, "NFS does not keep what fsync and locks promise"),
];

/// Why a data directory should not lie where it does, if it should not; for a warning at the start.
///
/// # Errors
/// The path cannot be looked at.
pub fn caution(path: &Path) -> io::Result<Option<&'static str>> {
    let found = rustix::fs::statfs(path)?.f_type as u32;
    Ok(UNFIT.iter().find(|(magic, _)| *magic == found).map(|(_, reason)| *reason))
}

/// Files of the machine, through plain system calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File, Mutex<Appending>);

impl RealFile {
    fn shared(file: File) -> Arc<dyn DiskFile> {
        Arc::new(Self(file, Mutex::default()))
    }
}

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            names
                .push(name.into_string().map_err(|name| io::Error::other(format!("{} is not UTF-8", name.display())))?);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn info(&self, path: &Path) -> io::Result<FileInfo> {
        let data = fs::metadata(path)?;
        Ok(FileInfo { len: data.len(), read_only: data.permissions().mode() & 0o222 == 0 })
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(RealFile::shared(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(RealFile::shared(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(RealFile::shared(File::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn set_read_only(&self, path: &Path, read_only: bool) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(if read_only { 0o444 } else { 0o644 }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl DiskFile for RealFile {
    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.1.lock().forget(offset, slices.iter().map(|slice| slice.len() as u64).sum());
        Ok(rustix::io::pwritev(&self.0, slices, offset)?)
    }

    fn append(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.1.lock().append(&self.0, slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len)) {
            // Without fallocate the blocks are found when they are written; the size alone must be there.
            Err(Errno::OPNOTSUPP) if self.0.metadata()?.len() < len => self.0.set_len(len),
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        // EINTR is no failure of the disk, but whether the sync happened is unknown; asking again answers that.
        Ok(rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&self.0))?)
    }

    fn next_data(&self, offset: u64) -> io::Result<u64> {
        // Moves the descriptor's own position, which nothing here uses.
        match rustix::fs::seek(&self.0, SeekFrom::Data(offset)) {
            Ok(at) => Ok(at),
            Err(Errno::NXIO) => self.len(),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
            Err(error) => Err(error.into()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn map(&self, len: usize) -> io::Result<Option<Bytes>> {
        mmap::map(&self.0, len).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_space_is_skipped_and_data_is_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = RealDisk.create(&dir.path().join("file")).expect("create");
        file.reserve(1 << 20).expect("reserve");
        file.write_all_at(b"data", 700_000).expect("write");
        assert!(file.next_data(0).expect("seek") <= 700_000);
        assert!((700_000..700_004).contains(&file.next_data(700_000).expect("seek")));
        assert_eq!(file.next_data(1 << 20).expect("seek"), 1 << 20);
        assert_eq!(file.len().expect("len"), 1 << 20);
    }

    #[test]
    fn a_file_system_in_memory_is_cautioned_against() {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            assert_eq!(caution(shm).expect("statfs"), Some("tmpfs forgets everything with the machine"));
        }
    }
}
