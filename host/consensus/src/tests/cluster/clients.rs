//! Those who publish, switch bindings and read, and write down what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pointsman_broker::command::Expect;
use pointsman_broker::command::Slot;
use pointsman_broker::ports::{ReadError, Shard as _};
use pointsman_broker::testing::fixture::binding_settings;
use pointsman_broker::view::Publish;
use pointsman_model::message::NewMessage;
use pointsman_model::{QueueId, QueueOffset, TopicId};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use super::history::{Fate, Place, Sent, place_of};
use super::network::number;
use super::node::SimNode;
use super::world::{Said, World, call};
use super::{JUDGED, NODES, PLAIN, QUEUES, TENANT_NAME, VERSIONS};

/// The version of the binding that is surely in force, and the newest that may be.
#[derive(Default)]
pub(super) struct Switch {
    pub(super) surely: AtomicU64,
    pub(super) maybe: AtomicU64,
}

/// The node a client talks to, until it is told to go elsewhere.
pub(super) fn next_node(world: &World, last: &mut usize) -> Option<Arc<SimNode>> {
    let node = world.node(*last % NODES);
    if node.is_none() {
        *last += 1;
    }
    node
}

/// Publishes one message after the other. A keyed one is retried until somebody knows what became of it.
pub(super) async fn produce(world: Arc<World>, producer: usize, switch: Arc<Switch>) {
    let mut rng = world.rng();
    let (keyed, topic) = (producer.is_multiple_of(2), if producer == 2 { JUDGED } else { PLAIN });
    let mut node = producer;
    let mut stored: Vec<(String, Place)> = Vec::new();
    for n in 0.. {
        if world.is_over() {
            return;
        }
        let body = format!("p{producer}-{n}");
        let least = switch.surely.load(Ordering::Relaxed);
        let (fate, again) = publish(&world, &mut node, (topic, &body), keyed, producer).await;
        let versions = (least, switch.maybe.load(Ordering::Relaxed));
        if fate == Fate::Unknown {
            world.happened.lock().unknown += 1;
        }
        if let Fate::Stored(place) = &fate
            && keyed
        {
            stored.push((body.clone(), place.clone()));
        }
        if !stored.is_empty() && rng.random_range(0..8) == 0 {
            // A client that lost an answer, maybe long ago, asks once more, somewhere else.
            let (body, place) = &stored[rng.random_range(0..stored.len())];
            node += 1;
            let (second, _) = publish(&world, &mut node, (topic, body), true, producer).await;
            if let Fate::Stored(other) = second {
                world.happened.lock().duplicates += 1;
                if other != *place {
                    world
                        .history
                        .fail(format!("twice: {body} was stored at {place:?}, and its retry is told {other:?}"));
                }
            }
        }
        world.happened.lock().retried_with_key += usize::from(again && keyed);
        world.history.sent(Sent { producer, body, topic, keyed, fate, versions });
        sleep(Duration::from_millis(rng.random_range(80..400))).await;
    }
}

