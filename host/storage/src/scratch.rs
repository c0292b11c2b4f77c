//! Directories for tests that do not care what a sync costs.

use std::path::Path;

use tempfile::TempDir;

/// A directory that goes when it is dropped, in memory where the system has such a place.
pub(crate) fn dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory for the test")
}
