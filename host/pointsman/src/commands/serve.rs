//! `pointsman serve`: runs a node until it is told to stop.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use crate::cluster::ClusterArgs;
use crate::commands::Failure;
use crate::node::{self, Node, NodeOptions};
use crate::settings::Settings;

/// Where a node alone listens for clients.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7070));

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory that holds everything the node keeps; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Address for clients; port 0 takes a free one. By default 127.0.0.1:7070, in a cluster the one that --peers gives
    /// this node. Only loopback without --operator-token-file.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// File that holds one token, which this node takes as an operator's; then every call needs a token.
    #[arg(long, value_name = "FILE")]
    operator_token_file: Option<PathBuf>,
    /// TOML file of settings, one `name = value` a line.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, stronger than environment and file; may be repeated. See `pointsman config reference`.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
    let settings = Settings::load(args.config.as_deref(), environment, &args.set)
        .map_err(|error| Failure::Refused(error.to_string()))?;
    node::start_logging(&settings);
    let refused = |error: node::Error| Failure::Refused(error.line());
    let runtime = node::runtime(&settings)?;
    runtime.block_on(async {
        let operator_token = args.operator_token_file.as_deref().map(node::read_operator_token);
        let operator_token = operator_token.transpose().map_err(refused)?;
        let cluster = args.cluster.options().map_err(|error| refused(error.into()))?;
        let listen = match (args.listen, &cluster) {
            (Some(listen), _) => listen,
            (None, Some(cluster)) => cluster.http_listen().map_err(|error| refused(error.into()))?,
            (None, None) => LISTEN_DEFAULT,
        };
        let options = NodeOptions { data_dir: &args.data_dir, listen, settings: &settings, operator_token, cluster };
        let node = tokio::select! {
            node = Node::start(options) => node.map_err(refused)?,
            // Nothing is under way yet that could not be cut off.
            stopped = node::stop_signal() => return Ok(stopped?),
        };
        node::warn_of_file_system(&args.data_dir);
        tracing::info!(listen = %node.address(), data_dir = %args.data_dir.display(), "ready");
        let failed = tokio::select! {
            stopped = node::stop_signal() => stopped.map(|()| None)?,
            error = node.failed() => Some(error),
        };
        tracing::info!("stopping");
        let stopped = node.stop().await;
        failed.map_or(stopped, Err).map_err(refused)
    })
}
