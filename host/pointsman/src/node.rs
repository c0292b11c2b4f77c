//! A node: storage, consensus, sandbox, use cases and HTTP wired together. `serve` and `demo` run the same.

mod environment;
mod error;
mod membership;
mod metrics;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pointsman_api::{Api, ApiConfig, ReadyChecks, ServeConfig};
use pointsman_api_types::node::Check;
use pointsman_broker::{Broker, BrokerConfig, OperatorToken};
use pointsman_consensus::NodeConfig;
use pointsman_model::NodeId;
use pointsman_model::time::{SharedClock, SystemClock};
use pointsman_plugin_host::{Compiler, HostConfig, PluginHost};
use pointsman_storage::identity::Identity;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::COMPILE_CHILD;
use crate::cluster::{ClusterOptions, Directory};
use crate::judges::SandboxJudges;
use crate::outside::OutsideClient;
use crate::settings::Settings;

pub(crate) use environment::{runtime, start_logging, stop_signal, warn_of_file_system};
pub(crate) use error::Error;
use membership::Membership;

/// The number of a node alone.
const ALONE: NodeId = NodeId(1);
/// Newest feature level this release knows.
pub(crate) const FEATURE_LEVEL: u32 = 1;
/// Where compiled plugins are kept.
const PLUGIN_DIRECTORY: &str = "plugins";
/// Time that a stop takes at most; who waits for it kills the process after 10 s.
const STOP_WITHIN: Duration = Duration::from_millis(9_500);
/// Time that the shards led here have to find another leader.
const HAND_OVER_WITHIN: Duration = Duration::from_millis(1_500);
/// Time that open requests have when the node stops.
const REQUESTS_GRACE: Duration = Duration::from_secs(5);
/// Time that the use cases have, beside it, to answer what was proposed.
const BROKER_GRACE: Duration = Duration::from_secs(2);
/// Time that the last flush has.
const FLUSH_GRACE: Duration = Duration::from_millis(2_500);
/// Time that what is queued for other nodes has.
const PEERS_GRACE: Duration = Duration::from_millis(300);

/// What a node is told at start.
pub(crate) struct NodeOptions<'a> {
    /// Directory that holds everything it keeps.
    pub(crate) data_dir: &'a Path,
    /// Where clients find it.
    pub(crate) listen: SocketAddr,
    pub(crate) settings: &'a Settings,
    pub(crate) operator_token: Option<OperatorToken>,
    /// The other nodes; `None` for a node alone.
    pub(crate) cluster: Option<ClusterOptions>,
}

/// A node that serves.
pub(crate) struct Node {
    address: SocketAddr,
    broker: Broker,
    shards: Arc<pointsman_consensus::Node>,
    sandbox: Arc<PluginHost>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    membership: Option<Membership>,
    _directory: Arc<Directory>,
}

impl Node {
    /// Opens the directory and serves it. In a cluster that has not formed yet it waits for the other nodes; clients
    /// are told so meanwhile.
    pub(crate) async fn start(options: NodeOptions<'_>) -> Result<Self, Error> {
        let NodeOptions { data_dir, listen, settings, operator_token, cluster } = options;
        if !listen.ip().is_loopback() && operator_token.is_none() {
            return Err(Error::NotLoopback(listen));
        }
        let listener = pointsman_api::bind(listen)?;
        let address = listener.local_addr().map_err(|source| Error::Listener { listen, source })?;
        environment::raise_file_limit();
        environment::create_directory(data_dir)?;
        let directory = Arc::new(Directory::take(data_dir)?);
        let clock: SharedClock = Arc::new(SystemClock::new());

        let shutdown = CancellationToken::new();
        let serve = ServeConfig { grace: REQUESTS_GRACE, ..ServeConfig::default() };
        let mut early = Some(listener);
        let mut server = |router| {
            let listeners = early.take().into_iter().collect();
            tokio::spawn(pointsman_api::serve(listeners, router, shutdown.clone(), serve.clone()))
        };
        let formed = Arc::new(OnceLock::new());
        let (shards, membership, serving) = match cluster {
            None => (alone(&directory, settings, &clock).await?, None, None),
            Some(cluster) => {
                let serving = server(pointsman_api::forming(&about(), Arc::clone(&formed)));
                let (shards, membership) = Membership::join(cluster, &directory, settings, &clock).await?;
                (shards, Some(membership), Some(serving))
            }
        };

        let sandbox = Arc::new(PluginHost::new(sandbox_config(data_dir, &clock, settings)?)?);
        let node = membership.as_ref().map_or(ALONE, Membership::node);
        let broker = Broker::new(
            BrokerConfig {
                node,
                time_scale: settings.time_scale,
                retention_ms_max: settings.retention_ms_max,
                operator_token,
            },
            Arc::clone(&shards.metadata) as _,
            shards.data.iter().map(|shard| Arc::clone(shard) as _).collect(),
            Arc::new(SandboxJudges::new(Arc::clone(&sandbox))),
            Arc::new(OutsideClient::new(settings.check_back_allow_private)),
            clock,
        );
        let mut config = api_config(&shards, &broker, &shutdown, &serve);
        config.node_id = node.0;
        if let Some(membership) = &membership {
            membership.describe(&mut config);
        } else if let Err(error) = broker.bootstrap().await {
            // A damaged log is read and reported, and the node says that it is not ready; all else refuses the start.
            match shards.shards().find_map(|shard| shard.failure()) {
                Some(failure) => tracing::error!(%failure, "the node takes no writes"),
                None => return Err(error.into()),
            }
        }
        let api = Api::new(Arc::new(broker.clone()), config);
        let server = match serving {
            None => server(api.router()),
            Some(serving) => serving,
        };
        if let Some(membership) = &membership {
            // Nobody else sets it.
            let _ = formed.set(api.router());
            membership.serve(&shards, &broker, api);
        }
        Ok(Self { address, broker, shards, sandbox, shutdown, server, membership, _directory: directory })
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its plugins run.
    pub(crate) fn sandbox(&self) -> &Arc<PluginHost> {
        &self.sandbox
    }

    /// Waits until the node must not go on: it turned out to be of another cluster than the nodes it met.
    pub(crate) async fn failed(&self) -> Error {
        match &self.membership {
            Some(membership) => membership.first_contact().await.into(),
            None => std::future::pending().await,
        }
    }

    /// Gives away what it leads, takes no more work, answers what is under way, flushes, and lets the directory go.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        let end = tokio::time::Instant::now() + STOP_WITHIN;
        if self.membership.is_some() && !self.shards.hand_over_all(HAND_OVER_WITHIN).await {
            tracing::warn!("not every shard led here found another leader; they elect one");
        }
        self.shutdown.cancel();
        // Streams and long polls end now, so that the server's own wait is for calls that come to an end.
        let (broker, server) = (self.broker.shutdown(), self.server);
        let drain_until = end - FLUSH_GRACE - PEERS_GRACE;
        let drain_within = drain_until.duration_since(tokio::time::Instant::now()).min(REQUESTS_GRACE + BROKER_GRACE);
        let drained = tokio::time::timeout(drain_within, async { tokio::join!(broker, server) }).await;
        match drained {
            Ok(((), Ok(()))) => {}
            Ok(((), Err(error))) => tracing::error!(%error, "the server ended badly"),
            Err(_) => tracing::warn!("calls were left unanswered"),
        }
        let flushed = tokio::time::timeout(FLUSH_GRACE, self.shards.shutdown()).await;
        if let Some(membership) = &self.membership {
            let _ = tokio::time::timeout(PEERS_GRACE, membership.leave()).await;
        }
        match flushed {
            Ok(result) => Ok(result?),
            Err(_) => {
                // Nothing acknowledged depends on it: the log is its own journal.
                tracing::warn!("the last flush was not waited for; the next start replays it");
                Ok(())
            }
        }
    }
}

