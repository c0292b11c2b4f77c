//! What the writer, the readers and the threads of a [`StateTree`](super::StateTree) share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::{Buf, Bytes};
use lsm_tree::compaction::CompactionStrategy;
use lsm_tree::{AbstractTree, AnyTree, Memtable, SeqNo, SequenceNumberCounter};
use parking_lot::{Condvar, Mutex, MutexGuard};
use pointsman_model::LogIndex;

use super::tree::StateConfig;
use super::view::{Files, View};
use super::{Applied, Items, KeyRange, Result, Value, Visit, damage, visible};
use crate::Error;

/// Where `applied` lies: table 0, before every other key.
pub(super) const APPLIED_KEY: &[u8] = b"\0applied";
const APPLIED_VERSION: u8 = 1;

/// What the writer, the readers and the threads share.
pub(super) struct Shared {
    pub(super) tree: AnyTree,
    pub(super) dir: PathBuf,
    pub(super) config: StateConfig,
    pub(super) seqno: SequenceNumberCounter,
    pub(super) visible: SequenceNumberCounter,
    /// What reads use.
    pub(super) view: ArcSwap<View>,
    /// Everything below is complete. The tree's own counter is no such bound: a flush advances it while an entry is half
    /// written.
    pub(super) published: AtomicU64,
    pub(super) writer: Mutex<Writer>,
    /// The sealed memtable is gone, or the tree is poisoned or stopping: writers may go on.
    pub(super) room: Condvar,
    /// There is something to flush, or to stop for.
    pub(super) work: Condvar,
    /// Held by whoever flushes. Taken before `writer`.
    pub(super) flushing: Mutex<()>,
    /// Held by whoever compacts. Taken before `flushing`.
    pub(super) compacting: Mutex<()>,
}

/// What one entry at a time may touch.
pub(super) struct Writer {
    /// The tree's active memtable, kept here so that a write does not wait for the tree's own lock, which a flush
    /// holds over five fsyncs.
    pub(super) memtable: Arc<Memtable>,
    pub(super) applied: Option<Applied>,
    /// The newest entry of the sealed memtable, while there is one.
    pub(super) sealed: Option<Applied>,
    pub(super) sealed_memtable: Option<Arc<Memtable>>,
    pub(super) flushed: Option<Applied>,
    /// When the active memtable got its first write.
    pub(super) first_write: Option<Instant>,
    pub(super) poisoned: Option<Arc<str>>,
    pub(super) stopping: bool,
    pub(super) compaction_wanted: bool,
}

