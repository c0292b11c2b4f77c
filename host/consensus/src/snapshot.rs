//! openraft's snapshots are our checkpoints: files beside the log, named by the entry they are the state of.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::RaftSnapshotBuilder;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use pointsman_model::LogIndex;
use pointsman_state_machine::Machine;
use pointsman_storage::checkpoint::Meta;

use crate::Error;
use crate::core::Core;
use crate::progress::Progress;
use crate::raft_types::Types;

/// How long a build waits for this node's own fsync of the last entry in it.
const FLUSH_WITHIN: Duration = Duration::from_secs(30);

/// A handle to a finished checkpoint, never its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    /// The state before the first entry; there is no file.
    Empty,
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// The entry it is the state of.
        index: LogIndex,
    },
}

/// Builds nothing, but names a checkpoint that is there; or one of the state as it is when
/// [`RaftSnapshotBuilder::build_snapshot`] is called.
pub(crate) struct Builder {
    core: Arc<Core>,
    made: Option<LogIndex>,
}

impl Builder {
    /// Names the checkpoint of that entry.
    pub(crate) fn of(core: Arc<Core>, made: LogIndex) -> Self {
        Self { core, made: Some(made) }
    }

    /// Builds one.
    pub(crate) fn of_now(core: Arc<Core>) -> Self {
        Self { core, made: None }
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Checkpoint;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, Checkpoint>, io::Error> {
        let (core, made) = (Arc::clone(&self.core), self.made);
        let background = core.background;
        let built = background.run(move || made.map_or_else(|| core.export(), |made| core.named(made))).await;
        Ok(built.ok_or_else(|| io::Error::other("the build of a checkpoint panicked"))??)
    }
}

impl Core {
    /// Exports the state of the last applied entry.
    ///
    /// # Errors
    /// I/O; this node's own fsync does not come.
    pub(crate) fn export(&self) -> Result<SnapshotOf<Types, Checkpoint>, Error> {
        let (snapshot, progress) = {
            // With the machine locked no entry lies between the two.
            let _machine = self.machine.read();
            (self.state.snapshot(), self.progress.lock().clone())
        };
        let Some(progress) = progress else {
            return Ok(SnapshotOf::<Types, Checkpoint> {
                meta: SnapshotMetaOf::<Types>::default(),
                snapshot: Checkpoint::Empty,
            });
        };
        // INVARIANT: derived state never outruns the fsynced log.
        if self.strict && !self.log.wait_flushed(progress.index, FLUSH_WITHIN)? {
            return Err(Error::Malformed("checkpoint: its last entry is not durable here"));
        }
        let meta = Meta { term: progress.term, index: progress.index, extra: progress.meta()? };
        self.checkpoints.export(&*snapshot, &meta)?;
        Ok(self.snapshot_of(&progress))
    }

    /// The checkpoint of an entry, which was made before.
    fn named(&self, index: LogIndex) -> Result<SnapshotOf<Types, Checkpoint>, Error> {
        let import = self.checkpoints.import(index)?;
        Ok(self.snapshot_of(&Progress::decode(index, &import.meta().extra)?))
    }

    fn snapshot_of(&self, progress: &Progress) -> SnapshotOf<Types, Checkpoint> {
        SnapshotOf::<Types, Checkpoint> {
            meta: SnapshotMetaOf::<Types> {
                last_log_id: Some(progress.log_id()),
                last_membership: progress.membership.clone(),
            },
            snapshot: Checkpoint::File { path: self.checkpoints.path(progress.index), index: progress.index },
        }
    }

    /// The checkpoint at the log's base: whoever installs it gets every retained entry after it by replication. `None`
    /// while nothing is purged. If that one is damaged, another one will do as long as only entries that nothing needs
    /// lie between.
    ///
    /// # Errors
    /// I/O, or what it says of itself makes no sense.
    pub(crate) fn current_snapshot(&self) -> Result<Option<SnapshotOf<Types, Checkpoint>>, Error> {
        let found = match self.log.purged().map(|base| base.index) {
            // openraft's own suite asks for what it built.
            _ if !self.strict => self.checkpoints.newest_at_or_below(LogIndex(u64::MAX))?,
            None => None,
            Some(base) => {
                let released = self.machine.read().state().released.upto();
                let at_base = self.checkpoints.newest_at_or_below(base)?.filter(|found| found.meta.index == base);
                let other = || self.checkpoints.newest_at_or_below(released.unwrap_or(base).max(base));
                let found = at_base.map_or_else(other, |found| Ok(Some(found)))?;
                let found = found.filter(|found| found.meta.index >= base);
                if found.is_none() {
                    tracing::error!(shard.id = self.shard.0, log.index = base.0, "no checkpoint at the log's base");
                }
                found
            }
        };
        found.map(|checkpoint| self.snapshot_from(&checkpoint)).transpose()
    }

    /// A checkpoint of this replica, as openraft sees it.
    ///
    /// # Errors
    /// What it says of itself makes no sense.
    pub(crate) fn snapshot_from(
        &self,
        checkpoint: &pointsman_storage::checkpoint::Checkpoint,
    ) -> Result<SnapshotOf<Types, Checkpoint>, Error> {
        Ok(self.snapshot_of(&Progress::decode(checkpoint.meta.index, &checkpoint.meta.extra)?))
    }

    /// Replaces state and queues by a checkpoint. The log is purged afterwards, by openraft.
    ///
    /// # Errors
    /// I/O, or the checkpoint is damaged.
    pub(crate) fn install(&self, checkpoint: &Checkpoint) -> Result<Progress, Error> {
        let Checkpoint::File { path, index } = checkpoint else {
            return Err(Error::Malformed("checkpoint: it is of no entry"));
        };
        if self.checkpoints.path(*index) != *path {
            self.checkpoints.adopt(path)?;
        }
        let mut import = self.checkpoints.import(*index)?;
        let progress = Progress::decode(*index, &import.meta().extra)?;
        let _sealing = self.sealing.lock();
        let mut machine = self.machine.write();
        self.state.replace(&progress.applied()?, &mut import)?;
        self.queues.clear()?;
        self.boundary.replaced(&progress);
        *machine = Machine::load(&self.rows(), self.shard)?;
        *self.progress.lock() = Some(progress.clone());
        self.allow_purge(progress.index);
        Ok(progress)
    }
}
