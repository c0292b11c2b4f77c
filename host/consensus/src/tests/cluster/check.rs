//! What must hold once everything is healed and at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_broker::ports::Shard as _;
use pointsman_model::{LogIndex, QueueId};

use super::clients::{read_from, topic_id};
use super::history::{Delivery, Fate, Place, Sent, Served, Settled};
use super::network::number;
use super::node::SimNode;
use super::world::World;
use super::{JUDGED, MAX_RETRIES, ORDERED, PLAIN, PLAIN_GROUP, QUEUES, VERSIONS};

/// Compares the nodes with each other and with what clients were told.
pub(super) fn check(world: &World) -> Result<(), String> {
    let nodes = world.running();
    let first = same_logs(&nodes)?;
    let mut stored = messages(first)?;
    for node in &nodes[1..] {
        if messages(node)? != stored {
            return Err(format!("node {} serves other messages than node 1", number(node.end.node)));
        }
    }
    let (sent, seen, deliveries, settled) = world.history.take();
    // What a trim took was served by many; nobody can say more of it now.
    let earliest = earliest(first);
    let trimmed = |place: &Place| earliest.get(&(place.0.clone(), place.1)).is_some_and(|earliest| place.2 < *earliest);
    stored
        .extend(seen.iter().filter(|(place, _)| trimmed(place)).map(|(place, served)| (place.clone(), served.clone())));
    for (place, served) in &seen {
        if stored.get(place) != Some(served) {
            let now = stored.get(place);
            return Err(format!("uncommitted: {served:?} was served at {place:?}, where {now:?} is stored"));
        }
    }
    published(&sent, &stored, &trimmed)?;
    stored.retain(|place, _| !trimmed(place));
    delivered(&deliveries, &settled, &stored, world.happened.lock().terms)
}

/// Every node has applied the same entries, byte for byte and at the same places.
fn same_logs(nodes: &[Arc<SimNode>]) -> Result<&SimNode, String> {
    let entries = |node: &SimNode| -> Result<_, String> {
        let from = node.core.log.first_index().unwrap_or(LogIndex(0));
        let to = node.core.applied_index().map_or(LogIndex(0), LogIndex::next);
        let mut frames = BTreeMap::new();
        let mut next = from;
        while next < to {
            let read = node.core.log.read(next..to, 1 << 20).map_err(|error| error.to_string())?;
            for frame in read {
                next = frame.index.next();
                let place = (frame.location.position, frame.location.segment_base);
                let head = (frame.term, frame.stamp, frame.count, frame.records_crc, place);
                frames.insert(frame.index, (head, frame.records));
            }
        }
        Ok(frames)
    };
    let hash = |node: &SimNode| node.core.machine.read().state().outcome_hash;
    let first = nodes.first().ok_or("no node runs")?;
    let (expected, outcomes) = (entries(first)?, hash(first));
    for node in &nodes[1..] {
        let found = entries(node)?;
        let both = found.iter().filter_map(|(index, frame)| Some((index, frame, expected.get(index)?)));
        for (index, frame, other) in both {
            if frame != other {
                return Err(format!("entry {index} differs: {:?} and {:?}", frame.0, other.0));
            }
        }
        if found.keys().last() != expected.keys().last() || hash(node) != outcomes {
            return Err(format!("node {} is at another entry or outcome", number(node.end.node)));
        }
    }
    Ok(first)
}

/// The first offset of every queue that a trim left.
fn earliest(node: &SimNode) -> BTreeMap<(String, u16), u64> {
    let mut out = BTreeMap::new();
    for name in [PLAIN, JUDGED] {
        let Some(topic) = topic_id(node, name) else { continue };
        let ends = |queue| node.shard.state().ends(topic, QueueId(queue)).earliest;
        out.extend((0..QUEUES).map(|queue| ((name.to_owned(), queue), ends(queue))));
    }
    out
}

/// Every message a node serves; offsets are dense.
pub(super) fn messages(node: &SimNode) -> Result<Served, String> {
    let mut stored = Served::new();
    for name in [PLAIN, JUDGED] {
        let Some(topic) = topic_id(node, name) else { continue };
        for queue in 0..QUEUES {
            let end = node.shard.state().ends(topic, QueueId(queue)).latest;
            let mut next = node.shard.state().ends(topic, QueueId(queue)).earliest;
            while next < end {
                let read = read_from(node, topic, queue, next).map_err(|error| error.to_string())?;
                if read.is_empty() {
                    return Err(format!("{name}/{queue} ends at {end}, and nothing is at {next}"));
                }
                for message in read {
                    stored.insert((name.to_owned(), queue, next), message);
                    next += 1;
                }
            }
            if next != end {
                return Err(format!("{name}/{queue} ends at {end}, and goes on to {next}"));
            }
        }
    }
    Ok(stored)
}

