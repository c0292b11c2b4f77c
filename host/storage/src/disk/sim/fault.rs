//! What can be made to go wrong, and when.

use std::io;

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`DiskFile::pwritev`].
    Write,
    /// [`DiskFile::sync_data`].
    Sync,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::reserve`].
    Reserve,
    /// [`Disk::create`].
    Create,
    /// [`Disk::sync_dir`].
    SyncDir,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error of this kind. A sync that fails forgets what it should have made durable, as real ones do.
    Error(io::ErrorKind),
    /// A write takes half of the bytes, which is no error.
    Short,
    /// A sync says Ok and does nothing.
    Lie,
    /// The process is killed before a sync: nothing happens, and the caller must not go on.
    Kill,
}

/// A fault and when it strikes.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Which calls.
    pub call: Call,
    /// Only on files whose path, when they were opened, contains this.
    pub path_contains: &'static str,
    /// Calls that go well first.
    pub skip: u64,
    /// Calls that fail then.
    pub times: u64,
    /// How.
    pub fault: Fault,
}
