//! How long the log's syncs take: a disk that counts what passes through it.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_storage::disk::{Disk, DiskFile, DiskLock, FileInfo};

/// Buckets of [`SyncTimes`]: bucket `i` counts syncs shorter than 2^i µs (and not shorter than half of that).
pub const SYNC_BUCKETS: usize = 24;
/// The directory whose files are counted.
const LOG_DIR: &str = "log";

/// Syncs of the log's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// How many.
    pub count: u64,
    /// How many failed.
    pub failed: u64,
    /// All of them together, µs.
    pub sum_us: u64,
    /// By duration; the last bucket has no upper end.
    pub buckets: [u64; SYNC_BUCKETS],
}

#[derive(Debug, Default)]
struct Counters {
    failed: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU64; SYNC_BUCKETS],
}

impl Counters {
    fn record(&self, took: Duration, ok: bool) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.buckets[bucket.min(SYNC_BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(!ok), Ordering::Relaxed);
    }
}

/// A disk that times the syncs of the log and passes everything on.
#[derive(Debug)]
pub(crate) struct TimedDisk {
    inner: Arc<dyn Disk>,
    counters: Arc<Counters>,
}

impl TimedDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new(Self { inner, counters: Arc::default() })
    }

    /// What was counted so far.
    pub(crate) fn times(&self) -> SyncTimes {
        let mut times = SyncTimes {
            failed: self.counters.failed.load(Ordering::Relaxed),
            sum_us: self.counters.sum_us.load(Ordering::Relaxed),
            ..SyncTimes::default()
        };
        for (to, from) in times.buckets.iter_mut().zip(&self.counters.buckets) {
            *to = from.load(Ordering::Relaxed);
            times.count += *to;
        }
        times
    }

    fn timed(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        if path.parent().and_then(Path::file_name).is_some_and(|dir| dir == LOG_DIR) {
            Arc::new(TimedFile { inner: file, counters: Arc::clone(&self.counters) })
        } else {
            file
        }
    }
}

impl Disk for TimedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn info(&self, path: &Path) -> io::Result<FileInfo> {
        self.inner.info(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.timed(path, self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.timed(path, self.inner.open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }

    fn set_read_only(&self, path: &Path, read_only: bool) -> io::Result<()> {
        self.inner.set_read_only(path, read_only)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        self.inner.lock(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }
}

#[derive(Debug)]
struct TimedFile {
    inner: Arc<dyn DiskFile>,
    counters: Arc<Counters>,
}

impl DiskFile for TimedFile {
    fn pwritev(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.inner.pwritev(slices, offset)
    }

    fn append(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.inner.append(slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.inner.reserve(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let start = Instant::now();
        let result = self.inner.sync_data();
        self.counters.record(start.elapsed(), result.is_ok());
        result
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn map(&self, len: usize) -> io::Result<Option<Bytes>> {
        self.inner.map(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_fall_into_their_buckets() {
        let counters = Counters::default();
        for (us, bucket) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 40, SYNC_BUCKETS - 1)] {
            let before = counters.buckets[bucket].load(Ordering::Relaxed);
            counters.record(Duration::from_micros(us), true);
            assert_eq!(counters.buckets[bucket].load(Ordering::Relaxed), before + 1, "{us} µs");
        }
    }
}
