//! openraft's own suite for log storage and state machine.
//!
//! Two things are off for it ([`crate::core::Core::strict`]): the fence around purges, and the rule that entries are
//! applied one by one, because the suite purges at will and applies entries that are in no log.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use pointsman_model::ShardId;
use pointsman_state_machine::Machine;
use pointsman_storage::checkpoint::Checkpoints;
use pointsman_storage::disk::{Disk, RealDisk};
use pointsman_storage::identity::Owner;
use pointsman_storage::log::{CommitLog, LogConfig};
use pointsman_storage::queues::QueueIndex;
use pointsman_storage::state::{StateConfig, StateTree};
use pointsman_storage::vote::VoteFile;
use tempfile::TempDir;

use crate::applier::Applier;
use crate::core::{Core, Parts, Rows};
use crate::log_store::LogStore;
use crate::raft_types::Types;

struct Stores;

impl StoreBuilder<Types, LogStore, Applier, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, Applier), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let owner = Owner { cluster: [7; 16], shard: ShardId(1) };
        let config = LogConfig {
            segment_bytes: 16 << 10,
            zero_ahead: false,
            ..LogConfig::new(path.to_path_buf(), owner.cluster, owner.shard)
        };
        let (log, _) = CommitLog::open(Arc::clone(&disk), config).unwrap();
        let fsynced = log.clone();
        let state =
            StateTree::open(&path.join("state"), StateConfig::new(Arc::new(move || fsynced.flushed()))).unwrap();
        let machine = Machine::load(&Rows(&state), owner.shard).unwrap();
        let core = Core::new(Parts {
            shard: owner.shard,
            id: 1 << 32,
            log,
            vote: VoteFile::open(&*disk, path, owner).unwrap(),
            state: Arc::new(state),
            queues: QueueIndex::open(Arc::clone(&disk), owner, &path.join("sidecar"), &[]).unwrap().0,
            checkpoints: Checkpoints::open(disk, owner, &path.join("checkpoint")).unwrap(),
            machine,
            progress: None,
            strict: false,
            background: crate::Background::Threads,
        });
        Ok((dir, LogStore::new(Arc::clone(&core)), Applier::new(core)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_suite_of_openraft() {
    Suite::test_all(Stores).await.unwrap();
}
