//! The two threads behind a [`StateTree`](super::StateTree): one flushes, one compacts.
//!
//! They are apart because a compaction of a large tree takes seconds, and a flush that waited for it would stop
//! `apply`. A flush waits for compaction only when the first level has grown dangerously: the tree writes its run
//! count as one byte, and a tree with 260 runs cannot be opened again.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lsm_tree::AbstractTree;
use lsm_tree::compaction::Leveled;

use super::Result;
use super::shared::Shared;
use crate::Error;

/// Runs of the first level at which flushing waits for compaction. Far below the 255 that the format can count.
pub(super) const FIRST_LEVEL_RUNS_MAX: usize = 32;
/// How often the flusher asks for the log's fsynced index while it waits for it.
const FSYNC_POLL: Duration = Duration::from_millis(2);
const _: () = assert!(FIRST_LEVEL_RUNS_MAX < u8::MAX as usize / 4);

/// The threads. Dropping joins them; whoever drops has set `stopping` and notified `work` and `room`.
pub(super) struct Flusher(Vec<JoinHandle<()>>);

impl Flusher {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let mut flusher = Self(Vec::with_capacity(2));
        for (name, run) in [("state-flush", flush as fn(&Shared)), ("state-compact", compact)] {
            let shared = Arc::clone(shared);
            let dir = shared.dir.clone();
            let thread = thread::Builder::new().name(name.into()).spawn(move || {
                let shared = PoisonOnPanic(&shared);
                run(shared.0);
            });
            flusher.0.push(thread.map_err(Error::io("start a thread for", &dir))?);
        }
        Ok(flusher)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the state panicked");
            }
        }
    }
}

/// A thread that dies must not leave writers waiting for it.
struct PoisonOnPanic<'a>(&'a Shared);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.poison(&mut self.0.writer.lock(), "a thread of the state panicked");
        }
    }
}

fn flush(shared: &Shared) {
    while wait_for_sealed(shared) && wait_for_fsync(shared) && wait_for_compaction(shared) {
        let _flushing = shared.flushing.lock();
        // `flush_now` or `replace` may have been quicker.
        if shared.writer.lock().sealed.is_none() {
            continue;
        }
        if let Err(error) = shared.flush_sealed() {
            tracing::error!(state.dir = %shared.dir.display(), error = %error, "the state could not be flushed");
            return;
        }
    }
}

/// Waits for a sealed memtable, and seals one itself when it is old. False if the thread should end.
fn wait_for_sealed(shared: &Shared) -> bool {
    let mut writer = shared.writer.lock();
    loop {
        if writer.stopping || writer.poisoned.is_some() {
            return false;
        }
        if writer.sealed.is_some() {
            return true;
        }
        let age = shared.config.flush_age;
        let old_at = writer.first_write.map(|first| first + age);
        if old_at.is_some_and(|at| at <= Instant::now()) {
            shared.seal(&mut writer);
            continue;
        }
        // Without a first write there is nothing to age; the next look comes soon enough.
        shared.work.wait_until(&mut writer, old_at.unwrap_or_else(|| Instant::now() + age));
    }
}

fn wait_for_fsync(shared: &Shared) -> bool {
    let mut writer = shared.writer.lock();
    while !shared.may_flush(writer.sealed.as_ref()) {
        if writer.stopping || writer.poisoned.is_some() {
            return false;
        }
        if writer.sealed.is_none() {
            return true;
        }
        shared.work.wait_for(&mut writer, FSYNC_POLL);
    }
    !writer.stopping
}

fn wait_for_compaction(shared: &Shared) -> bool {
    let mut writer = shared.writer.lock();
    while shared.tree.l0_run_count() >= FIRST_LEVEL_RUNS_MAX {
        if writer.stopping || writer.poisoned.is_some() {
            return false;
        }
        shared.work.wait_for(&mut writer, Duration::from_millis(50));
    }
    !writer.stopping
}

fn compact(shared: &Shared) {
    loop {
        let mut writer = shared.writer.lock();
        while !writer.compaction_wanted {
            if writer.stopping || writer.poisoned.is_some() {
                return;
            }
            shared.work.wait(&mut writer);
        }
        if writer.stopping || writer.poisoned.is_some() {
            return;
        }
        writer.compaction_wanted = false;
        drop(writer);
        if let Err(error) = compact_all(shared, true) {
            tracing::error!(state.dir = %shared.dir.display(), error = %error, "the state could not be compacted");
            return;
        }
    }
}

/// Compacts until the strategy finds nothing more to do, or, if it may, until the tree is told to stop.
pub(super) fn compact_all(shared: &Shared, may_stop: bool) -> Result<()> {
    let _compacting = shared.compacting.lock();
    let strategy = Arc::new(Leveled::default());
    while shared.compact_step(strategy.clone())? {
        shared.work.notify_all();
        if may_stop && shared.writer.lock().stopping {
            break;
        }
    }
    Ok(())
}
