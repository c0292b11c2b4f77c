//! What this node has of one other: its connections and what it said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_model::NodeId;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::caller::Caller;
use crate::complaints::Complaints;
use crate::handler::Hello;
use crate::lane::Lane;
use crate::seen::Seen;

/// Another node, whether connected or not.
pub(crate) struct Link {
    pub(crate) node: NodeId,
    /// `host:port` of its peer port.
    pub(crate) address: String,
    state: Mutex<State>,
    round_trip_us: AtomicU64,
    /// Wakes those who wait before dialing it again: it has just dialed us.
    pub(crate) awake: Notify,
    changed: watch::Sender<u64>,
    complaints: Complaints,
}

/// Whose connection was refused.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// One that we dialed.
    Dialing,
    /// One that it dialed.
    Listening,
}

/// Why a connection was refused.
#[derive(Clone)]
struct Refused {
    reason: String,
    in_words: bool,
}

#[derive(Default)]
struct State {
    seen: Seen,
    /// Why the last connection was refused, by [`Side`]: one side may be welcome and the other not.
    refused: [Option<Refused>; 2],
    callers: [Option<Arc<Caller>>; Lane::ALL.len()],
    /// The connections it dialed: what ends each.
    dialed: [Option<CancellationToken>; Lane::ALL.len()],
}

impl Link {
    pub(crate) fn new(node: NodeId, address: String, changed: watch::Sender<u64>) -> Arc<Self> {
        Arc::new(Self {
            node,
            address,
            state: Mutex::default(),
            round_trip_us: AtomicU64::new(u64::MAX),
            awake: Notify::new(),
            changed,
            complaints: Complaints::default(),
        })
    }

    pub(crate) fn seen(&self) -> Seen {
        let seen = self.state.lock().seen.clone();
        let round_trip = match self.round_trip_us.load(Ordering::Relaxed) {
            u64::MAX => None,
            micros => Some(Duration::from_micros(micros)),
        };
        Seen { round_trip: round_trip.filter(|_| seen.connected), ..seen }
    }

    pub(crate) fn caller(&self, lane: Lane) -> Option<Arc<Caller>> {
        self.state.lock().callers[usize::from(lane.number())].clone()
    }

    /// A connection that we dialed is open.
    pub(crate) fn opened(&self, lane: Lane, caller: Arc<Caller>, hello: Hello) {
        self.change(|state| {
            state.callers[usize::from(lane.number())] = Some(caller);
            state.seen.hello = Some(hello);
            state.refused[Side::Dialing as usize] = None;
        });
    }

    /// A connection that we dialed has ended.
    pub(crate) fn closed(&self, lane: Lane) {
        self.change(|state| drop(state.callers[usize::from(lane.number())].take()));
    }

    /// A connection that it dialed is open; an older one of the same kind, whose end nobody saw, is closed.
    pub(crate) fn accepted(&self, lane: Lane, stop: CancellationToken, hello: Hello) {
        let mut older = None;
        self.change(|state| {
            older = state.dialed[usize::from(lane.number())].replace(stop);
            state.seen.hello = Some(hello);
            state.refused[Side::Listening as usize] = None;
        });
        if let Some(older) = older {
            older.cancel();
        }
        self.awake.notify_waiters();
    }

    /// It says hello again.
    pub(crate) fn heard(&self, hello: Hello) {
        self.change(|state| state.seen.hello = Some(hello));
    }

    /// One side refused the other.
    pub(crate) fn refused(&self, side: Side, reason: String) {
        self.failed(side, reason, true);
    }

    /// A connection did not get through its hello; `in_words` if one of the two said why.
    pub(crate) fn failed(&self, side: Side, reason: String, in_words: bool) {
        if self.complaints.may(&reason) {
            let (node, address) = (self.node.0, &self.address);
            tracing::warn!(peer.node = node, peer.address = address, reason, "no connection with node {node}");
        }
        self.change(|state| state.refused[side as usize] = Some(Refused { reason, in_words }));
    }

    pub(crate) fn measured(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX - 1);
        self.round_trip_us.store(micros, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let (before, after) = {
            let mut state = self.state.lock();
            let before = state.seen.clone();
            change(&mut state);
            // What was said in words explains more.
            let refused = state.refused.iter().flatten().max_by_key(|refused| refused.in_words).cloned();
            state.seen.refused_in_words = refused.as_ref().is_some_and(|refused| refused.in_words);
            state.seen.refused = refused.map(|refused| refused.reason);
            state.seen.connected = state.callers.iter().all(Option::is_some);
            (before, state.seen.clone())
        };
        if before == after {
            return;
        }
        match (before.connected, after.connected) {
            (false, true) => tracing::info!(peer.node = self.node.0, "node {} is connected", self.node.0),
            (true, false) => tracing::warn!(peer.node = self.node.0, "node {} is disconnected", self.node.0),
            _ => {}
        }
        self.changed.send_modify(|changes| *changes += 1);
    }
}
