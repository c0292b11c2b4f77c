//! Three nodes, what happens to them, and what clients may ask of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_broker::ports::Shard as _;
use pointsman_broker::testing::{FakeJudges, FakeShard};
use pointsman_broker::{Call, Error, Principal};
use pointsman_model::{ShardId, Term};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep, timeout};

use super::NODES;
use super::history::History;
use super::network::{End, Link, Net, number};
use super::node::{Parts, Remains, SimClock, SimNode};
use super::probe::Mutant;
use super::state::Ledger;
use super::trace::Trace;

/// How long a client waits for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

enum Slot {
    Up(Arc<SimNode>),
    Down(Remains),
    /// Being started.
    Starting,
}

/// What happened in a run. A run in which nothing happened shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Happened {
    pub(super) power_cuts: usize,
    /// Entries that a power cut took out of memory.
    pub(super) unsynced: u64,
    pub(super) all_cut: usize,
    pub(super) restarts: usize,
    pub(super) isolated_leaders: usize,
    pub(super) half_open: usize,
    pub(super) transfers: usize,
    pub(super) installed: usize,
    pub(super) switches: usize,
    pub(super) switches_during_change: usize,
    pub(super) retried_with_key: usize,
    pub(super) duplicates: usize,
    pub(super) unknown: usize,
    pub(super) fresh_reads: usize,
    pub(super) terms: u64,
}

/// One run.
pub(super) struct World {
    pub(super) parts: Parts,
    pub(super) trace: Arc<Trace>,
    pub(super) history: History,
    pub(super) happened: Mutex<Happened>,
    nodes: Mutex<[Slot; NODES]>,
    rng: Mutex<SmallRng>,
    lives: AtomicU64,
    over: AtomicBool,
}

/// What a client was told.
pub(super) enum Said<T> {
    /// It is done.
    Done(T),
    /// It is surely not done.
    NotDone(Error),
    /// Nobody knows.
    Unknown,
}

