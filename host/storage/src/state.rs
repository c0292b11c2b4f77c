//! The derived state of a shard: ordered bytes to bytes, behind one port.
//!
//! The log is the state's only journal (`DESIGN.md` §4). [`StateStore::write`] inserts one entry's changes and
//! makes them visible at once; they reach the disk later, and never before this node has fsynced the entry
//! itself. So after a crash the state is *some earlier entry's* state, says which one ([`Read::applied`]),
//! and the log gives back the rest.
//!
//! | module | holds |
//! |---|---|
//! | [`tree`] | [`StateTree`], the store on `lsm-tree` |
//! | `shared` | what its writer, readers and threads share: sealing, flushing, poisoning |
//! | `flusher` | the two threads that flush and compact it |
//! | `view` | what reads hold, so that they neither wait for a flush nor lose anything to it |
//! | `damage` | which errors mean "delete it and rebuild" |
//! | `model` | `ModelState`, an in-memory store whose crashes a simulation chooses (feature `sim`) |
//!
//! Keys start with a table byte. Table 0 is this crate's own and holds `applied`.

mod damage;
mod flusher;
#[cfg(any(test, feature = "sim"))]
pub mod model;
mod shared;
pub mod tree;
mod view;

use std::fmt;
use std::ops::{Bound, ControlFlow, Deref};

use bytes::Bytes;
use pointsman_model::LogIndex;

#[cfg(any(test, feature = "sim"))]
pub use model::ModelState;
pub use tree::{StateConfig, StateTree};

type Result<T> = std::result::Result<T, crate::Error>;

/// Longest key, in bytes (the tree counts them in 16 bits).
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// The table byte that no caller may use: this crate keeps `applied` there.
pub const TABLE_RESERVED: u8 = 0;

/// The entry whose changes a state holds, all earlier ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Index of the entry.
    pub index: LogIndex,
    /// What the caller wants to find beside it after a restart: term, membership, …
    pub meta: Bytes,
}

/// A stored value, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(crate) lsm_tree::Slice);

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

/// A range of keys: any `(Bound, Bound)` of byte slices.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);
/// One change of an entry: a key, and its new value or `None` to remove it.
pub type Change<'a> = (&'a [u8], Option<&'a [u8]>);
/// What a scan calls for each key and value; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;
/// Keys and values in ascending order, as a checkpoint hands them in.
pub type Items<'a> = dyn Iterator<Item = Result<(Bytes, Bytes)>> + 'a;

/// Reads at one moment of the state.
pub trait Read {
    /// The last entry whose changes are visible here, if any was ever applied.
    fn applied(&self) -> Option<Applied>;

    /// The value of a key.
    ///
    /// # Errors
    /// [`crate::Error::StateDamaged`] or an I/O error: never an outcome, always the end of this shard here.
    fn get(&self, key: &[u8]) -> Result<Option<Value>>;

    /// Visits a range in ascending order, at one moment. Keys of table 0 are not shown.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<()>;
}

/// A moment of the state that later writes do not change, for several reads that must agree.
///
/// It pins memory and files until it is dropped.
pub trait Snapshot: Read + Send {}

/// The state of a shard. Reads see the newest entry; there is one writer.
pub trait StateStore: Read + Send + Sync + 'static {
    /// Applies one entry's changes; they are visible when this returns. A key changed twice keeps the last change.
    ///
    /// Blocks while the state in memory is full and its flush waits, at the latest for the log's own fsync.
    ///
    /// # Errors
    /// [`crate::Error::StatePoisoned`] after a failed flush.
    ///
    /// # Panics
    /// If `applied.index` is not above the last one, or a key is empty, too long or in table 0.
    fn write(&self, applied: &Applied, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<()>;

    /// What a restart would find if the process were killed now.
    fn flushed(&self) -> Option<Applied>;

    /// A moment to read from.
    fn snapshot(&self) -> Box<dyn Snapshot>;

    /// Drops everything and takes over a checkpoint: ascending keys, and the entry they are the state of.
    /// Durable when it returns; a crash in between leaves an empty state.
    ///
    /// # Errors
    /// The iterator's own, [`crate::Error::KeysOutOfOrder`], or an I/O error.
    fn replace(&self, applied: &Applied, items: &mut Items<'_>) -> Result<()>;

    /// Brings to disk what may go there, for a clean stop, and returns [`StateStore::flushed`]. Never waits for
    /// the log, never passes its fsynced index.
    ///
    /// # Errors
    /// [`crate::Error::StatePoisoned`] after a failed flush.
    fn flush_now(&self) -> Result<Option<Applied>>;
}

/// The range of all keys that start with `prefix`; the end is written into `end`.
#[must_use]
pub fn prefix_range<'a>(prefix: &'a [u8], end: &'a mut Vec<u8>) -> KeyRange<'a> {
    end.clear();
    end.extend_from_slice(prefix);
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return (Bound::Included(prefix), Bound::Excluded(end));
        }
        end.pop();
    }
    (Bound::Included(prefix), Bound::Unbounded)
}

/// Refuses keys no store could hold, in release builds too: a state machine that makes one is broken.
fn check_key(key: &[u8]) {
    assert!(!key.is_empty() && key.len() <= KEY_BYTES_MAX, "state key of {} bytes", key.len());
    assert!(key[0] != TABLE_RESERVED, "state key in the reserved table");
}

/// `range` without table 0, or `None` if nothing can be in it.
fn visible(range: KeyRange<'_>) -> Option<KeyRange<'_>> {
    const FIRST: &[u8] = &[TABLE_RESERVED + 1];
    let start = match range.0 {
        Bound::Included(key) | Bound::Excluded(key) if key < FIRST => Bound::Included(FIRST),
        Bound::Unbounded => Bound::Included(FIRST),
        bound => bound,
    };
    let empty = match (start, range.1) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    };
    (!empty).then_some((start, range.1))
}

#[cfg(test)]
mod tests;
