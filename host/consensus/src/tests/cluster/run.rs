//! One run: a cluster is formed, clients work, things go wrong, all is healed, and what must hold is checked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_broker::command::{Expect, Ordering, Slot};
use pointsman_broker::ports::Shard as _;
use pointsman_broker::testing::FakePlugin;
use pointsman_broker::testing::fixture::{binding_settings, group_settings, topic_config};
use pointsman_broker::view::GroupSettings;
use pointsman_model::QueueId;
use pointsman_model::judge::{Plan, Target, Verdict};
use tokio::time::{Instant, sleep};

use super::clients::{Switch, produce, read, read_fresh};
use super::consumers::consume;
use super::network::{Counts, number};
use super::probe::Mutant;
use super::world::{Happened, World, call};
use super::*;

/// How long a healed cluster may take to agree.
const AGREE_WITHIN: Duration = Duration::from_secs(30);

/// What happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    runs: usize,
    happened: Happened,
    network: Counts,
    messages: usize,
    entries: usize,
    deliveries: usize,
    pub(super) hash: u64,
    pub(super) faults: u64,
}

impl Report {
    /// Adds another run.
    pub(super) fn add(&mut self, other: &Self) {
        let (to, from) = (&mut self.happened, &other.happened);
        self.runs += other.runs;
        self.messages += other.messages;
        self.entries += other.entries;
        self.deliveries += other.deliveries;
        self.network.delivered += other.network.delivered;
        self.network.lost += other.network.lost;
        self.network.twice += other.network.twice;
        self.network.late += other.network.late;
        self.network.broken_streams += other.network.broken_streams;
        to.power_cuts += from.power_cuts;
        to.unsynced += from.unsynced;
        to.all_cut += from.all_cut;
        to.restarts += from.restarts;
        to.isolated_leaders += from.isolated_leaders;
        to.half_open += from.half_open;
        to.transfers += from.transfers;
        to.installed += from.installed;
        to.switches += from.switches;
        to.switches_during_change += from.switches_during_change;
        to.retried_with_key += from.retried_with_key;
        to.duplicates += from.duplicates;
        to.unknown += from.unknown;
        to.fresh_reads += from.fresh_reads;
        to.terms += from.terms;
    }

    /// Runs in which nothing went wrong show nothing.
    pub(super) fn assert_that_it_happened(&self) {
        let (happened, network) = (&self.happened, &self.network);
        let least = [
            ("power cuts", happened.power_cuts, self.runs / 4),
            ("entries lost from memory", happened.unsynced as usize, self.runs / 20),
            ("power cuts of all", happened.all_cut, self.runs / 20),
            ("isolated leaders", happened.isolated_leaders, self.runs / 20),
            ("half-open links", happened.half_open, self.runs / 20),
            ("transfers", happened.transfers, self.runs / 20),
            ("installed checkpoints", happened.installed, self.runs / 20),
            ("switches during a change", happened.switches_during_change, self.runs / 20),
            ("publishes retried with their key", happened.retried_with_key, self.runs / 20),
            ("duplicates", happened.duplicates, self.runs / 4),
            ("unknown outcomes", happened.unknown, self.runs / 20),
            ("fresh reads", happened.fresh_reads, self.runs),
            ("terms", happened.terms as usize, self.runs + self.runs / 4),
            ("lost frames", network.lost, self.runs / 20),
            ("frames twice", network.twice, self.runs / 20),
            ("late frames", network.late, self.runs / 20),
            ("broken streams", network.broken_streams, self.runs / 20),
        ];
        for (what, count, least) in least {
            assert!(count >= least, "{count} {what} in {} runs, fewer than {least}: {self:?}", self.runs);
        }
    }
}

