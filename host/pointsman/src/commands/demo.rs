//! `pointsman demo`: the main job on a node of its own, in a temporary directory.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::commands::Failure;
use crate::demo::{self, input};
use crate::node::{self, Node, NodeOptions};
use crate::output;
use crate::settings::Settings;

/// Small enough for a temporary directory.
const SEGMENT_BYTES: u64 = 32 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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
