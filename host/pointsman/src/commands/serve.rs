//! `pointsman serve`: runs a node until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::commands::Failure;
use crate::node::{self, Node};
use crate::settings::Settings;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory that holds everything the node keeps; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Address for clients; port 0 takes a free one. Only loopback without --operator-token-file.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// File that holds one token, which this node takes as an operator's; then every call needs a token.
    #[arg(long, value_name = "FILE")]
    operator_token_file: Option<PathBuf>,
    /// Address for other nodes; accepted and not used, as a node has no peers yet.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7071")]
    peer_listen: SocketAddr,
    /// TOML file of settings, one `name = value` a line.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, stronger than environment and file; may be repeated. See `pointsman config reference`.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Number of this node in a cluster; not supported yet.
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// The nodes of a cluster; not supported yet.
    #[arg(long, value_name = "LIST")]
    peers: Option<String>,
    /// Take the place of a wiped node; not supported yet.
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.node_id.is_some() || args.peers.is_some() || args.replace {
        let reason = "--node-id, --peers and --replace are not supported yet: start one node without them";
        return Err(Failure::Refused(reason.to_owned()));
    }
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
        let node = Node::start(&args.data_dir, args.listen, &settings, operator_token).await.map_err(refused)?;
        node::warn_of_file_system(&args.data_dir);
        tracing::info!(listen = %node.address(), data_dir = %args.data_dir.display(), "ready");
        node::stop_signal().await?;
        tracing::info!("stopping");
        node.stop().await.map_err(refused)
    })
}
