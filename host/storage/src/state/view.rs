//! What reads use: the memtables and table files of one moment, held.
//!
//! The tree would find them itself for a sequence number, but behind a lock that a flush and a compaction hold over
//! five fsyncs, and it panics if a collection has passed that number. A [`View`] holds what it reads, so neither can
//! happen: readers never wait for the disk's writes, and nothing they need goes before they do.
//!
//! A reader takes the view *first* and the sequence number after it: then all that lies in the view's files is visible
//! to the number, and what a flush dropped because it was overwritten is no reader's.

use std::sync::Arc;

use lsm_tree::table::filter::standard_bloom::Builder;
use lsm_tree::{AbstractTree, AnyTree, InternalValue, Memtable, MemtableId, SeqNo, Slice, Tree};

use super::KeyRange;

type Get = Box<dyn Fn(&[u8], SeqNo) -> lsm_tree::Result<Option<InternalValue>> + Send + Sync>;
type Items = Box<dyn Iterator<Item = lsm_tree::Result<InternalValue>>>;
type Range = Box<dyn Fn(KeyRange<'_>, SeqNo) -> Items + Send + Sync>;

/// What the tree holds at one moment. Closures, because the tree does not name the types.
pub(super) struct Files {
    /// Grows with each change of the files.
    pub(super) version: u64,
    /// Id of the memtable that took writes then.
    pub(super) active: MemtableId,
    get: Get,
    range: Range,
}

/// Memtables and files that belong together.
pub(super) struct View {
    active: Arc<Memtable>,
    sealed: Option<Arc<Memtable>>,
    pub(super) files: Files,
}

impl Files {
    /// What is there now. May wait for a flush or compaction that is being registered.
    pub(super) fn capture(tree: &AnyTree) -> Self {
        // The moment first: should the files change in between, it still has in memory what they gained.
        let moment = tree.get_version_history_lock().latest_version();
        let active = moment.active_memtable.id();
        let range: Range = Box::new(move |range, seqno| {
            Box::new(Tree::create_internal_range::<&[u8], _>(moment.clone(), &range, seqno, None))
        });
        let files = tree.current_version();
        let version = files.id();
        let get: Get = Box::new(move |key, seqno| {
            let hash = Builder::get_hash(key);
            // Newest first: the first level's runs by age, then level by level.
            for run in files.iter_levels().flat_map(|level| level.iter()) {
                let Some(table) = run.get_for_key(key) else { continue };
                if let Some(found) = table.get(key, seqno, hash)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        });
        Self { version, active, get, range }
    }
}

impl View {
    /// `files` with the memtables above them.
    pub(super) fn new(active: Arc<Memtable>, sealed: Option<Arc<Memtable>>, files: Files) -> Self {
        assert!(files.active == active.id(), "files of another moment");
        Self { active, sealed, files }
    }

    pub(super) fn get(&self, key: &[u8], seqno: SeqNo) -> lsm_tree::Result<Option<Slice>> {
        let in_memory = self.active.get(key, seqno).or_else(|| self.sealed.as_ref()?.get(key, seqno));
        let found = match in_memory {
            Some(found) => Some(found),
            None => (self.files.get)(key, seqno)?,
        };
        Ok(found.filter(|found| !found.is_tombstone()).map(|found| found.value))
    }

    pub(super) fn range(&self, range: KeyRange<'_>, seqno: SeqNo) -> Items {
        (self.files.range)(range, seqno)
    }
}
