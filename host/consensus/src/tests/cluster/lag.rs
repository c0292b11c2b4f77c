//! A node that is away for so long that what it missed is trimmed: it comes back through a checkpoint.

use std::sync::Arc;
use std::time::Duration;

use pointsman_broker::ports::{Proposal, Shard as _};
use pointsman_model::record::{self, Header, kind};
use pointsman_model::{LogIndex, Ordinal, QueueId};
use pointsman_state_machine::command::{Trim, TrimStep};
use pointsman_state_machine::outcome::{Outcome, Trimmed};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::check::messages;
use super::clients::{publish, topic_id};
use super::history::{Fate, Sent};
use super::network::{Link, number};
use super::node::SimNode;
use super::world::World;
use super::{JUDGED, PLAIN, QUEUES};

/// Messages that fill two segments and begin another.
const MESSAGES: usize = 12;
const BODY_BYTES: usize = 3 << 10;
/// Who publishes them.
const PRODUCER: usize = 9;
/// How long purge and return may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Cuts a node off, fills the log, trims what it missed, and lets it come back.
pub(super) async fn long_away(world: &Arc<World>, away: usize) {
    let last = |node: &SimNode| node.core.log.last().map(|(_, index, _)| index);
    let Some(held) = world.node(away).and_then(|node| last(&node)) else { return };
    world.isolate(away, Link::Cut);
    let mut node = away + 1;
    for _ in 0..MESSAGES {
        let body = format!("p{PRODUCER}-{}-{}", world.history.now(), "x".repeat(BODY_BYTES));
        let (fate, _) = publish(world, &mut node, (PLAIN, &body), false, PRODUCER).await;
        let versions = (0, 0);
        let sent = Sent { producer: PRODUCER, body, topic: PLAIN, keyed: false, fate, versions };
        let stop = sent.fate == Fate::NotDone;
        world.history.sent(sent);
        if stop {
            break;
        }
    }
    let mut trimmed = None;
    for _ in 0..20 {
        trimmed = trim(world).await;
        if trimmed.is_some() || world.broken().is_some() {
            break;
        }
        // Something that is still owed lies there; it is delivered soon.
        sleep(Duration::from_millis(300)).await;
    }
    let purged = |node: &Arc<SimNode>| node.core.log.purged().is_some_and(|base| base.index > held);
    let all_purged = || world.running().iter().filter(|node| node.end.node != away).all(purged);
    if trimmed.is_some() && until(all_purged).await {
        world.trace.say(format!("all others have purged what node {} misses", number(away)));
    }
    world.parts.net.heal();
    let back = || world.node(away).is_some_and(|node| purged(&node));
    if trimmed.is_some() && until(back).await {
        world.trace.say(format!("node {} has installed a checkpoint", number(away)));
        world.happened.lock().installed += 1;
        // What it leads with now came out of the checkpoint.
        let Some((_, leader)) = world.leader() else { return };
        let led = leader.shard.transfer(number(away), Duration::from_secs(3)).await;
        world.trace.say(format!("node {} leads: {led:?}", number(away)));
        sleep(Duration::from_millis(800)).await;
    }
}

async fn until(done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + WITHIN;
    while !done() {
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
    true
}

/// Gives up everything before the segment that is written now. What is given up is noted before.
async fn trim(world: &World) -> Option<LogIndex> {
    let (term, leader) = world.leader()?;
    for (place, (body, at)) in messages(&leader).ok()? {
        world.history.saw("the keeper", place, body, at);
    }
    let (base, first) = leader.shard.state().segments.last_key_value().map(|(base, index)| (*base, *index))?;
    let before = (LogIndex(first.0.checked_sub(1)?), Ordinal(u16::MAX));
    let mut queues = Vec::new();
    for topic in [PLAIN, JUDGED].into_iter().filter_map(|name| topic_id(&leader, name)) {
        for queue in 0..QUEUES {
            let from = leader.shard.state().ends(topic, QueueId(queue)).earliest;
            let to = leader.shard.offset_after(topic, QueueId(queue), before).ok()?.0;
            queues.push(TrimStep { topic: topic.0, queue, from, to, bytes: 0 });
        }
    }
    queues.retain(|step| step.to > step.from);
    let head = postcard::to_stdvec(&Trim { queues, base: Some(base.0) }).ok()?;
    let mut records = bytes::BytesMut::new();
    record::encode(&mut records, &Header { kind: kind::TRIM, ..Header::default() }, &head, b"");
    let records_crc = record::records_crc(&records).ok()?;
    let (reply, answer) = oneshot::channel();
    leader.shard.propose(Proposal { term, count: 1, records: records.freeze(), records_crc, early: None }, reply);
    let committed = timeout(Duration::from_secs(3), answer).await.ok()?.ok()?.ok()?;
    world.trace.say(format!("trimmed to entry {first}: {:?}", committed.outcomes));
    matches!(committed.outcomes[..], [Outcome::Trimmed(Trimmed { blocked: None, .. })]).then_some(first)
}
