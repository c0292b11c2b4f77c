//! The demonstration of a cluster: publish with keys, kill the leader, go on, and look for every message on every node.
//!
//! The nodes are processes of this very program on free ports of this machine, with a temporary directory each.

mod load;
mod nodes;
mod report;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pointsman_api_types::message::Message;
use pointsman_api_types::topic::TopicInput;
use pointsman_client::{StreamOptions, Tenant};

use crate::commands::Failure;
use load::{Load, Published};
use nodes::Nodes;
use report::{Report, Seen};

const TENANT: &str = "demo";
const TOPIC: &str = "orders";
/// How long everything may take to form, and a node to come back.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long is published before the kill, and after the first answer behind it.
const PUBLISH_FOR: Duration = Duration::from_secs(3);
/// How long publishing may take to go on.
const RESUME_WITHIN: Duration = Duration::from_secs(15);
/// How long a node may take to show what others have.
const SHOW_WITHIN: Duration = Duration::from_secs(5);
/// How long a call that sets up may be tried.
const SET_UP_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) use nodes::Nodes as DemoNodes;

/// Does it all on these nodes.
pub(crate) async fn run(nodes: &mut Nodes) -> Result<Report, Failure> {
    let started = Instant::now();
    nodes.wait_ready(READY_WITHIN).await?;
    let formed_ms = millis(started.elapsed());
    let clients = nodes.clients()?;
    let tenants: Vec<Tenant> = clients.iter().map(|client| client.tenant(TENANT)).collect();
    set_up(&tenants).await?;

    let load = Load::start(tenants.clone());
    tokio::time::sleep(PUBLISH_FOR).await;
    let victim = leader(&tenants[0]).await?;
    let killed_at = nodes.kill(victim)?;
    let resumed = load.first_begun_after(killed_at, RESUME_WITHIN).await;
    let resumed =
        resumed.ok_or_else(|| Failure::Refused(nodes.complaint("publishing did not go on", RESUME_WITHIN)))?;
    tokio::time::sleep(PUBLISH_FOR).await;
    let published = load.stop().await;

    nodes.start_again(victim)?;
    let back = Instant::now();
    nodes.wait_ready(READY_WITHIN).await?;
    let back_ms = millis(back.elapsed());
    let mut seen = Vec::new();
    for (node, tenant) in nodes.numbers().zip(&tenants) {
        seen.push(look(node, tenant, &published).await?);
    }
    Ok(Report {
        nodes: seen.len(),
        formed_ms,
        killed: victim,
        acknowledged: published.acknowledged.len(),
        unknown: published.unknown.len(),
        retried: published.retried,
        resumed_ms: millis(resumed - killed_at),
        back_ms,
        seen,
        took_ms: millis(started.elapsed()),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tenant and topic. A cluster that has just formed may have no leader yet for a moment.
async fn set_up(tenants: &[Tenant]) -> Result<(), Failure> {
    let until = Instant::now() + SET_UP_WITHIN;
    let topic = TopicInput { queues: Some(4), ..TopicInput::default() };
    loop {
        let done = match tenants[0].client().put_tenant(TENANT).await {
            Ok(_) => tenants[0].put_topic(TOPIC, &topic).await.map(drop),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() && Instant::now() < until => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The node that leads the topic's shard.
async fn leader(tenant: &Tenant) -> Result<u32, Failure> {
    let queues = tenant.queues(TOPIC).await?;
    let leader = queues.iter().find_map(|queue| queue.leader);
    leader.ok_or_else(|| Failure::Refused("no node leads the topic".to_owned()))
}

/// Reads the whole topic on one node until all that was acknowledged is there, or it took too long.
async fn look(node: u32, tenant: &Tenant, published: &Published) -> Result<Seen, Failure> {
    let until = Instant::now() + SHOW_WITHIN;
    loop {
        let found = read(tenant).await;
        let late = Instant::now() >= until;
        match found {
            Ok(found) => {
                let seen = found.against(node, published);
                if seen.lost == 0 || late {
                    return Ok(seen);
                }
            }
            Err(error) if late => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a node shows of the topic: how often each name, and how often one came behind a later one of its producer.
#[derive(Default)]
struct Found {
    names: BTreeMap<String, u32>,
    reordered: u64,
}

async fn read(tenant: &Tenant) -> Result<Found, Failure> {
    let options = StreamOptions { from: Some("earliest".to_owned()), until_tail: true, ..StreamOptions::default() };
    let mut stream = tenant.stream(TOPIC, options);
    let mut found = Found::default();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(event) = stream.next().await? {
        if event.event != "message" {
            continue;
        }
        let message: Message = serde_json::from_str(&event.data)
            .map_err(|error| Failure::Refused(format!("a message that the contract does not know: {error}")))?;
        let Some(name) = message.keys.into_iter().next() else { continue };
        if let Some((producer, number)) = load::parts(&name) {
            let before = last.entry(producer.to_owned()).or_default();
            found.reordered += u64::from(number < *before);
            *before = number.max(*before);
        }
        *found.names.entry(name).or_default() += 1;
    }
    Ok(found)
}

impl Found {
    fn against(&self, node: u32, published: &Published) -> Seen {
        let lost = published.acknowledged.iter().filter(|name| !self.names.contains_key(*name)).count();
        let of_unknown = published.unknown.iter().filter(|name| self.names.contains_key(*name)).count();
        let doubled = self.names.values().filter(|times| **times > 1).count();
        let messages = self.names.values().map(|times| *times as usize).sum();
        Seen { node, messages, lost, doubled, reordered: self.reordered, of_unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_twice_is_counted() {
        let names = |names: &[(&str, u32)]| names.iter().map(|(name, times)| ((*name).to_owned(), *times)).collect();
        let found = Found { names: names(&[("0/1", 1), ("0/2", 2), ("1/7", 1)]), reordered: 3 };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let published =
            Published { acknowledged: set(&["0/1", "0/2", "0/3"]), unknown: set(&["1/7", "1/8"]), retried: 5 };
        let expected = Seen { node: 2, messages: 4, lost: 1, doubled: 1, reordered: 3, of_unknown: 1 };
        assert_eq!(found.against(2, &published), expected);
    }
}