/// The shards of a node alone, each led by it.
async fn alone(
    directory: &Directory,
    settings: &Settings,
    clock: &SharedClock,
) -> Result<Arc<pointsman_consensus::Node>, Error> {
    let fresh = || Identity { cluster: rand::random(), node: ALONE.0, incarnation: 0 };
    let identity = match directory.identity()? {
        Some(identity) if identity.node != ALONE.0 => return Err(Error::OfACluster { node: identity.node }),
        Some(identity) => identity,
        None => directory.claim(fresh())?,
    };
    let config = shards_config(directory, identity, settings, clock);
    Ok(Arc::new(pointsman_consensus::Node::open(config).await?))
}

/// What the shards of a directory need.
fn shards_config(directory: &Directory, identity: Identity, settings: &Settings, clock: &SharedClock) -> NodeConfig {
    let mut config = NodeConfig::new(directory.path.clone(), identity, Arc::clone(&directory.disk), Arc::clone(clock));
    config.segment_bytes = settings.segment_bytes;
    config.zero_ahead = settings.zero_ahead;
    config.data_shards = settings.data_shards.unwrap_or(1);
    config
}

/// Reads an operator token file.
pub(crate) fn read_operator_token(path: &Path) -> Result<OperatorToken, Error> {
    let failed = |reason: String| Error::OperatorToken { path: path.to_owned(), reason };
    let content = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    OperatorToken::parse(&content).map_err(failed)
}

/// The sandbox of a data directory. Compilers are children of this very program, also when its file was replaced.
fn sandbox_config(data_dir: &Path, clock: &SharedClock, settings: &Settings) -> Result<HostConfig, Error> {
    let cache = data_dir.join(PLUGIN_DIRECTORY);
    environment::create_directory(&cache)?;
    let linux = Path::new("/proc/self/exe");
    let exe = if linux.exists() { linux.to_owned() } else { std::env::current_exe().map_err(Error::OwnProgram)? };
    Ok(HostConfig {
        workers: environment::threads(settings.plugin_workers),
        cache_dir: Some(cache),
        compiler: Compiler::Child { exe, args: vec![COMPILE_CHILD.to_owned()] },
        clock: Arc::clone(clock),
    })
}

fn api_config(
    shards: &Arc<pointsman_consensus::Node>,
    broker: &Broker,
    shutdown: &CancellationToken,
    serve: &ServeConfig,
) -> ApiConfig {
    let (measured, checked, broker) = (Arc::clone(shards), Arc::clone(shards), broker.clone());
    let checks: ReadyChecks = Arc::new(move || {
        let check = |shard: &Arc<pointsman_consensus::Shard>| {
            let failure = shard.failure();
            Check { name: format!("storage-{}", shard.metrics().shard), ok: failure.is_none(), detail: failure }
        };
        checked.shards().map(check).collect()
    });
    ApiConfig {
        shutdown: shutdown.clone(),
        stats: Arc::clone(&serve.stats),
        metrics: vec![
            Arc::new(move |text| metrics::write(&measured, text)),
            Arc::new(move |text| {
                metrics::timers::write(&broker.timer_stats(), text);
                metrics::retention::write(&broker.retention_stats(), text);
                metrics::deliveries::write(&broker.delivery_stats(), text);
                metrics::transactions::write(&broker.transaction_stats(), text);
                metrics::write_duplicates(broker.duplicates(), text);
            }),
        ],
        ready: vec![checks],
        ..about()
    }
}

/// What this program is.
fn about() -> ApiConfig {
    ApiConfig {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("BUILD_COMMIT").to_owned(),
        feature_level: FEATURE_LEVEL,
        ..ApiConfig::default()
    }
}
