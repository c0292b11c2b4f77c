//! [`StateTree`]: the state on `lsm-tree`, which has no journal of its own and so fits behind ours.
//!
//! One entry = one sequence number. The active memtable takes the writes; when it is full or old it is sealed between
//! two entries, and the flusher writes it to disk once the log has fsynced the newest entry in it. There is at most
//! one sealed memtable, because a flush of the tree takes *all* of them: with a second one the bound of the first
//! would not hold. While it waits the active one may grow to twice its size; then [`StateStore::write`] waits.
//!
//! Evidence for the traps met here: the crate's source at 3.1.10, which is pinned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, fs, io};

use arc_swap::ArcSwap;
use lsm_tree::{AbstractTree, Cache, DescriptorTable, InternalValue, SeqNo, SequenceNumberCounter, ValueType};
use parking_lot::{Condvar, Mutex};
use pointsman_model::LogIndex;

use super::flusher::{FIRST_LEVEL_RUNS_MAX, Flusher, compact_all};
use super::shared::{APPLIED_KEY, Shared, Writer, check_poison, decode_applied, encode_applied};
use super::view::{Files, View};
use super::{Applied, Change, Items, KeyRange, Read, Result, Snapshot, StateStore, Value, Visit, damage};
use crate::Error;

const CACHE_BYTES_DEFAULT: u64 = 16 << 20;
const FLUSH_BYTES_DEFAULT: u64 = 8 << 20;
const FLUSH_AGE_DEFAULT: Duration = Duration::from_secs(60);
/// Open table files of one tree.
const DESCRIPTORS: usize = 128;

/// Asks the log for the index up to which it is fsynced here; `None` while nothing is.
pub type FsyncedIndex = Arc<dyn Fn() -> Option<LogIndex> + Send + Sync>;

/// How a [`StateTree`] behaves.
#[derive(Clone)]
pub struct StateConfig {
    /// The log's fsynced index. No flush passes it.
    pub fsynced: FsyncedIndex,
    /// A memtable of this size is sealed. The tree counts keys, values and a constant for each; memory is about twice that.
    pub flush_bytes: u64,
    /// A memtable with writes is sealed at this age, so that little is applied again after a restart.
    pub flush_age: Duration,
    /// Cached blocks of table files.
    pub cache_bytes: u64,
    /// Runs the flusher and the compactor as threads. Without them only [`StateStore::flush_now`] flushes (tests).
    pub threads: bool,
}

impl StateConfig {
    /// The defaults, bounded by `fsynced`.
    #[must_use]
    pub fn new(fsynced: FsyncedIndex) -> Self {
        Self {
            fsynced,
            flush_bytes: FLUSH_BYTES_DEFAULT,
            flush_age: FLUSH_AGE_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
            threads: true,
        }
    }
}

impl fmt::Debug for StateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateConfig")
            .field("flush_bytes", &self.flush_bytes)
            .field("flush_age", &self.flush_age)
            .finish_non_exhaustive()
    }
}

/// The state of one shard on disk. Dropping it stops its threads and flushes nothing.
///
/// The directory has no lock of its own: the data directory's covers it.
pub struct StateTree {
    shared: Arc<Shared>,
    /// Joined on drop, after `shared` was told to stop.
    _flusher: Option<Flusher>,
}

impl StateTree {
    /// Opens or creates the tree in `dir`. What it holds is [`Read::applied`]: an entry up to which a flush went.
    ///
    /// # Errors
    /// [`Error::StateDamaged`] if anything in the directory does not fit: the caller [destroys](Self::destroy) it and
    /// rebuilds. [`Error::Io`] for what is no damage (no permission, no descriptors, no space).
    pub fn open(dir: &Path, config: StateConfig) -> Result<Self> {
        damage::check(dir)?;
        let (seqno, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        let tree = lsm_tree::Config::new(dir, seqno.clone(), visible.clone())
            .use_cache(Arc::new(Cache::with_capacity_bytes(config.cache_bytes)))
            .use_descriptor_table(Some(Arc::new(DescriptorTable::new(DESCRIPTORS))));
        // The tree asserts some of what it reads (a directory among its tables); for us that is damage like any other.
        let tree = match catch_unwind(AssertUnwindSafe(|| tree.open())) {
            Ok(Ok(tree)) => tree,
            Ok(Err(error)) => return Err(damage::classify(dir, error)),
            Err(_) => return Err(damage::damaged(dir, "the tree could not be read")),
        };
        let next = tree.get_highest_persisted_seqno().map_or(0, |highest| highest + 1);
        seqno.fetch_max(next);
        visible.fetch_max(next);
        let applied = match tree.get(APPLIED_KEY, next).map_err(|error| damage::classify(dir, error))? {
            Some(value) => Some(decode_applied(&value).ok_or_else(|| damage::damaged(dir, "`applied`"))?),
            None if tree.table_count() > 0 => return Err(damage::damaged(dir, "tables without `applied`")),
            None => None,
        };
        let writer = Writer {
            memtable: tree.active_memtable(),
            flushed: applied.clone(),
            applied,
            sealed: None,
            sealed_memtable: None,
            first_write: None,
            poisoned: None,
            stopping: false,
            compaction_wanted: true,
        };
        let view = View::new(Arc::clone(&writer.memtable), None, Files::capture(&tree));
        let threads = config.threads;
        let shared = Arc::new(Shared {
            tree,
            dir: dir.to_path_buf(),
            config,
            seqno,
            visible,
            view: ArcSwap::from_pointee(view),
            published: AtomicU64::new(next),
            writer: Mutex::new(writer),
            room: Condvar::new(),
            work: Condvar::new(),
            flushing: Mutex::new(()),
            compacting: Mutex::new(()),
        });
        let flusher = if threads { Some(Flusher::start(&shared)?) } else { None };
        Ok(Self { shared, _flusher: flusher })
    }

    /// Removes a tree, open nowhere, with all its files.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn destroy(dir: &Path) -> Result<()> {
        match fs::remove_dir_all(dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(source)),
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn first_level_runs(&self) -> usize {
        self.shared.tree.l0_run_count()
    }
}

impl Read for StateTree {
    fn applied(&self) -> Option<Applied> {
        self.shared.writer.lock().applied.clone()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        // The view first; see there.
        let view = self.shared.view.load();
        self.shared.get(key, &view, self.shared.published())
    }

    fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<()> {
        let view = self.shared.view.load_full();
        self.shared.scan(range, visit, &view, self.shared.published())
    }
}

impl StateStore for StateTree {
    fn write(&self, applied: &Applied, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<()> {
        let shared = &*self.shared;
        let mut writer = shared.writer_with_room()?;
        assert!(
            writer.applied.as_ref().is_none_or(|last| applied.index > last.index),
            "entry {} applied after {:?}",
            applied.index,
            writer.applied
        );
        let seqno = shared.seqno.next();
        for (key, value) in changes {
            super::check_key(key);
            writer.memtable.insert(match value {
                Some(value) => InternalValue::from_components(key, value, seqno, ValueType::Value),
                None => InternalValue::new_tombstone(key, seqno),
            });
        }
        let stored = encode_applied(applied);
        writer.memtable.insert(InternalValue::from_components(APPLIED_KEY, stored, seqno, ValueType::Value));
        if writer.first_write.is_none() {
            writer.first_write = Some(Instant::now());
        }
        writer.applied = Some(applied.clone());
        shared.visible.fetch_max(seqno + 1);
        shared.published.store(seqno + 1, Ordering::Release);
        Ok(())
    }

    fn flushed(&self) -> Option<Applied> {
        self.shared.writer.lock().flushed.clone()
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        // With the writer's lock held all three are of one entry.
        let writer = self.shared.writer.lock();
        let (view, seqno) = (self.shared.view.load_full(), self.shared.published());
        Box::new(Moment { shared: Arc::clone(&self.shared), view, seqno, applied: writer.applied.clone() })
    }

    fn replace(&self, applied: &Applied, items: &mut Items<'_>) -> Result<()> {
        let shared = &*self.shared;
        let _compacting = shared.compacting.lock();
        let _flushing = shared.flushing.lock();
        let mut writer = shared.writer.lock();
        check_poison(&writer)?;
        let result = shared.ingest(applied, items);
        writer.memtable = shared.tree.active_memtable();
        writer.sealed = None;
        writer.sealed_memtable = None;
        writer.first_write = None;
        writer.applied = result.is_ok().then(|| applied.clone());
        writer.flushed = writer.applied.clone();
        shared.show(&writer, Files::capture(&shared.tree));
        shared.room.notify_all();
        result
    }

    fn flush_now(&self) -> Result<Option<Applied>> {
        let shared = &*self.shared;
        if !shared.config.threads || shared.tree.l0_run_count() >= FIRST_LEVEL_RUNS_MAX {
            compact_all(shared, false)?;
        }
        let _flushing = shared.flushing.lock();
        for seal_first in [false, true] {
            let mut writer = shared.writer.lock();
            check_poison(&writer)?;
            if seal_first && shared.may_flush(writer.applied.as_ref()) {
                shared.seal(&mut writer);
            }
            let may = shared.may_flush(writer.sealed.as_ref());
            drop(writer);
            if may {
                shared.flush_sealed()?;
            }
        }
        Ok(shared.writer.lock().flushed.clone())
    }
}

impl Drop for StateTree {
    fn drop(&mut self) {
        self.shared.writer.lock().stopping = true;
        self.shared.work.notify_all();
        self.shared.room.notify_all();
    }
}

/// A [`Snapshot`] of a tree.
struct Moment {
    shared: Arc<Shared>,
    view: Arc<View>,
    seqno: SeqNo,
    applied: Option<Applied>,
}

impl Read for Moment {
    fn applied(&self) -> Option<Applied> {
        self.applied.clone()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.shared.get(key, &self.view, self.seqno)
    }

    fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<()> {
        self.shared.scan(range, visit, &self.view, self.seqno)
    }
}

impl Snapshot for Moment {}
