//! The shards of one data directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pointsman_model::ShardId;
use pointsman_model::limits;
use pointsman_model::time::SharedClock;
use pointsman_storage::disk::Disk;
use pointsman_storage::identity::Identity;

use crate::{Error, Shard, ShardConfig};

/// The first data shard; all tenants of a node alone live there.
const DATA: ShardId = ShardId(1);
/// How long a shard may take until it is writable. Replay of an unflushed state is part of it.
const OPEN_WITHIN_DEFAULT: Duration = Duration::from_secs(60);

/// What a node's shards need from outside. Identity and lock of the directory are the caller's.
#[derive(Clone)]
pub struct NodeConfig {
    /// The data directory, which exists.
    pub dir: PathBuf,
    /// Whose it is.
    pub identity: Identity,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// Where time comes from.
    pub clock: SharedClock,
    /// Size of a segment file of a data shard.
    pub segment_bytes: u64,
    /// Write zeros to the next segment before it is needed: quicker syncs for twice the bytes.
    pub zero_ahead: bool,
    /// How long a shard may take until it is writable.
    pub open_within: Duration,
}

impl NodeConfig {
    /// The defaults for a directory.
    #[must_use]
    pub fn new(dir: PathBuf, identity: Identity, disk: Arc<dyn Disk>, clock: SharedClock) -> Self {
        Self {
            dir,
            identity,
            disk,
            clock,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            zero_ahead: true,
            open_within: OPEN_WITHIN_DEFAULT,
        }
    }
}

/// Both shards of a node alone, each a Raft group of its own.
pub struct Node {
    /// Tenants' homes and cluster keys.
    pub metadata: Arc<Shard>,
    /// Everything tenants own.
    pub data: Arc<Shard>,
}

impl Node {
    /// Opens both shards at once; see [`Shard::open`].
    ///
    /// # Errors
    /// What opening either says.
    pub async fn open(config: NodeConfig) -> Result<Self, Error> {
        let shards = config.dir.join("shards");
        let io = |operation| {
            let path = shards.clone();
            move |source| Error::Directory { operation, path, source }
        };
        config.disk.create_dir(&shards).map_err(io("create"))?;
        config.disk.sync_dir(&config.dir).map_err(io("sync the parent of"))?;
        let shard = |shard: ShardId, segment_bytes, zero_ahead| ShardConfig {
            shard,
            dir: shards.join(shard.to_string()),
            identity: config.identity,
            disk: Arc::clone(&config.disk),
            clock: Arc::clone(&config.clock),
            segment_bytes,
            zero_ahead,
            open_within: config.open_within,
        };
        // The metadata shard writes little: its next segment is reserved, not zeroed.
        let metadata = Shard::open(shard(ShardId::METADATA, METADATA_SEGMENT_BYTES, false));
        let data = Shard::open(shard(DATA, config.segment_bytes, config.zero_ahead));
        let (metadata, data) = tokio::try_join!(metadata, data)?;
        Ok(Self { metadata: Arc::new(metadata), data: Arc::new(data) })
    }

    /// The shards, the metadata shard first.
    #[must_use]
    pub fn shards(&self) -> [&Arc<Shard>; 2] {
        [&self.metadata, &self.data]
    }

    /// Stops both shards; see [`Shard::shutdown`].
    ///
    /// # Errors
    /// What either says, the first one first.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let (metadata, data) = tokio::join!(self.metadata.shutdown(), self.data.shutdown());
        metadata.and(data)
    }
}

/// Size of a segment of the metadata shard.
const METADATA_SEGMENT_BYTES: u64 = 16 << 20;