impl Shared {
    /// Seals a full memtable, and waits while the active one is twice full behind a sealed one.
    pub(super) fn writer_with_room(&self) -> Result<MutexGuard<'_, Writer>> {
        let mut writer = self.writer.lock();
        check_poison(&writer)?;
        if self.config.threads && writer.memtable.size() >= self.config.flush_bytes {
            while writer.sealed.is_some() && writer.memtable.size() >= 2 * self.config.flush_bytes {
                self.room.wait(&mut writer);
                check_poison(&writer)?;
            }
            if writer.sealed.is_none() {
                self.seal(&mut writer);
            }
        }
        Ok(writer)
    }

    /// Seals the active memtable, between two entries, if there is something in it and no other is sealed.
    pub(super) fn seal(&self, writer: &mut Writer) {
        if writer.sealed.is_some() || writer.first_write.is_none() {
            return;
        }
        if let Some(sealed) = self.tree.rotate_memtable() {
            writer.memtable = self.tree.active_memtable();
            writer.sealed = writer.applied.clone();
            writer.sealed_memtable = Some(sealed);
            writer.first_write = None;
            self.show(writer, Files::capture(&self.tree));
            self.work.notify_all();
        }
    }

    /// Whether this node has fsynced the entry; the bound every flush keeps.
    pub(super) fn may_flush(&self, newest: Option<&Applied>) -> bool {
        newest.is_some_and(|newest| (self.config.fsynced)().is_some_and(|fsynced| fsynced >= newest.index))
    }

    /// Writes the sealed memtable to disk. The caller holds `flushing` and has asked [`Shared::may_flush`].
    pub(super) fn flush_sealed(&self) -> Result<()> {
        let newest = self.writer.lock().sealed.clone();
        assert!(self.may_flush(newest.as_ref()), "a flush past the fsynced index");
        if let Err(error) = self.tree.flush(&self.tree.get_flush_lock(), self.published()) {
            return Err(self.poison(&mut self.writer.lock(), &error.to_string()));
        }
        let files = Files::capture(&self.tree);
        let mut writer = self.writer.lock();
        writer.flushed = writer.sealed.take();
        writer.sealed_memtable = None;
        writer.compaction_wanted = true;
        self.show(&writer, files);
        drop(writer);
        self.room.notify_all();
        self.work.notify_all();
        self.forget_old_versions();
        Ok(())
    }

    /// Compacts once, as far as the strategy goes in one step. False if there was nothing to do.
    pub(super) fn compact_step(&self, strategy: Arc<dyn CompactionStrategy>) -> Result<bool> {
        let before = self.tree.current_version().id();
        if let Err(error) = self.tree.compact(strategy, self.published()) {
            return Err(self.poison(&mut self.writer.lock(), &error.to_string()));
        }
        let files = Files::capture(&self.tree);
        // A flush in between changes the files too; then there is one more step, which does no harm.
        let changed = files.version != before;
        if changed {
            self.show(&self.writer.lock(), files);
            self.forget_old_versions();
        }
        Ok(changed)
    }

    /// Lets reads use these files, unless they use newer ones already. They were captured without the writer's lock, so
    /// that a write need not wait for the tree's; if a memtable was sealed meanwhile they are captured again.
    pub(super) fn show(&self, writer: &Writer, files: Files) {
        let fits = files.active == writer.memtable.id();
        let files = if fits { files } else { Files::capture(&self.tree) };
        if files.version >= self.view.load().files.version {
            let view = View::new(Arc::clone(&writer.memtable), writer.sealed_memtable.clone(), files);
            self.view.store(Arc::new(view));
        }
        // With the writer's lock held no entry is half written.
        self.published.store(self.seqno.get(), Ordering::Release);
    }

    pub(super) fn published(&self) -> SeqNo {
        self.published.load(Ordering::Acquire)
    }

    /// Lets the tree drop its older versions: their files, and the memtables in them. Reads hold their own.
    fn forget_old_versions(&self) {
        if let Err(error) = self.tree.get_version_history_lock().maintenance(&self.dir, self.published()) {
            tracing::warn!(state.dir = %self.dir.display(), error = %error, "old versions of the state stay for now");
        }
    }

    /// Ends all writing: what a failed flush or compaction left on disk is known after a restart only.
    pub(super) fn poison(&self, writer: &mut Writer, cause: &str) -> Error {
        let cause: Arc<str> = cause.into();
        writer.poisoned.get_or_insert_with(|| Arc::clone(&cause));
        self.room.notify_all();
        self.work.notify_all();
        Error::StatePoisoned { cause }
    }

    /// Clears the tree and fills it; the caller holds all locks.
    pub(super) fn ingest(&self, applied: &Applied, items: &mut Items<'_>) -> Result<()> {
        let classify = |error| damage::classify(&self.dir, error);
        self.tree.clear().map_err(classify)?;
        let mut ingestion = self.tree.ingestion().map_err(classify)?;
        ingestion.write(APPLIED_KEY, encode_applied(applied)).map_err(classify)?;
        let mut last = Bytes::from_static(&[]);
        for item in items {
            let (key, value) = item?;
            if key <= last || key.len() > super::KEY_BYTES_MAX || key[0] == super::TABLE_RESERVED {
                return Err(Error::KeysOutOfOrder);
            }
            ingestion.write(&key[..], &value[..]).map_err(classify)?;
            last = key;
        }
        ingestion.finish().map_err(classify)
    }

    pub(super) fn get(&self, key: &[u8], view: &View, seqno: SeqNo) -> Result<Option<Value>> {
        super::check_key(key);
        Ok(view.get(key, seqno).map_err(|error| self.read_error(error))?.map(Value))
    }

    pub(super) fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>, view: &View, seqno: SeqNo) -> Result<()> {
        let Some(range) = visible(range) else { return Ok(()) };
        for item in view.range(range, seqno) {
            let item = item.map_err(|error| self.read_error(error))?;
            if visit(&item.key.user_key, &item.value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A read error as ours; damage is marked so that the next start rebuilds.
    fn read_error(&self, error: lsm_tree::Error) -> Error {
        let error = damage::classify(&self.dir, error);
        if matches!(error, Error::StateDamaged { .. }) {
            damage::mark(&self.dir);
        }
        error
    }
}

pub(super) fn check_poison(writer: &Writer) -> Result<()> {
    writer.poisoned.as_ref().map_or(Ok(()), |cause| Err(Error::StatePoisoned { cause: Arc::clone(cause) }))
}

pub(super) fn encode_applied(applied: &Applied) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + applied.meta.len());
    bytes.push(APPLIED_VERSION);
    bytes.extend_from_slice(&applied.index.0.to_le_bytes());
    bytes.extend_from_slice(&applied.meta);
    bytes
}

pub(super) fn decode_applied(mut bytes: &[u8]) -> Option<Applied> {
    if bytes.len() < 9 || bytes.get_u8() != APPLIED_VERSION {
        return None;
    }
    let index = LogIndex(bytes.get_u64_le());
    Some(Applied { index, meta: Bytes::copy_from_slice(bytes) })
}