/// Runs one seed on a runtime of its own, whose time passes when nothing else is left to do.
pub(super) fn run(seed: u64, mutant: Option<Mutant>) -> Result<Report, String> {
    super::seeded::seed(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let work = std::panic::AssertUnwindSafe(|| runtime.block_on(one(seed, mutant)));
    let result = std::panic::catch_unwind(work).unwrap_or_else(|_| Err(format!("seed {seed}: something panicked")));
    super::seeded::seed(None);
    result
}

async fn one(seed: u64, mutant: Option<Mutant>) -> Result<Report, String> {
    let world = World::new(seed, mutant);
    let result = play(&world, faults::first(seed, mutant)).await;
    let failure = world.broken().or(result.err());
    if let Some(failure) = failure {
        return Err(format!("seed {seed}: {failure}\n{}", world.trace.text()));
    }
    let (sent, _, deliveries, _) = world.history.take();
    Ok(Report {
        runs: 1,
        happened: *world.happened.lock(),
        network: world.parts.net.counts(),
        messages: sent.len(),
        entries: world.parts.ledger.len(),
        deliveries: deliveries.len(),
        hash: world.trace.hash(),
        faults: world.trace.faults(),
    })
}

async fn play(world: &Arc<World>, first: usize) -> Result<(), String> {
    for node in 0..NODES {
        world.start(node).await;
    }
    let former = world.node(0).ok_or("node 1 does not run")?;
    let members = (0..NODES).map(|node| (number(node), format!("node-{node}"))).collect();
    former.shard.initialise(&members).await.map_err(|error| error.to_string())?;
    let leader = world.wait_for_leader(Duration::from_secs(20)).await.ok_or("nobody leads at first")?;
    world.trace.say(format!("node {} leads", number(leader.end.node)));
    set_up(world).await?;
    let switch = Arc::<Switch>::default();
    let mut clients = Vec::new();
    for producer in 0..3 {
        clients.push(tokio::spawn(produce(Arc::clone(world), producer, Arc::clone(&switch))));
    }
    clients.push(tokio::spawn(consume(Arc::clone(world), 0, PLAIN_GROUP)));
    for consumer in 0..2 {
        clients.push(tokio::spawn(consume(Arc::clone(world), consumer, ORDERED)));
    }
    for node in 0..NODES {
        clients.push(tokio::spawn(read(Arc::clone(world), node)));
    }
    clients.push(tokio::spawn(read_fresh(Arc::clone(world))));
    super::faults::strike(world, &switch, first).await;
    world.heal().await;
    sleep(Duration::from_millis(600)).await;
    world.end();
    for client in clients {
        client.await.map_err(|error| format!("a client: {error}"))?;
    }
    agree(world).await?;
    super::check::check(world)
}

/// Tenant, topics, binding and groups.
async fn set_up(world: &Arc<World>) -> Result<(), String> {
    world.insist("bootstrap", |node| async move { node.broker.bootstrap().await }).await;
    for topic in [PLAIN, JUDGED] {
        world
            .insist(topic, |node| async move {
                node.broker.put_topic(&call(), TENANT_NAME, topic, topic_config(QUEUES), Expect::Anything).await
            })
            .await;
    }
    for (queue, name) in (0..).zip(VERSIONS) {
        let select =
            move |_: usize, _: &[_]| Verdict::Answer(vec![Target { destination: 0, queue: Some(QueueId(queue)) }]);
        let bytes: Bytes = world.parts.judges.add(name, FakePlugin::selector(Plan::default(), select));
        world
            .insist(name, |node| {
                let bytes = bytes.clone();
                async move { node.broker.put_plugin(&call(), TENANT_NAME, name, "1.0.0", bytes, false).await }
            })
            .await;
    }
    let binding = binding_settings(Slot::Selector, Some(JUDGED), None, VERSIONS[0]);
    let put = |node: Arc<super::node::SimNode>| {
        let binding = binding.clone();
        async move { node.broker.put_binding(&call(), TENANT_NAME, "places", binding, Expect::Anything).await }
    };
    world.insist("the binding", put).await;
    let groups = [(PLAIN_GROUP, MAX_RETRIES, Ordering::None), (ORDERED, 16, Ordering::Key)];
    for (name, max_retries, ordering) in groups {
        let settings = GroupSettings { lease_ms: 1_500, max_retries, ordering, ..group_settings(&[(PLAIN, None)]) };
        world
            .insist(name, |node| {
                let settings = settings.clone();
                async move { node.broker.put_group(&call(), TENANT_NAME, name, settings, Expect::Anything).await }
            })
            .await;
    }
    world.broken().map_or(Ok(()), Err)
}

/// Waits until every node has applied everything there is.
async fn agree(world: &World) -> Result<(), String> {
    let until = Instant::now() + AGREE_WITHIN;
    loop {
        let nodes = world.running();
        if let Some(failed) = nodes.iter().find_map(|node| node.failure()) {
            return Err(format!("a shard stopped: {failed}"));
        }
        let led = world.leader();
        let last = led.as_ref().and_then(|(_, node)| node.core.log.last()).map(|(_, index, _)| index);
        if let (Some((term, _)), true) = (led, nodes.len() == NODES) {
            world.happened.lock().terms = term.0;
            if last.is_some() && nodes.iter().all(|node| node.core.applied_index() == last) {
                return Ok(());
            }
        }
        if Instant::now() >= until {
            let status: Vec<_> = nodes.iter().map(|node| (node.shard.status(), node.core.log.flushed())).collect();
            return Err(format!("the healed cluster does not agree: {status:?}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}
