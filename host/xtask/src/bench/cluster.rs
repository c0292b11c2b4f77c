//! Three nodes on this machine beside one, in the same run: rate, latency, and processor time a message.
//!
//! One node, three nodes asked at the leader, three nodes asked anywhere take turns in every run, so that what the machine
//! does to one it does to all. All of them fsync; the three share one disk.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Options;
use super::connection::{Connection, request};
use super::figures::{Figure, Table};
use super::load::{self, BATCH_CONNECTIONS, BATCH_MESSAGES, JSON, SINGLE_CONNECTIONS};
use super::server::{Server, free_address};

const NODES: usize = 3;
/// The data shard of the tenant that is measured.
const HOME: u64 = 1;
/// How long three nodes may take to form and agree who leads.
const FORMED_WITHIN: Duration = Duration::from_secs(30);

/// After forming, leaders move to the nodes that are meant to lead; nothing is measured while they do.
const SETTLED: Duration = Duration::from_secs(10);

/// How the load meets the servers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    One,
    Leader,
    Anywhere,
}

const WAYS: [(Way, &str); 3] = [
    (Way::One, "one node"),
    (Way::Leader, "three nodes, asked at the leader"),
    (Way::Anywhere, "three nodes, asked at any"),
];

/// What one run of one way gave.
struct Run {
    figure: Figure,
    /// Processor time of all servers, microseconds a message.
    processor_us: f64,
}

/// All figures of the cluster.
pub(crate) async fn measure(root: &Path, scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    let text = load::body_text();
    let cases = [
        ("single publish, 64 connections", load::single(&text), SINGLE_CONNECTIONS, 1),
        ("single publish, 256 connections", load::single(&text), 4 * SINGLE_CONNECTIONS, 1),
        ("batch publish 100 × 1 KiB, frames", load::frames(&text), BATCH_CONNECTIONS, BATCH_MESSAGES),
    ];
    for (name, publish, connections, messages) in cases {
        if !options.wants(&format!("cluster: {name}")) {
            continue;
        }
        let mut runs: [Vec<Run>; WAYS.len()] = Default::default();
        for _ in 0..options.runs {
            for ((way, _), runs) in WAYS.iter().zip(&mut runs) {
                let servers = start(root, scratch, options, *way).await?;
                let nodes = nodes(&servers, *way).await?;
                let before = processor_time(&servers);
                let figure = load::closed_loop(&nodes, &publish, connections, messages, options.length()).await?;
                let spent = processor_time(&servers).saturating_sub(before);
                let stored = figure.per_second * options.length().as_secs_f64();
                runs.push(Run { figure, processor_us: spent.as_secs_f64() * 1e6 / stored.max(1.0) });
                drop(servers);
                std::fs::remove_dir_all(scratch.join("cluster")).map_err(|e| e.to_string())?;
            }
        }
        let alone = median(&runs[0]);
        for ((way, words), runs) in WAYS.iter().zip(&runs) {
            let spent = median(runs);
            let ratio = if *way == Way::One { String::new() } else { format!(", × {:.2} of one node", spent / alone) };
            let figure = Figure::median(runs.iter().map(|run| run.figure).collect());
            let remark = format!("processor {spent:.1} µs a message{ratio}");
            table.row(&format!("cluster: {name}, {words}"), "messages", figure, &remark);
        }
    }
    Ok(())
}

fn median(runs: &[Run]) -> f64 {
    let mut all: Vec<f64> = runs.iter().map(|run| run.processor_us).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn processor_time(servers: &[Server]) -> Duration {
    servers.iter().map(Server::processor_time).sum()
}

/// Fresh servers with the topic of the load.
async fn start(root: &Path, scratch: &Path, options: &Options, way: Way) -> Result<Vec<Server>, String> {
    let data = scratch.join("cluster");
    std::fs::create_dir_all(&data).map_err(|e| e.to_string())?;
    let mut servers = Vec::new();
    if way == Way::One {
        servers.push(Server::start(root, &data.join("alone"), options).await?);
    } else {
        let addresses: Vec<(String, String)> =
            (0..NODES).map(|_| Ok((free_address()?, free_address()?))).collect::<Result<_, String>>()?;
        let of = |(at, (http, peer)): (usize, &(String, String))| format!("{}={peer}/{http}", at + 1);
        let peers = addresses.iter().enumerate().map(of).collect::<Vec<_>>().join(",");
        for (at, (http, peer)) in addresses.into_iter().enumerate() {
            let node = (at + 1).to_string();
            let more = ["--node-id", &node, "--peers", &peers, "--peer-listen", &peer];
            servers.push(Server::spawn(root, &data.join(&node), options, http, &more)?);
        }
        for server in &servers {
            server.ready().await?;
        }
        tokio::time::sleep(SETTLED).await;
    }
    load::topic(&servers[0], false).await?;
    Ok(servers)
}

/// Where the load goes.
async fn nodes(servers: &[Server], way: Way) -> Result<Vec<String>, String> {
    let all: Vec<String> = servers.iter().map(|server| server.address.clone()).collect();
    if way != Way::Leader {
        return Ok(all);
    }
    let start = Instant::now();
    let mut connection = Connection::open(&all[0]).await?;
    let ask = request("GET", "/v1/cluster", &[JSON], b"");
    loop {
        let view: serde_json::Value =
            serde_json::from_slice(connection.must(&ask).await?).map_err(|e| e.to_string())?;
        let shards = view["shards"].as_array().into_iter().flatten();
        let leader = shards.filter(|shard| shard["shard"] == HOME).find_map(|shard| shard["leader"].as_u64());
        if let Some(leader) = leader {
            let at = usize::try_from(leader).map_err(|e| e.to_string())?;
            return all.get(at - 1).map(|address| vec![address.clone()]).ok_or(format!("node {leader} leads"));
        }
        if start.elapsed() > FORMED_WITHIN {
            return Err(format!("nobody leads shard {HOME}: {view}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
