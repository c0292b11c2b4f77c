//! Keeping house: what a shard does beside its entries, on each replica by itself.
//!
//! Full segments are sealed, due checkpoints are written, and what an applied trim released goes: its sidecars at once,
//! its files once a checkpoint at or below the trim's index is on disk. openraft alone drops log entries, and only such
//! as its snapshot covers; so it first hears of that checkpoint as its snapshot, and then is told to purge up to it.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use pointsman_model::{LogIndex, LogPosition};

use crate::Error;
use crate::core::Core;
use crate::shard::Raft;

/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Core {
    /// Position below which nobody reads queues or keys.
    pub(crate) fn released(&self) -> LogPosition {
        self.machine.read().state().released.base()
    }

    fn has_house_work(&self) -> bool {
        let released = self.machine.read().state().released.upto();
        self.boundary.is_due() || released > self.log.purged().map(|base| base.index)
    }

    /// Does what blocks. Returns the checkpoint that the log may be purged to, if there is one.
    ///
    /// # Errors
    /// I/O; all of it is tried again.
    pub(crate) fn keep_house(&self) -> Result<Option<LogIndex>, Error> {
        self.write_due_checkpoint()?;
        self.drop_released_sidecars()?;
        self.purge_target()
    }

    /// Forgets the queues and keys of segments that were given up. Those not sealed yet go after they are.
    fn drop_released_sidecars(&self) -> Result<(), Error> {
        let released = self.released();
        let _sealing = self.sealing.lock();
        for gone in self.queues.sealed().iter().filter(|sealed| sealed.base < released) {
            self.queues.drop_segment(gone.base)?;
        }
        Ok(())
    }

    /// The newest whole checkpoint that the log may be purged to and is not yet.
    fn purge_target(&self) -> Result<Option<LogIndex>, Error> {
        let Some(upto) = self.machine.read().state().released.upto() else { return Ok(None) };
        let purged = self.log.purged().map(|base| base.index);
        let newer = |index: &LogIndex| *index <= upto && Some(*index) > purged;
        let Some(newest) = self.checkpoints.list()?.into_iter().rfind(newer) else { return Ok(None) };
        // Verifying reads all of it, so it is done once.
        if *self.boundary.offered.lock() == Some(newest) {
            return Ok(Some(newest));
        }
        let whole = self.checkpoints.newest_at_or_below(upto)?.map(|checkpoint| checkpoint.meta.index);
        Ok(whole.filter(|whole| newer(whole)))
    }
}

/// Keeps house until the shard stops.
pub(crate) async fn keep(raft: Raft, core: Arc<Core>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = core.boundary.wake.notified() => {}
        }
        if core.failure().is_some() {
            return;
        }
        if !core.has_house_work() {
            continue;
        }
        let (background, work) = (core.background, Arc::clone(&core));
        match background.run(move || work.keep_house()).await {
            Some(Ok(Some(target))) => {
                if purge(&raft, &core, target).await.is_err() {
                    return;
                }
            }
            Some(Ok(None)) => {}
            Some(Err(error)) => {
                tracing::warn!(shard.id = core.shard.0, error = %error, "a checkpoint or a purge has to wait");
            }
            None => core.fail("keeping house panicked"),
        }
    }
}

/// Takes one step towards a purge: openraft is told of the checkpoint, and the next time to purge up to it.
async fn purge(
    raft: &Raft,
    core: &Core,
    target: LogIndex,
) -> Result<(), openraft::errors::Fatal<crate::raft_types::Types>> {
    let known = raft.data_metrics().borrow_watched().snapshot.map(|id| id.index);
    if known.is_some_and(|known| known >= target.0) {
        return raft.trigger().purge_log(target.0).await;
    }
    *core.boundary.offered.lock() = Some(target);
    raft.trigger().snapshot().await
}
