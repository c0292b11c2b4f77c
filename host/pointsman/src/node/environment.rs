//! What a node wants from its process and its machine: threads, file descriptors, a directory, logs, signals.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::statfs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::node::Error;
use crate::settings::Settings;

/// File descriptors below which a busy node runs out.
const FILES_WANTED: u64 = 65_536;
/// Only the node's user reads what tenants stored.
const DIRECTORY_MODE: u32 = 0o700;

/// The runtime that serves calls; storage and plugins have threads of their own.
pub(crate) fn runtime(settings: &Settings) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(threads(settings.workers)).thread_name("node").enable_all().build()
}

/// A number of threads, where 0 asks for one a core. Two at least: a plugin or a flush may hold one up.
pub(crate) fn threads(asked: u64) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(2, usize::from).max(2),
        Ok(asked) => asked,
    }
}

/// Logs to stderr as the settings say. A second call changes nothing.
pub(crate) fn start_logging(settings: &Settings) {
    let filter = EnvFilter::try_new(&settings.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // `try_init` fails where logging runs already.
    let _ = if settings.log_json { logs.json().try_init() } else { logs.with_ansi(false).try_init() };
}

/// Returns when the process is asked to end.
pub(crate) async fn stop_signal() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Takes as many file descriptors as the system grants.
pub(crate) fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(FILES_WANTED, |maximum| maximum.min(FILES_WANTED.max(current.unwrap_or_default())));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Makes a directory, and those above it.
pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path);
    made.map_err(|source| Error::Directory { path: path.to_owned(), source })
}

/// Says so where a file system does not keep what was synced, or makes syncs slow.
pub(crate) fn warn_of_file_system(data_dir: &Path) {
    let advice = match statfs(data_dir).map(|system| file_system(i128::from(system.f_type))) {
        Ok(Some("tmpfs")) => "it is memory: everything is gone when the machine stops",
        Ok(Some("overlay")) => "it belongs to a container: everything is gone with it; mount a volume",
        Ok(Some("nfs")) => "locks and syncs over a network are not to be trusted; use a local disk",
        _ => return,
    };
    tracing::warn!(data_dir = %data_dir.display(), "{advice}");
}

/// The name of a file system that is no good home, by its magic number (`statfs(2)`).
fn file_system(magic: i128) -> Option<&'static str> {
    match magic {
        0x0102_1994 => Some("tmpfs"),
        0x794c_7630 => Some("overlay"),
        0x6969 => Some("nfs"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_those_asked_for_or_one_a_core() {
        assert_eq!(threads(7), 7);
        assert!(threads(0) >= 2);
    }

    #[test]
    fn the_file_limit_only_grows() {
        let before = getrlimit(Resource::Nofile).current;
        raise_file_limit();
        let after = getrlimit(Resource::Nofile).current;
        assert!(after.is_none() || after >= before);
    }
}