/// Publishes a message; says whether it was tried again after nobody knew what had become of it.
pub(super) async fn publish(
    world: &World,
    node: &mut usize,
    (topic, body): (&'static str, &str),
    keyed: bool,
    producer: usize,
) -> (Fate, bool) {
    let message = NewMessage {
        body: Bytes::copy_from_slice(body.as_bytes()),
        ordering_key: (topic == PLAIN).then(|| format!("k{producer}")),
        idempotency_key: keyed.then(|| body.to_owned()),
        ..NewMessage::default()
    };
    let mut unknown = false;
    for _ in 0..200 {
        let Some(target) = next_node(world, node) else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let publish = Publish { messages: vec![message.clone()], ack: None, atomic: false };
        let call = call();
        let answer = async { target.broker.publish(&call, TENANT_NAME, topic, publish).await?.remove(0) };
        match world.ask(&target, Box::pin(answer)).await {
            Said::Done(receipt) => {
                let fate = place_of(&receipt).map_or(Fate::Unknown, Fate::Stored);
                return (fate, unknown);
            }
            Said::Unknown if keyed => unknown = true,
            Said::Unknown => return (Fate::Unknown, unknown),
            Said::NotDone(_) => {}
        }
        *node += 1;
        sleep(Duration::from_millis(30)).await;
        if world.broken().is_some() {
            break;
        }
    }
    (if unknown { Fate::Unknown } else { Fate::NotDone }, unknown)
}

/// Puts the next version of the binding in force.
pub(super) async fn switch_binding(world: &World, switch: &Switch) {
    let next = switch.maybe.load(Ordering::Relaxed) + 1;
    switch.maybe.store(next, Ordering::Relaxed);
    world.trace.say(format!("the binding is switched to version {next}"));
    let done = world
        .insist("a binding", |node| async move {
            let settings =
                binding_settings(Slot::Selector, Some(JUDGED), None, VERSIONS[next as usize % VERSIONS.len()]);
            node.broker.put_binding(&call(), TENANT_NAME, "places", settings, Expect::Anything).await
        })
        .await;
    if done.is_some() {
        switch.surely.store(next, Ordering::Relaxed);
        world.happened.lock().switches += 1;
    }
}

/// Reads all queues from one node as a stream would: whatever that node serves, whoever it thinks it is.
pub(super) async fn read(world: Arc<World>, at: usize) {
    let mut rng = world.rng();
    let mut next = [[0_u64; QUEUES as usize]; 2];
    let mut life = 0;
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(60..250))).await;
        let Some(node) = world.node(at) else { continue };
        if std::mem::replace(&mut life, node.end.life) != node.end.life {
            // A restarted node may still have to learn what it served before.
            next.iter_mut().flatten().for_each(|from| *from = from.saturating_sub(3));
        }
        let topics = [PLAIN, JUDGED].map(|topic| topic_id(&node, topic));
        for (topic, (name, offsets)) in topics.into_iter().zip([PLAIN, JUDGED].into_iter().zip(&mut next)) {
            let Some(topic) = topic else { continue };
            for queue in 0..QUEUES {
                let from = &mut offsets[usize::from(queue)];
                match read_from(&node, topic, queue, *from) {
                    Ok(messages) => {
                        for (body, place) in messages {
                            world.history.saw("a reader", (name.to_owned(), queue, *from), body, place);
                            *from += 1;
                        }
                    }
                    Err(ReadError::Expired { earliest }) => *from = earliest.0,
                    Err(error) => world.history.fail(format!("node {} cannot read: {error}", number(at))),
                }
            }
        }
    }
}

/// A message as a node serves it: body, and place in the log.
pub(super) type Served = (String, (u64, u64));

/// Messages of a queue as a node serves them.
pub(super) fn read_from(node: &SimNode, topic: TopicId, queue: u16, from: u64) -> Result<Vec<Served>, ReadError> {
    let entries = node.shard.queue(topic, QueueId(queue), QueueOffset(from), 64)?;
    let served = |entry: &pointsman_model::queue_entry::QueueEntry| {
        let record = node.shard.record(entry)?;
        Ok((String::from_utf8_lossy(&record.body).into_owned(), (entry.index.0, u64::from(entry.ordinal.0))))
    };
    entries.iter().map(served).collect()
}

/// The id of a topic as a node knows it.
pub(super) fn topic_id(node: &SimNode, name: &str) -> Option<TopicId> {
    node.shard.state().topics.values().find(|topic| topic.name.as_str() == name).map(|topic| topic.id)
}

/// Asks any node for what is there now: after a barrier, or because it leads. What was acknowledged before must show.
pub(super) async fn read_fresh(world: Arc<World>) {
    let mut rng: SmallRng = world.rng();
    while !world.is_over() {
        sleep(Duration::from_millis(rng.random_range(60..300))).await;
        let Some(node) = world.node(rng.random_range(0..NODES)) else { continue };
        let floors = world.history.floors();
        let leads = rng.random_range(0..2) == 0;
        let fresh = if leads {
            node.shard.leadership().is_some()
        } else {
            let barrier = node.shard.barrier(Duration::from_secs(1));
            tokio::select! { biased; () = node.dead() => false, fresh = barrier => fresh.is_ok() }
        };
        if !fresh {
            continue;
        }
        world.happened.lock().fresh_reads += 1;
        for ((topic, queue), floor) in floors {
            let Some(id) = topic_id(&node, &topic) else { continue };
            let latest = node.shard.state().ends(id, QueueId(queue)).latest;
            if latest < floor {
                let (how, who) = (if leads { "leads" } else { "was fresh" }, number(node.end.node));
                world.history.fail(format!(
                    "stale read: node {who} {how} and ends {topic}/{queue} at {latest}, {floor} were acknowledged before"
                ));
            }
        }
    }
}
