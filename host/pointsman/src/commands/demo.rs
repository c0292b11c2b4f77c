//! `pointsman demo`: the main job on a node of its own, in a temporary directory.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::commands::Failure;
use crate::demo::cluster::DemoNodes;
use crate::demo::{self, input};
use crate::node::{self, Node, NodeOptions};
use crate::output;
use crate::settings::Settings;

/// Small enough for a temporary directory.
const SEGMENT_BYTES: u64 = 32 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes. With 3 or 5 the demonstration is another one: publish, kill the leader, and look that nothing is lost.
    #[arg(long, value_name = "N", default_value = "1", value_parser = ["1", "3", "5"], conflicts_with_all = ["input", "listen"])]
    nodes: String,
    /// Events to publish, one JSON object a line, gzip or not; made up if absent.
    ///
    /// `event`, `type` or `kind` is the tag; `repository`, `key` or `id` the first key, which routes; with `number`
    /// it makes the second key and the ordering key; `action` is a property; `payload`, else the whole object, is the
    /// body.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Leave the node running after the report, for the curl lines; interrupt it to end and clean up.
    #[arg(long)]
    keep: bool,
    /// Address of the node; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Ok(nodes @ 2..) = args.nodes.parse() {
        return of_cluster(args, nodes);
    }
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    let events = match &args.input {
        Some(path) => input::read(path).map_err(|error| refused(&error))?,
        None => input::generate(input::GENERATED_EVENTS),
    };
    let settings = Settings {
        log: "warn,openraft=error,lsm_tree=warn".to_owned(),
        segment_bytes: SEGMENT_BYTES,
        // The ledger that the check-back plugin asks is a part of the demonstration.
        check_back_allow_private: true,
        ..Settings::default()
    };
    node::start_logging(&settings);
    let directory = tempfile::Builder::new().prefix("pointsman-demo-").tempdir()?;
    let runtime = node::runtime(&settings)?;
    runtime.block_on(async {
        let (data_dir, settings) = (directory.path(), &settings);
        let options = NodeOptions { data_dir, listen: args.listen, settings, operator_token: None, cluster: None };
        let starting = Node::start(options).await;
        let node = starting.map_err(|error| Failure::Refused(error.line()))?;
        let shown = show(args, &node, &events);
        let shown = tokio::select! {
            shown = shown => shown,
            interrupted = node::stop_signal() => interrupted.map_err(Failure::from),
        };
        node.stop().await.map_err(|error| Failure::Refused(error.line()))?;
        shown
    })
}

async fn show(args: &Args, node: &Node, events: &[input::Event]) -> Result<(), Failure> {
    let url = format!("http://{}", node.address());
    let report = demo::run(&url, node.sandbox(), events).await?;
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&report.text())?;
    }
    report.verdict().map_err(Failure::Refused)?;
    if args.keep {
        eprintln!("pointsman: the node stays at {url} until it is interrupted");
        // Whoever selects on this ends it.
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// The demonstration of a cluster.
fn of_cluster(args: &Args, count: u32) -> Result<(), Failure> {
    let directory = tempfile::Builder::new().prefix("pointsman-demo-").tempdir()?;
    let settings = Settings::default();
    let runtime = node::runtime(&settings)?;
    runtime.block_on(async {
        let mut nodes = DemoNodes::start(directory.path(), count)?;
        let shown = async {
            let report = demo::cluster::run(&mut nodes).await?;
            if args.json {
                output::json(&report)?;
            } else {
                output::line(&report.text())?;
            }
            report.verdict().map_err(Failure::Refused)?;
            if args.keep {
                eprintln!("pointsman: the nodes stay at {} until they are interrupted", nodes.urls().join(", "));
                // Whoever selects on this ends it.
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        tokio::select! {
            shown = shown => shown,
            interrupted = node::stop_signal() => interrupted.map_err(Failure::from),
        }
    })
}