impl World {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Arc<Self> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let trace = Arc::new(Trace::new());
        let clocks = [(); NODES].map(|()| Arc::new(SimClock::new(rng.random_range(0..400))));
        let metadata = Arc::new(FakeShard::new(ShardId::METADATA, Arc::clone(&clocks[0]) as _));
        let parts = Parts {
            net: Net::new(rng.next_u64(), Arc::clone(&trace)),
            ledger: Arc::<Ledger>::default(),
            metadata,
            judges: Arc::<FakeJudges>::default(),
            clocks,
            mutant,
        };
        Arc::new(Self {
            parts,
            trace,
            history: History::default(),
            happened: Mutex::default(),
            nodes: Mutex::new([(); NODES].map(|()| Slot::Down(Remains::nothing()))),
            rng: Mutex::new(rng),
            lives: AtomicU64::new(1),
            over: AtomicBool::new(false),
        })
    }

    /// A generator of its own for one task.
    pub(super) fn rng(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.rng.lock().next_u64())
    }

    /// Clients begin nothing new from now on.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.broken().is_some()
    }

    /// The first thing that must not be.
    pub(super) fn broken(&self) -> Option<String> {
        self.history.broken().or_else(|| self.parts.ledger.broken())
    }

    /// Starts a node that is down.
    pub(super) async fn start(&self, node: usize) {
        let before = std::mem::replace(&mut self.nodes.lock()[node], Slot::Starting);
        let Slot::Down(remains) = before else {
            self.nodes.lock()[node] = before;
            return;
        };
        self.trace.say(format!("node {} starts", number(node)));
        let end = End { node, life: self.lives.fetch_add(1, Ordering::Relaxed) };
        let seed = self.rng.lock().next_u64();
        match SimNode::start(&self.parts, end, remains, seed).await {
            Ok(started) => self.nodes.lock()[node] = Slot::Up(started),
            Err(error) => self.history.fail(format!("node {} does not start: {error}", number(node))),
        }
    }

    /// Cuts a node's power.
    pub(super) fn cut_power(&self, node: usize) {
        let mut nodes = self.nodes.lock();
        let Slot::Up(running) = &nodes[node] else { return };
        let running = Arc::clone(running);
        let led = running.shard.leadership().is_some();
        self.parts.net.serve(node, None);
        let remains = running.cut_power(&mut self.rng.lock());
        let what = if led { ", the leader," } else { "" };
        self.trace.say(format!(
            "node {}{what} is without power, {} entries were in memory",
            number(node),
            remains.unsynced
        ));
        let mut happened = self.happened.lock();
        happened.power_cuts += 1;
        happened.unsynced += remains.unsynced;
        drop(happened);
        nodes[node] = Slot::Down(remains);
    }

    /// A node that runs.
    pub(super) fn node(&self, node: usize) -> Option<Arc<SimNode>> {
        match &self.nodes.lock()[node] {
            Slot::Up(running) => Some(Arc::clone(running)),
            Slot::Down(_) | Slot::Starting => None,
        }
    }

    /// All nodes that run.
    pub(super) fn running(&self) -> Vec<Arc<SimNode>> {
        (0..NODES).filter_map(|node| self.node(node)).collect()
    }

    /// The node that says it leads, the one of the highest term.
    pub(super) fn leader(&self) -> Option<(Term, Arc<SimNode>)> {
        let led = |node: Arc<SimNode>| node.shard.leadership().map(|term| (term, node));
        self.running().into_iter().filter_map(led).max_by_key(|(term, _)| *term)
    }

    /// Waits for a leader.
    pub(super) async fn wait_for_leader(&self, within: Duration) -> Option<Arc<SimNode>> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some((_, node)) = self.leader() {
                return Some(node);
            }
            sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Everything works again: links are up, nodes have power, syncs are quick.
    pub(super) async fn heal(&self) {
        self.parts.net.heal();
        for node in 0..NODES {
            self.start(node).await;
        }
        self.running().iter().for_each(|node| node.slow_syncs(None));
        self.trace.say("all is healed");
    }

    pub(super) fn isolate(&self, node: usize, link: Link) {
        self.trace.say(format!("node {} is isolated: {link:?}", number(node)));
        self.parts.net.isolate(node, link);
    }

    /// Asks a node, as a client would that gives up at last.
    pub(super) async fn ask<T>(&self, node: &SimNode, answer: impl Future<Output = Result<T, Error>>) -> Said<T> {
        let answer = tokio::select! {
            biased;
            () = node.dead() => return Said::Unknown,
            answer = timeout(ANSWER_WITHIN, answer) => answer,
        };
        match answer {
            Ok(Ok(done)) => Said::Done(done),
            Ok(Err(Error::OutcomeUnknown)) | Err(_) => Said::Unknown,
            Ok(Err(error)) => Said::NotDone(error),
        }
    }

    /// Asks one node after the other until one says that it is done. What is asked must be repeatable.
    pub(super) async fn insist<T, F>(&self, what: &str, ask: impl Fn(Arc<SimNode>) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut last = None;
        for attempt in 0..400 {
            let target = self.leader().map(|(_, node)| node).or_else(|| self.node(attempt % NODES));
            if let Some(node) = target {
                match self.ask(&node, ask(Arc::clone(&node))).await {
                    Said::Done(done) => return Some(done),
                    Said::NotDone(error) => last = Some(error),
                    Said::Unknown => {}
                }
            }
            sleep(Duration::from_millis(100)).await;
            if self.broken().is_some() {
                return None;
            }
        }
        self.history.fail(format!("{what} never succeeds: {last:?}"));
        None
    }
}

/// A client's call.
pub(super) fn call() -> Call {
    let deadline = (Instant::now() + ANSWER_WITHIN).into_std();
    Call { principal: Principal::Operator, deadline, request_id: "sim".into() }
}
