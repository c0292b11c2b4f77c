//! A node: storage, consensus, sandbox, use cases and HTTP wired together. `serve` and `demo` run the same.

mod environment;
mod error;
mod metrics;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pointsman_api::{ApiConfig, ReadyChecks, ServeConfig};
use pointsman_api_types::node::Check;
use pointsman_broker::{Broker, BrokerConfig, OperatorToken};
use pointsman_consensus::NodeConfig;
use pointsman_model::time::{SharedClock, SystemClock};
use pointsman_plugin_host::{Compiler, HostConfig, PluginHost};
use pointsman_storage::disk::{Disk, RealDisk};
use pointsman_storage::identity::{DirectoryLock, Identity};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::COMPILE_CHILD;
use crate::judges::SandboxJudges;
use crate::outside::OutsideClient;
use crate::settings::Settings;

pub(crate) use environment::{runtime, start_logging, stop_signal, warn_of_file_system};
pub(crate) use error::Error;

/// The number of a node alone.
const NODE_ID: u32 = 1;
/// Newest feature level this release knows.
const FEATURE_LEVEL: u32 = 1;
/// Where compiled plugins are kept.
const PLUGIN_DIRECTORY: &str = "plugins";
/// Time that open requests have when the node stops. With the steps after it, a stop stays under 10 s.
const REQUESTS_GRACE: Duration = Duration::from_secs(5);
/// Time that the use cases have to answer what was proposed.
const BROKER_GRACE: Duration = Duration::from_secs(2);
/// Time that the last flush has.
const FLUSH_GRACE: Duration = Duration::from_millis(2_500);

/// A node that serves.
pub(crate) struct Node {
    address: SocketAddr,
    broker: Broker,
    shards: Arc<pointsman_consensus::Node>,
    sandbox: Arc<PluginHost>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    _lock: DirectoryLock,
}

impl Node {
    /// Opens the directory and serves it.
    pub(crate) async fn start(
        data_dir: &Path,
        listen: SocketAddr,
        settings: &Settings,
        operator_token: Option<OperatorToken>,
    ) -> Result<Self, Error> {
        if !listen.ip().is_loopback() && operator_token.is_none() {
            return Err(Error::NotLoopback(listen));
        }
        let listener = pointsman_api::bind(listen)?;
        let address = listener.local_addr().map_err(|source| Error::Listener { listen, source })?;
        environment::raise_file_limit();
        environment::create_directory(data_dir)?;

        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let lock = DirectoryLock::acquire(&*disk, data_dir)?;
        let fresh = || Identity { cluster: rand::random(), node: NODE_ID, incarnation: 0 };
        let identity = Identity::open_or_create(&*disk, data_dir, fresh)?;
        let clock: SharedClock = Arc::new(SystemClock::new());

        let mut config = NodeConfig::new(data_dir.to_owned(), identity, disk, Arc::clone(&clock));
        config.segment_bytes = settings.segment_bytes;
        config.zero_ahead = settings.zero_ahead;
        config.data_shards = settings.data_shards.unwrap_or(1);
        let shards = Arc::new(pointsman_consensus::Node::open(config).await?);

        let sandbox = Arc::new(PluginHost::new(sandbox_config(data_dir, &clock, settings)?)?);
        let broker = Broker::new(
            BrokerConfig {
                node: pointsman_model::NodeId(NODE_ID),
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
        if let Err(error) = broker.bootstrap().await {
            // A damaged log is read and reported, and the node says that it is not ready; all else refuses the start.
            match shards.shards().find_map(|shard| shard.failure()) {
                Some(failure) => tracing::error!(%failure, "the node takes no writes"),
                None => return Err(error.into()),
            }
        }

        let shutdown = CancellationToken::new();
        let serve = ServeConfig { grace: REQUESTS_GRACE, ..ServeConfig::default() };
        let api = api_config(&shards, &broker, &shutdown, &serve);
        let router = pointsman_api::router(Arc::new(broker.clone()), api);
        let server = tokio::spawn(pointsman_api::serve(vec![listener], router, shutdown.clone(), serve));
        Ok(Self { address, broker, shards, sandbox, shutdown, server, _lock: lock })
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its plugins run.
    pub(crate) fn sandbox(&self) -> &Arc<PluginHost> {
        &self.sandbox
    }

    /// Takes no more work, answers what is under way, flushes, and lets the directory go.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        // Streams and long polls end now, so that the server's own wait is for calls that come to an end.
        let (broker, server) = (self.broker.shutdown(), self.server);
        let drained = tokio::time::timeout(REQUESTS_GRACE + BROKER_GRACE, async { tokio::join!(broker, server) }).await;
        match drained {
            Ok(((), Ok(()))) => {}
            Ok(((), Err(error))) => tracing::error!(%error, "the server ended badly"),
            Err(_) => tracing::warn!("calls were left unanswered"),
        }
        match tokio::time::timeout(FLUSH_GRACE, self.shards.shutdown()).await {
            Ok(result) => Ok(result?),
            Err(_) => {
                // Nothing acknowledged depends on it: the log is its own journal.
                tracing::warn!("the last flush was not waited for; the next start replays it");
                Ok(())
            }
        }
    }
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
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("BUILD_COMMIT").to_owned(),
        feature_level: FEATURE_LEVEL,
        node_id: NODE_ID,
        shutdown: shutdown.clone(),
        stats: Arc::clone(&serve.stats),
        metrics: vec![
            Arc::new(move |text| metrics::write(&measured, text)),
            Arc::new(move |text| {
                metrics::timers::write(&broker.timer_stats(), text);
                metrics::deliveries::write(&broker.delivery_stats(), text);
                metrics::transactions::write(&broker.transaction_stats(), text);
                metrics::write_duplicates(broker.duplicates(), text);
            }),
        ],
        ready: vec![checks],
        cluster: None,
    }
}
