//! The shards of one data directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use pointsman_model::time::SharedClock;
use pointsman_model::{NodeId, ShardId, limits};
use pointsman_storage::disk::{Disk, ensure_dir};
use pointsman_storage::identity::Identity;

use crate::{Background, Cluster, Error, Shard, ShardConfig};

/// Size of a segment of the metadata shard.
const METADATA_SEGMENT_BYTES: u64 = 16 << 20;
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
    /// How long a shard of a node alone may take until it is writable.
    pub open_within: Duration,
    /// How many data shards an empty directory gets; one that is not empty keeps its own.
    pub data_shards: u16,
    /// The other nodes; `None` for a node alone.
    pub cluster: Option<Cluster>,
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
            data_shards: 1,
            cluster: None,
        }
    }
}

/// The shards of a node, each a Raft group of its own.
pub struct Node {
    /// Tenants' homes and cluster keys.
    pub metadata: Arc<Shard>,
    /// Everything tenants own, by shard number from 1.
    pub data: Vec<Arc<Shard>>,
}

impl Node {
    /// Opens all shards at once; see [`Shard::open`].
    ///
    /// # Errors
    /// What opening any of them says.
    pub async fn open(config: NodeConfig) -> Result<Self, Error> {
        let shards = config.dir.join("shards");
        let last = create_directories(&config)?;
        let shard = |shard: u16| {
            // The metadata shard writes little: its next segment is reserved, not zeroed.
            let (segment_bytes, zero_ahead) = match ShardId(shard) {
                ShardId::METADATA => (METADATA_SEGMENT_BYTES, false),
                _ => (config.segment_bytes, config.zero_ahead),
            };
            let opened = Shard::open(ShardConfig {
                shard: ShardId(shard),
                dir: shards.join(shard.to_string()),
                identity: config.identity,
                disk: Arc::clone(&config.disk),
                clock: Arc::clone(&config.clock),
                segment_bytes,
                zero_ahead,
                open_within: config.open_within,
                cluster: config.cluster.clone(),
                background: Background::Threads,
            });
            async move { Ok::<_, Error>(Arc::new(opened.await?)) }
        };
        let metadata = shard(ShardId::METADATA.0);
        let data = try_join_all((1..=last).map(shard));
        let (metadata, data) = tokio::try_join!(metadata, data)?;
        Ok(Self { metadata, data })
    }

    /// The shards, the metadata shard first.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        std::iter::once(&self.metadata).chain(&self.data)
    }

    /// The shard of this number.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<&Arc<Shard>> {
        self.shards().find(|known| known.id() == shard)
    }

    /// Makes these nodes, each in its first life, the voters of every shard that has none. May be repeated; must only
    /// ever be done on one node of a cluster.
    ///
    /// # Errors
    /// What any shard says, the first one first.
    pub async fn initialise(&self, members: &BTreeMap<NodeId, String>) -> Result<(), Error> {
        try_join_all(self.shards().map(|shard| shard.initialise(members))).await.map(drop)
    }

    /// Whether every shard has a membership.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.shards().all(|shard| shard.is_formed())
    }

    /// A node said hello in this life of it: where it is known in an older one, the leader swaps the two.
    pub fn saw(&self, node: NodeId, incarnation: u32) {
        self.shards().for_each(|shard| shard.saw(node, incarnation));
    }

    /// Hands every shard led here over to another node, for good. Returns whether none is led here any more.
    pub async fn hand_over_all(&self, within: Duration) -> bool {
        join_all(self.shards().map(|shard| shard.leave(within))).await.into_iter().all(|done| done)
    }

    /// Stops all shards; see [`Shard::shutdown`].
    ///
    /// # Errors
    /// What any says, the first one first.
    pub async fn shutdown(&self) -> Result<(), Error> {
        join_all(self.shards().map(|shard| shard.shutdown())).await.into_iter().collect()
    }
}

/// Makes the shards' directories, the last one first and durably: a crash in between leaves their number as it was
/// meant. Returns the last data shard.
fn create_directories(config: &NodeConfig) -> Result<u16, Error> {
    let (disk, shards) = (&*config.disk, config.dir.join("shards"));
    ensure_dir(disk, &shards)?;
    let listed =
        disk.list(&shards).map_err(|source| Error::Directory { operation: "list", path: shards.clone(), source })?;
    let found = listed.iter().filter_map(|name| name.parse::<u16>().ok()).max().filter(|last| *last > 0);
    let last = found.unwrap_or(config.data_shards.max(1));
    for shard in (0..=last).rev() {
        ensure_dir(disk, &shards.join(shard.to_string()))?;
    }
    Ok(last)
}
