//! Which errors of the tree mean "delete the directory and rebuild it from checkpoint and log".
//!
//! The tree is derived, so damage costs time and nothing else. What must *not* delete it are errors that say nothing
//! about the files: no descriptors, no memory, no permission, no space.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::Result;
use crate::Error;

/// Exists in a state directory once a read of it failed a checksum: an open alone would not notice again.
const MARKER_FILE: &str = "damaged";
const CURRENT_FILE: &str = "current";

/// Turns an error of the tree into ours.
pub(super) fn classify(dir: &Path, error: lsm_tree::Error) -> Error {
    match error {
        lsm_tree::Error::Io(source) if !is_damage(&source) => Error::io("use the state in", dir)(source),
        other => Error::StateDamaged { dir: dir.to_path_buf(), detail: other.to_string() },
    }
}

fn is_damage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const ABOUT_THE_SYSTEM: [Errno; 9] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::ACCESS,
        Errno::PERM,
        Errno::ROFS,
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::INTR,
    ];
    !Errno::from_io_error(error).is_some_and(|errno| ABOUT_THE_SYSTEM.contains(&errno))
}

pub(super) fn damaged(dir: &Path, detail: impl Into<String>) -> Error {
    Error::StateDamaged { dir: dir.to_path_buf(), detail: detail.into() }
}

/// Leaves the marker, so that the next open reports the damage too.
pub(super) fn mark(dir: &Path) {
    if let Err(error) = File::create(dir.join(MARKER_FILE)).and_then(|file| file.sync_all()) {
        tracing::warn!(state.dir = %dir.display(), error = %error, "the damage of the state could not be marked");
    }
}

/// Refuses a directory that is marked, or whose version file does not match the checksum beside its name. The tree
/// (3.1.10) writes that checksum and never reads it.
pub(super) fn check(dir: &Path) -> Result<()> {
    let io = |source| classify(dir, lsm_tree::Error::Io(source));
    if dir.join(MARKER_FILE).try_exists().map_err(io)? {
        return Err(damaged(dir, "marked by an earlier read"));
    }
    let current = match fs::read(dir.join(CURRENT_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_unborn(dir),
        Err(error) => return Err(io(error)),
    };
    let Ok(current) = <[u8; 25]>::try_from(&current[..]) else {
        return Err(damaged(dir, "`current` has a wrong length"));
    };
    let (id, checksum) = current[..24].split_at(8);
    let id = u64::from_le_bytes(id.try_into().map_err(|_| damaged(dir, "`current`"))?);
    let version = fs::read(dir.join(format!("v{id}"))).map_err(io)?;
    if current[24] != 0 || xxh3_128(&version).to_le_bytes() != checksum {
        return Err(damaged(dir, "the version file does not match its checksum"));
    }
    Ok(())
}

/// Without `current` the tree makes a new one; tables in the directory mean that it was there once.
fn check_unborn(dir: &Path) -> Result<()> {
    match fs::read_dir(dir.join("tables")).map(|mut tables| tables.next()) {
        Ok(Some(_)) => Err(damaged(dir, "tables without `current`")),
        _ => Ok(()),
    }
}
