//! The network between the nodes, in memory: delay, loss, repeats, late delivery, cut and half-open links.
//!
//! A call or a frame is on its way for a random time. One that meets a *hole* waits there, and arrives late when it is
//! mended; one that meets a *cut* is gone, and so is its stream. Nothing reaches or leaves a node of an earlier life.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_model::{NodeId, ShardId};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::NODES;
use super::trace::Trace;
use crate::transport::{AppendStream, Lane, Serve, TransportError};

/// Frames on their way one way of a stream.
const WINDOW: usize = 64;

/// What a link does, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Carries.
    Up,
    /// Refuses at once.
    Cut,
    /// Swallows without a word until it is mended.
    Hole,
}

/// How bad it is on links that are up, in a thousand frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Never arrive.
    pub(super) lost: u32,
    /// Arrive twice.
    pub(super) twice: u32,
    /// Arrive after their caller gave up.
    pub(super) late: u32,
}

/// How often each happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) delivered: usize,
    pub(super) lost: usize,
    pub(super) twice: usize,
    pub(super) late: usize,
    pub(super) broken_streams: usize,
}

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) node: usize,
    pub(super) life: u64,
}

struct Inner {
    rng: SmallRng,
    links: [[Link; NODES]; NODES],
    serving: [Option<(u64, Arc<dyn Serve>)>; NODES],
    weather: Weather,
    counts: Counts,
}

/// All links.
pub(super) struct Net {
    inner: Mutex<Inner>,
    trace: Arc<Trace>,
    /// Woken when a link or a life changes.
    changed: watch::Sender<()>,
}

/// What becomes of one frame.
struct Fate {
    delay: Duration,
    lost: bool,
    twice: bool,
}

impl Net {
    pub(super) fn new(seed: u64, trace: Arc<Trace>) -> Arc<Self> {
        let inner = Inner {
            rng: SmallRng::seed_from_u64(seed),
            links: [[Link::Up; NODES]; NODES],
            serving: [const { None }; NODES],
            weather: Weather::default(),
            counts: Counts::default(),
        };
        Arc::new(Self { inner: Mutex::new(inner), trace, changed: watch::Sender::new(()) })
    }

    /// From now on what arrives at a node is served by this life of it, or by nobody.
    pub(super) fn serve(&self, node: usize, serving: Option<(u64, Arc<dyn Serve>)>) {
        // Dropped outside: it may own a whole node.
        let before = std::mem::replace(&mut self.inner.lock().serving[node], serving);
        self.changed.send_replace(());
        drop(before);
    }

    pub(super) fn set(&self, from: usize, to: usize, link: Link) {
        self.inner.lock().links[from][to] = link;
        self.changed.send_replace(());
    }

    /// Both ways between a node and all others.
    pub(super) fn isolate(&self, node: usize, link: Link) {
        for other in (0..NODES).filter(|other| *other != node) {
            self.set(node, other, link);
            self.set(other, node, link);
        }
    }

    pub(super) fn heal(&self) {
        let mut inner = self.inner.lock();
        inner.links = [[Link::Up; NODES]; NODES];
        inner.weather = Weather::default();
        drop(inner);
        self.changed.send_replace(());
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.inner.lock().weather = weather;
    }

    pub(super) fn counts(&self) -> Counts {
        self.inner.lock().counts
    }

    fn link(&self, from: usize, to: usize) -> Link {
        self.inner.lock().links[from][to]
    }

    fn is_alive(&self, end: End) -> bool {
        self.inner.lock().serving[end.node].as_ref().is_some_and(|(life, _)| *life == end.life)
    }

    fn serving(&self, node: usize) -> Option<(End, Arc<dyn Serve>)> {
        let inner = self.inner.lock();
        inner.serving[node].as_ref().map(|(life, serve)| (End { node, life: *life }, Arc::clone(serve)))
    }

    fn fate(&self) -> Fate {
        let mut inner = self.inner.lock();
        let weather = inner.weather;
        let mut one_in = |permille: u32| permille > 0 && inner.rng.random_range(0..1_000) < permille;
        let (lost, twice, late) = (one_in(weather.lost), one_in(weather.twice), one_in(weather.late));
        let delay = if late { inner.rng.random_range(300..3_000) } else { inner.rng.random_range(1..4) };
        inner.counts.lost += usize::from(lost);
        inner.counts.twice += usize::from(twice);
        inner.counts.late += usize::from(late);
        Fate { delay: Duration::from_millis(delay), lost, twice }
    }

    /// Waits until what is at the far end of a link may come out; false if it never will.
    async fn passes(&self, from: usize, to: End) -> bool {
        let mut changed = self.changed.subscribe();
        loop {
            match self.link(from, to.node) {
                _ if !self.is_alive(to) => return false,
                Link::Up => return true,
                Link::Cut => return false,
                Link::Hole => {}
            }
            if changed.changed().await.is_err() {
                return false;
            }
        }
    }

