//! Those who lease and settle.

use std::sync::Arc;
use std::time::Duration;

use pointsman_broker::view::{Lease, LeaseRequest, SettleOp, SettleRequest, SettleStatus};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use super::TENANT_NAME;
use super::clients::next_node;
use super::history::Settled;
use super::node::SimNode;
use super::world::{Said, World, call};

/// Leases messages of a group and settles them, now and then badly.
pub(super) async fn consume(world: Arc<World>, consumer: usize, group: &'static str) {
    let mut rng = world.rng();
    let mut node = consumer;
    while !world.is_over() {
        let Some(target) = next_node(&world, &mut node) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let asked = world.history.now();
        let request =
            LeaseRequest { max_messages: Some(rng.random_range(1..5)), wait_ms: 300, ..LeaseRequest::default() };
        let call = call();
        let answer = target.broker.lease(&call, TENANT_NAME, group, request);
        match world.ask(&target, Box::pin(answer)).await {
            Said::Done(leases) => {
                for lease in &leases {
                    world.history.delivered(group, asked, lease);
                }
                sleep(Duration::from_millis(rng.random_range(0..60))).await;
                settle(&world, &target, group, &leases, &mut rng).await;
                if leases.is_empty() {
                    sleep(Duration::from_millis(40)).await;
                }
            }
            Said::NotDone(_) | Said::Unknown => {
                node += 1;
                sleep(Duration::from_millis(60)).await;
            }
        }
    }
}

async fn settle(world: &World, node: &SimNode, group: &'static str, leases: &[Lease], rng: &mut SmallRng) {
    let mut items = Vec::new();
    let mut settled = Vec::new();
    for lease in leases {
        let op = match rng.random_range(0..20) {
            // The consumer died.
            0 => continue,
            1..=3 => SettleOp::Nack,
            _ => SettleOp::Ack,
        };
        let message = &lease.message;
        let place = (message.topic.to_string(), message.record.header.queue.0, message.offset.0);
        let receipt = lease.receipt.clone();
        items.push(SettleRequest { receipt, op, delay_ms: None, lease_ms: None, reason: None });
        settled.push((op, Settled { group, place, asked: world.history.now(), done: None }));
    }
    if items.is_empty() {
        return;
    }
    let call = call();
    let answer = node.broker.settle(&call, TENANT_NAME, group, items);
    let results = match world.ask(node, Box::pin(answer)).await {
        Said::Done(results) => Some(results),
        Said::NotDone(_) => return,
        Said::Unknown => None,
    };
    for (n, (op, mut settled)) in settled.into_iter().enumerate() {
        match results.as_ref().map(|results| results[n].status) {
            Some(SettleStatus::Settled | SettleStatus::AlreadySettled) => settled.done = Some(world.history.now()),
            Some(SettleStatus::LeaseExpired | SettleStatus::Invalid | SettleStatus::Extended) => continue,
            None => {}
        }
        // A nacked message comes again.
        if op == SettleOp::Ack {
            world.history.settled(settled);
        }
    }
}
