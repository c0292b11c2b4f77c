//! Whose data directory this is, and the lock that keeps a second process out of it.
//!
//! `identity` is written once, under another name, synced and renamed, before the first vote. A format newer than this
//! release is refused before anything is opened for writing.

use std::io;
use std::path::Path;

use pointsman_model::ids::ShardId;

use crate::Error;
use crate::disk::{Disk, DiskLock};

const FILE_NAME: &str = "identity";
const LOCK_NAME: &str = "lock";
const MAGIC: [u8; 4] = *b"PMID";
const FORMAT: u16 = 1;
const FILE_BYTES: usize = 36;

/// Cluster and shard: what ties a file of a shard to its place. Part of every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster's uuid.
    pub cluster: [u8; 16],
    /// The shard.
    pub shard: ShardId,
}

impl Owner {
    /// Checksum over `bytes` and this owner.
    pub(crate) fn crc(&self, bytes: &[u8]) -> u32 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(bytes), &self.cluster);
        crc32c::crc32c_append(crc, &self.shard.0.to_le_bytes())
    }
}

/// The node that owns a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's uuid.
    pub cluster: [u8; 16],
    /// The node's number in its cluster.
    pub node: u32,
    /// How many times the node was replaced by an empty one.
    pub incarnation: u32,
}

impl Identity {
    /// Reads the identity of a data directory, or gives an empty directory one: `fresh` is asked only then.
    ///
    /// # Errors
    /// I/O, or the file is damaged or newer than this release.
    pub fn open_or_create(disk: &dyn Disk, dir: &Path, fresh: impl FnOnce() -> Self) -> Result<Self, Error> {
        if let Some(found) = Self::open(disk, dir)? {
            disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
            return Ok(found);
        }
        let identity = fresh();
        let (path, unfinished) = (dir.join(FILE_NAME), dir.join("identity.tmp"));
        if disk.info(&unfinished).is_ok() {
            disk.unlink(&unfinished).map_err(Error::io("remove", &unfinished))?;
        }
        let file = disk.create(&unfinished).map_err(Error::io("create", &unfinished))?;
        file.write_all_at(&identity.encode(), 0).map_err(Error::io("write", &unfinished))?;
        file.sync_data().map_err(Error::io("sync", &unfinished))?;
        disk.rename(&unfinished, &path).map_err(Error::io("rename", &unfinished))?;
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        Ok(identity)
    }

    /// Reads the identity of a data directory and writes nothing.
    ///
    /// # Errors
    /// As [`Identity::open_or_create`].
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE_NAME);
        let file = match disk.open_read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        let mut bytes = [0; FILE_BYTES];
        let read = file.read_up_to(&mut bytes, 0).map_err(Error::io("read", &path))?;
        Self::decode(&bytes[..read], &path).map(Some)
    }

    fn encode(self) -> [u8; FILE_BYTES] {
        let mut out = [0; FILE_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&FORMAT.to_le_bytes());
        out[8..24].copy_from_slice(&self.cluster);
        out[24..28].copy_from_slice(&self.node.to_le_bytes());
        out[28..32].copy_from_slice(&self.incarnation.to_le_bytes());
        let crc = crc32c::crc32c(&out[..32]);
        out[32..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let damaged = |reason| Error::DamagedFile { path: path.to_owned(), reason };
        let bytes: &[u8; FILE_BYTES] = bytes.try_into().map_err(|_| damaged("it is too short"))?;
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[..4] != MAGIC {
            return Err(damaged("it does not start like an identity file"));
        }
        if crc32c::crc32c(&bytes[..32]) != number(32) {
            return Err(damaged("its checksum does not match"));
        }
        let format = u16::from_le_bytes([bytes[4], bytes[5]]);
        if format > FORMAT {
            return Err(Error::UnknownFormat { path: path.to_owned(), found: format, known: FORMAT });
        }
        let mut cluster = [0; 16];
        cluster.copy_from_slice(&bytes[8..24]);
        Ok(Self { cluster, node: number(24), incarnation: number(28) })
    }
}

/// Keeps other processes out of a data directory for as long as it lives. The file `lock` is never removed.
#[derive(Debug)]
pub struct DirectoryLock {
    _held: DiskLock,
}

impl DirectoryLock {
    /// Takes the lock of an existing directory.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it.
    pub fn acquire(disk: &dyn Disk, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(LOCK_NAME);
        match disk.lock(&path) {
            Ok(held) => Ok(Self { _held: held }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked { path }),
            Err(error) => Err(Error::io("lock", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn sample() -> Identity {
        Identity { cluster: [5; 16], node: 3, incarnation: 2 }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_an_error() {
        let path = Path::new("identity");
        let good = sample().encode();
        assert_eq!(Identity::decode(&good, path).expect("good"), sample());
        for bit in 0..FILE_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&bad, path).is_err(), "bit {bit}");
        }
        for length in 0..FILE_BYTES {
            assert!(Identity::decode(&good[..length], path).is_err(), "length {length}");
        }
    }

    #[test]
    fn created_once_and_read_ever_after() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = Identity::open_or_create(&RealDisk, dir.path(), sample).expect("create");
        let second = Identity::open_or_create(&RealDisk, dir.path(), || unreachable!("it exists")).expect("open");
        assert_eq!((first, second), (sample(), sample()));
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut newer = sample().encode();
        newer[4] = 9;
        let crc = crc32c::crc32c(&newer[..32]);
        newer[32..].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(dir.path().join(FILE_NAME), newer).expect("write");
        let error = Identity::open_or_create(&RealDisk, dir.path(), sample).expect_err("newer");
        assert!(matches!(error, Error::UnknownFormat { found: 9, known: 1, .. }), "{error}");
        assert_eq!(std::fs::read(dir.path().join(FILE_NAME)).expect("read"), newer);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = DirectoryLock::acquire(&RealDisk, dir.path()).expect("free");
        assert!(matches!(DirectoryLock::acquire(&RealDisk, dir.path()), Err(Error::Locked { .. })));
        drop(first);
        DirectoryLock::acquire(&RealDisk, dir.path()).expect("free again");
    }
}
