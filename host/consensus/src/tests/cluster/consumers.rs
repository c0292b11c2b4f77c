//! Those who lease and settle.

use std::sync::Arc;
use std::time::Duration;

use pointsman_broker::view::{Lease, LeaseRequest, SettleOp, SettleRequest, SettleStatus};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use super::clients::next_node;
use super::history::Settled;
use super::node::SimNode;
use super::world::{Said, World, call};
use super::{ORDERED, TENANT_NAME};

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
                for lease in &leases {
                    settle(&world, &target, group, lease, &mut rng).await;
                }
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

async fn settle(world: &World, node: &SimNode, group: &'static str, lease: &Lease, rng: &mut SmallRng) {
    let op = match rng.random_range(0..20) {
        // The consumer died.
        0 => return,
        1..=3 => SettleOp::Nack,
        _ => SettleOp::Ack,
    };
    let message = &lease.message;
    let place = (message.topic.to_string(), message.record.header.queue.0, message.offset.0);
    let asked = world.history.now();
    let item = SettleRequest { receipt: lease.receipt.clone(), op, delay_ms: None, lease_ms: None, reason: None };
    let call = call();
    let answer = node.broker.settle(&call, TENANT_NAME, group, vec![item]);
    let done = match world.ask(node, Box::pin(answer)).await {
        Said::Done(results) => match results[0].status {
            SettleStatus::Settled | SettleStatus::AlreadySettled => Some(world.history.now()),
            SettleStatus::LeaseExpired | SettleStatus::Invalid | SettleStatus::Extended => return,
        },
        Said::NotDone(_) => return,
        Said::Unknown => None,
    };
    // A nack of the last attempt settles, too; one before it makes the message come again.
    if op == SettleOp::Ack || group != ORDERED && done.is_none() {
        world.history.settled(Settled { group, place, asked, done: done.filter(|_| op == SettleOp::Ack) });
    }
}
