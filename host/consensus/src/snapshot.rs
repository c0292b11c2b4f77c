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

/// Builds a checkpoint of the state as it is when [`RaftSnapshotBuilder::build_snapshot`] is called.
pub(crate) struct Builder(Arc<Core>);

impl Builder {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Checkpoint;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, Checkpoint>, io::Error> {
        let core = Arc::clone(&self.0);
        let background = core.background;
        let built = background.run(move || core.export()).await;
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

    fn snapshot_of(&self, progress: &Progress) -> SnapshotOf<Types, Checkpoint> {
        SnapshotOf::<Types, Checkpoint> {
            meta: SnapshotMetaOf::<Types> {
                last_log_id: Some(progress.log_id()),
                last_membership: progress.membership.clone(),
            },
            snapshot: Checkpoint::File { path: self.checkpoints.path(progress.index), index: progress.index },
        }
    }

    /// The newest whole checkpoint.
    ///
    /// # Errors
    /// I/O, or what it says of itself makes no sense.
    pub(crate) fn current_snapshot(&self) -> Result<Option<SnapshotOf<Types, Checkpoint>>, Error> {
        let newest = self.checkpoints.newest_at_or_below(LogIndex(u64::MAX))?;
        newest
            .map(|checkpoint| Ok(self.snapshot_of(&Progress::decode(checkpoint.meta.index, &checkpoint.meta.extra)?)))
            .transpose()
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
        *machine = Machine::load(&self.rows(), self.shard)?;
        *self.progress.lock() = Some(progress.clone());
        self.allow_purge(progress.index);
        Ok(progress)
    }
}