/// What was acknowledged is there, what was refused is not, and nothing is there twice.
fn published(sent: &[Sent], stored: &Served, trimmed: &dyn Fn(&Place) -> bool) -> Result<(), String> {
    let mut places: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
    for (place, (body, _)) in stored {
        places.entry(body).or_default().push(place);
    }
    for sent in sent {
        let found = places.remove(&*sent.body).unwrap_or_default();
        match &sent.fate {
            Fate::Stored(place) if !found.contains(&place) && (!found.is_empty() || !trimmed(place)) => {
                return Err(format!("lost: {} was acknowledged at {place:?}, it is at {found:?}", sent.body));
            }
            Fate::NotDone if !found.is_empty() => {
                return Err(format!("{} was refused, it is at {found:?}", sent.body));
            }
            _ => {}
        }
        if found.len() > 1 {
            let how = if sent.keyed { "under one key" } else { "without a retry" };
            return Err(format!("twice: {} is stored at {found:?}, {how}", sent.body));
        }
        if let (JUDGED, Some(place)) = (sent.topic, found.first()) {
            let (least, most) = sent.versions;
            if !(least..=most).any(|version| version % VERSIONS.len() as u64 == u64::from(place.1)) {
                return Err(format!("{} is in queue {}, placed by none of {least}..={most}", sent.body, place.1));
            }
        }
    }
    if let Some((body, places)) = places.first_key_value() {
        return Err(format!("{body} is at {places:?}, and nobody sent it"));
    }
    in_order(sent, stored)
}

/// One producer's messages are in one queue in the order they were sent.
fn in_order(sent: &[Sent], stored: &Served) -> Result<(), String> {
    let nth: BTreeMap<&str, (usize, usize)> =
        sent.iter().enumerate().map(|(n, sent)| (&*sent.body, (sent.producer, n))).collect();
    let mut last: BTreeMap<(&str, u16, usize), usize> = BTreeMap::new();
    for ((topic, queue, _), (body, _)) in stored {
        let (producer, n) = nth[&**body];
        if last.insert((topic, *queue, producer), n).is_some_and(|before| before > n) {
            return Err(format!("{body} of producer {producer} is behind a later one in {topic}/{queue}"));
        }
    }
    Ok(())
}

/// What is settled does not come again, keys keep their order, and nothing comes more often than it may.
fn delivered(deliveries: &[Delivery], settled: &[Settled], stored: &Served, terms: u64) -> Result<(), String> {
    let mut times: BTreeMap<(&str, &Place), u64> = BTreeMap::new();
    for delivery in deliveries {
        let times = times.entry((delivery.group, &delivery.place)).or_default();
        *times += 1;
        let max = if delivery.group == PLAIN_GROUP { MAX_RETRIES } else { 16 };
        if *times > 1 + u64::from(max) + terms {
            return Err(format!("{:?} was delivered {times} times in {terms} terms", delivery.place));
        }
        let done = settled.iter().filter(|one| (one.group, &one.place) == (delivery.group, &delivery.place));
        if let Some(done) = done.filter_map(|one| one.done).find(|done| *done < delivery.asked) {
            return Err(format!("{delivery:?} came again, it was settled at {done}"));
        }
    }
    let mut keys: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in deliveries.iter().filter(|delivery| delivery.group == ORDERED) {
        if let Some(key) = &delivery.key {
            keys.entry(key).or_default().push(delivery);
        }
    }
    for (key, deliveries) in keys {
        key_in_order(key, &deliveries, settled, stored)?;
    }
    Ok(())
}

/// A message of a key comes when every one before it was settled, and none before it comes again. What was trimmed may
/// never have come.
fn key_in_order(key: &str, deliveries: &[&Delivery], settled: &[Settled], stored: &Served) -> Result<(), String> {
    let mut asked: BTreeMap<&Place, u64> = BTreeMap::new();
    for one in settled.iter().filter(|one| one.group == ORDERED) {
        let first = asked.entry(&one.place).or_insert(one.asked);
        *first = one.asked.min(*first);
    }
    // Each producer has a key of its own, and a topic's key has a queue of its own.
    let prefix = format!("p{}-", &key[1..]);
    let places: BTreeSet<&Place> = stored
        .iter()
        .filter(|(place, (body, _))| place.0 == PLAIN && body.starts_with(&prefix))
        .map(|(p, _)| p)
        .collect();
    for delivery in deliveries {
        for before in places.iter().filter(|place| **place < &delivery.place) {
            if asked.get(*before).is_none_or(|asked| *asked > delivery.at) {
                return Err(format!("order of {key}: {delivery:?} came before {before:?} was settled"));
            }
        }
        let later = deliveries.iter().find(|later| later.place > delivery.place && later.at < delivery.asked);
        if let Some(later) = later {
            return Err(format!("order of {key}: {delivery:?} came again after {later:?}"));
        }
    }
    Ok(())
}
