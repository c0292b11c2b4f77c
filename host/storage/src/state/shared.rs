//! What the writer, the readers and the threads of a [`StateTree`](super::StateTree) share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use lsm_tree::{AbstractTree, AnyTree, Guard, Memtable, SequenceNumberCounter};
use parking_lot::{Condvar, Mutex, MutexGuard};
use pointsman_model::LogIndex;

use super::readers::{ReadGuard, Readers};
use super::tree::StateConfig;
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
    pub(super) readers: Readers,
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
        if self.tree.rotate_memtable().is_some() {
            writer.memtable = self.tree.active_memtable();
            writer.sealed = writer.applied.clone();
            writer.first_write = None;
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
        let flushed = self.tree.flush(&self.tree.get_flush_lock(), self.readers.watermark());
        let mut writer = self.writer.lock();
        if let Err(error) = flushed {
            return Err(self.poison(&mut writer, &error));
        }
        writer.flushed = writer.sealed.take();
        writer.compaction_wanted = true;
        // No entry is half written now, so the version that the flush made may be read, and older ones may go.
        self.readers.publish(self.seqno.get());
        drop(writer);
        self.room.notify_all();
        self.work.notify_all();
        self.forget_old_versions();
        Ok(())
    }

    /// Lets go of memtables and version files that no reader can ask for any more.
    pub(super) fn forget_old_versions(&self) {
        let watermark = self.readers.watermark();
        if let Err(error) = self.tree.get_version_history_lock().maintenance(&self.dir, watermark) {
            tracing::warn!(state.dir = %self.dir.display(), error = %error, "old versions of the state stay for now");
        }
    }

    /// Ends all writing: what a failed flush or compaction left on disk is known after a restart only.
    pub(super) fn poison(&self, writer: &mut Writer, error: &lsm_tree::Error) -> Error {
        let cause: Arc<str> = error.to_string().into();
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

    pub(super) fn get(&self, key: &[u8], guard: &ReadGuard) -> Result<Option<Value>> {
        super::check_key(key);
        let found = self.tree.get(key, guard.seqno());
        Ok(found.map_err(|error| self.read_error(error))?.map(Value))
    }

    pub(super) fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>, guard: &ReadGuard) -> Result<()> {
        let Some(range) = visible(range) else { return Ok(()) };
        for item in self.tree.range::<&[u8], _>(range, guard.seqno(), None) {
            let (key, value) = item.into_inner().map_err(|error| self.read_error(error))?;
            if visit(&key, &value).is_break() {
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