    fn delivered(&self, from: usize, to: usize, what: &str, bytes: &[u8]) {
        self.inner.lock().counts.delivered += 1;
        self.trace.mix(what, from, to, bytes);
    }

    /// A call and its answer, however long they take.
    pub(super) async fn exchange(
        self: Arc<Self>,
        from: End,
        to: usize,
        lane: Lane,
        shard: ShardId,
        request: Bytes,
    ) -> Result<Bytes, TransportError> {
        let unanswered = || TransportError::Unanswered(number(to));
        let reachable = self.is_alive(from) && self.link(from.node, to) != Link::Cut;
        let Some((target, serve)) = self.serving(to).filter(|_| reachable) else {
            sleep(Duration::from_millis(1)).await;
            return Err(TransportError::Unreachable(number(to)));
        };
        let fate = self.fate();
        sleep(fate.delay).await;
        if fate.lost || !self.passes(from.node, target).await {
            return Err(unanswered());
        }
        self.delivered(from.node, to, "call", &request);
        if fate.twice && lane == Lane::Control {
            let (again, request) = (Arc::clone(&serve), request.clone());
            tokio::spawn(async move {
                sleep(Duration::from_millis(5)).await;
                drop(again.serve_call(number(from.node), lane, shard, request).await);
            });
        }
        let answer = serve.serve_call(number(from.node), lane, shard, request).await;
        let fate = self.fate();
        sleep(fate.delay).await;
        if fate.lost || !self.is_alive(target) || !self.passes(to, from).await {
            return Err(unanswered());
        }
        let answer = answer.map_err(|reason| TransportError::Refused { node: number(to), reason })?;
        let answer = concat(answer);
        self.delivered(to, from.node, "answer", &answer);
        Ok(answer)
    }

    /// Carries frames one way until the stream breaks or one of its ends is dropped.
    async fn pump(
        self: Arc<Self>,
        (from, to): (End, End),
        mut frames: mpsc::Receiver<Vec<Bytes>>,
        out: mpsc::Sender<Bytes>,
        broken: watch::Sender<bool>,
    ) {
        let mut changed = self.changed.subscribe();
        let mut breaks = broken.subscribe();
        loop {
            let frame = tokio::select! {
                biased;
                _ = breaks.changed() => break,
                _ = changed.changed() => {
                    let gone = !self.is_alive(from) || !self.is_alive(to);
                    if gone || self.link(from.node, to.node) == Link::Cut { break } else { continue }
                }
                () = out.closed() => break,
                frame = frames.recv() => frame,
            };
            let Some(frame) = frame else { break };
            let fate = self.fate();
            sleep(fate.delay).await;
            // A stream keeps its order and repeats nothing, so a frame that is lost is the end of it.
            if fate.lost || !self.passes(from.node, to).await {
                self.inner.lock().counts.broken_streams += 1;
                break;
            }
            let mut next = Some(frame);
            while let Some(frame) = next {
                let frame = concat(frame);
                self.delivered(from.node, to.node, "frame", &frame);
                let sent = tokio::select! {
                    biased;
                    _ = breaks.changed() => false,
                    sent = out.send(frame) => sent.is_ok(),
                };
                next = if sent { frames.try_recv().ok() } else { None };
            }
        }
        broken.send_replace(true);
    }

    pub(super) async fn open(
        self: Arc<Self>,
        from: End,
        to: usize,
        shard: ShardId,
    ) -> Result<AppendStream, TransportError> {
        let found = self.serving(to).filter(|_| self.is_alive(from));
        let (Some((target, serve)), Link::Up) = (found, self.link(from.node, to)) else {
            let wait = if self.link(from.node, to) == Link::Hole { 500 } else { 1 };
            sleep(Duration::from_millis(wait)).await;
            return Err(TransportError::Unreachable(number(to)));
        };
        sleep(Duration::from_millis(1)).await;
        let (requests, leaving) = mpsc::channel(WINDOW);
        let (arriving, served) = mpsc::channel(WINDOW);
        let (answering, answered) = mpsc::channel(WINDOW);
        let (returning, answers) = mpsc::channel(WINDOW);
        let broken = watch::Sender::new(false);
        tokio::spawn(Arc::clone(&self).pump((from, target), leaving, arriving, broken.clone()));
        tokio::spawn(Arc::clone(&self).pump((target, from), answered, returning, broken));
        tokio::spawn(serve.serve_append_stream(number(from.node), shard, served, answering));
        Ok(AppendStream { requests, answers })
    }
}

/// The node at a place of the simulation's arrays.
pub(super) fn number(node: usize) -> NodeId {
    NodeId(node as u32 + 1)
}

pub(super) fn concat(pieces: Vec<Bytes>) -> Bytes {
    match &pieces[..] {
        [one] => one.clone(),
        _ => pieces.concat().into(),
    }
}
