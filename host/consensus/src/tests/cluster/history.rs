//! What clients did and saw, and what must never be among it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pointsman_broker::view::{Lease, PublishReceipt};

/// Topic, queue and offset.
pub(super) type Place = (String, u16, u64);

/// Body and place in the log (entry, record) of what is or was at a place.
pub(super) type Served = BTreeMap<Place, (String, (u64, u64))>;

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was acknowledged, at this place.
    Stored(Place),
    /// Every answer said that it was surely not done.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// A message and its fate.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) producer: usize,
    pub(super) body: String,
    pub(super) topic: &'static str,
    pub(super) keyed: bool,
    pub(super) fate: Fate,
    /// Versions of the binding that may have judged it.
    pub(super) versions: (u64, u64),
}

/// A delivery to a consumer.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) group: &'static str,
    pub(super) place: Place,
    pub(super) key: Option<String>,
    /// When the lease call began and when its answer came.
    pub(super) asked: u64,
    pub(super) at: u64,
}

/// A consumer's word about a delivery.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) group: &'static str,
    pub(super) place: Place,
    /// When it was asked for.
    pub(super) asked: u64,
    /// When it was answered `settled`; `None` if nobody knows.
    pub(super) done: Option<u64>,
}

/// Everything clients know.
#[derive(Default)]
pub(super) struct History {
    tick: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sent: Vec<Sent>,
    seen: Served,
    deliveries: Vec<Delivery>,
    settled: Vec<Settled>,
    /// First offset behind all that is acknowledged, by topic and queue.
    floors: BTreeMap<(String, u16), u64>,
    broken: Option<String>,
}

impl History {
    /// A moment; every call gives a later one.
    pub(super) fn now(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::Relaxed)
    }

    /// Something that must never be, was.
    pub(super) fn fail(&self, what: String) {
        self.inner.lock().broken.get_or_insert(what);
    }

    /// The first of it.
    pub(super) fn broken(&self) -> Option<String> {
        self.inner.lock().broken.clone()
    }

    pub(super) fn sent(&self, sent: Sent) {
        let mut inner = self.inner.lock();
        if let Fate::Stored((topic, queue, offset)) = &sent.fate {
            let floor = inner.floors.entry((topic.clone(), *queue)).or_default();
            *floor = (*floor).max(offset + 1);
        }
        inner.sent.push(sent);
    }

    /// The first offsets behind all that is acknowledged by now.
    pub(super) fn floors(&self) -> BTreeMap<(String, u16), u64> {
        self.inner.lock().floors.clone()
    }

    /// A reader was served a message, at this place of the log.
    pub(super) fn saw(&self, by: &str, place: Place, body: String, at: (u64, u64)) {
        let mut inner = self.inner.lock();
        let first = inner.seen.entry(place.clone()).or_insert_with(|| (body.clone(), at));
        if (&first.0, first.1) != (&body, at) {
            let text = format!("{by} was served {body} of entry {at:?} at {place:?}, another reader {first:?}");
            inner.broken.get_or_insert(text);
        }
    }

    pub(super) fn delivered(&self, group: &'static str, asked: u64, lease: &Lease) {
        let message = &lease.message;
        let place = (message.topic.to_string(), message.record.header.queue.0, message.offset.0);
        let body = String::from_utf8_lossy(&message.record.body).into_owned();
        self.saw(group, place.clone(), body, (message.id.index.0, u64::from(message.id.ordinal.0)));
        let key = message.head().ok().and_then(|head| head.ordering_key.map(str::to_owned));
        let at = self.now();
        self.inner.lock().deliveries.push(Delivery { group, place, key, asked, at });
    }

    pub(super) fn settled(&self, settled: Settled) {
        self.inner.lock().settled.push(settled);
    }

    /// What was published, seen, delivered and settled.
    pub(super) fn take(&self) -> (Vec<Sent>, Served, Vec<Delivery>, Vec<Settled>) {
        let inner = self.inner.lock();
        (inner.sent.clone(), inner.seen.clone(), inner.deliveries.clone(), inner.settled.clone())
    }
}

/// The place a receipt names.
pub(super) fn place_of(receipt: &PublishReceipt) -> Option<Place> {
    Some((receipt.topic.clone(), receipt.queue?.0, receipt.offset?.0))
}
