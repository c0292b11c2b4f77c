//! What the clients know, what anybody saw, and where the two contradict each other.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::whole::number;

/// Topics of the load.
pub(crate) const TOPICS: [&str; 2] = ["orders", "stock"];

/// What a client knows of a message it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was sent; nothing is known, or not yet.
    Sent,
    /// It was acknowledged.
    Acknowledged,
    /// Its only call was surely not done.
    Refused,
    /// Half of a transaction that nobody has committed: prepared, or rolled back.
    Hidden,
    /// Half of a transaction whose commit was sent.
    Committing,
}

/// Where a message lies: topic, queue, offset.
pub(crate) type Place = (usize, u64, u64);

/// A message as its producer knows it.
pub(crate) struct Message {
    pub(crate) fate: Fate,
    /// The period in which that was learned.
    pub(crate) period: usize,
    /// Where the answer said it is.
    pub(crate) place: Option<Place>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Acknowledged and not there, or never delivered.
    Lost,
    /// There twice.
    Doubled,
    /// There, though nobody sent it, or its call was surely not done.
    Phantom,
    /// Behind a later one of its producer.
    Reordered,
    /// Seen before its commit.
    Early,
    /// Delivered again to a group that settled it.
    Redelivered,
    /// Two answers about one offset, a hole, a wrong state.
    Different,
}

/// Calls by outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) failed: u64,
}

/// From one fault to the next.
pub(crate) struct Period {
    pub(crate) name: String,
    pub(crate) counts: Counts,
    /// When the fault was done to the cluster, and since when it surely had its effect.
    at: Instant,
    effective: Instant,
    /// From the fault to the first publish that was begun and acknowledged behind it.
    pub(crate) resumed: Option<Duration>,
}

/// All of it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) periods: Vec<Period>,
    pub(crate) messages: BTreeMap<String, Message>,
    /// What lies where: message id and name.
    pub(crate) seen: HashMap<Place, (String, String)>,
    places: HashMap<String, Place>,
    /// When a group's settling of a message was answered.
    pub(crate) settled: HashMap<(&'static str, String), Instant>,
    /// What consumers did with messages that were leased: the last word on each.
    pub(crate) leases: HashMap<(String, String), String>,
    pub(crate) wrong: Vec<(Wrong, usize, String)>,
    /// Messages seen by stream readers and by consumers.
    pub(crate) streamed: u64,
    pub(crate) delivered: u64,
}

/// Shared by all clients.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<State>);

impl Ledger {
    /// Everything.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("a client panicked")
    }

    /// A new period begins with a fault that was done at `at` and has its effect by now.
    pub(crate) fn begin(&self, name: &str, at: Instant) {
        let period =
            Period { name: name.to_owned(), counts: Counts::default(), at, effective: Instant::now(), resumed: None };
        self.state().periods.push(period);
    }

    /// How long the current period's fault kept publishes from being acknowledged, once that is known.
    pub(crate) fn resumed(&self) -> Option<Duration> {
        self.state().periods.last()?.resumed
    }

    /// How many calls were acknowledged in the current period.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.state().periods.last().map_or(0, |period| period.counts.acknowledged)
    }

    /// Counts a call.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        if let Some(period) = self.state().periods.last_mut() {
            change(&mut period.counts);
        }
    }

    /// A producer learned, or is about to cause, something.
    pub(crate) fn note(&self, name: &str, fate: Fate, place: Option<Place>) {
        let mut state = self.state();
        let period = state.periods.len().saturating_sub(1);
        state.messages.insert(name.to_owned(), Message { fate, period, place });
    }

    /// A publish that was begun then has been acknowledged.
    pub(crate) fn acknowledge(&self, name: &str, begun: Instant, place: Place) {
        self.note(name, Fate::Acknowledged, Some(place));
        let mut state = self.state();
        if let Some(period) = state.periods.last_mut()
            && period.resumed.is_none()
            && begun >= period.effective
        {
            period.resumed = Some(period.at.elapsed());
        }
    }

    /// Something is wrong.
    pub(crate) fn wrong(&self, wrong: Wrong, words: String) {
        let mut state = self.state();
        let period = state.periods.len().saturating_sub(1);
        state.wrong.push((wrong, period, words));
    }

    /// Somebody was shown a message. Gives its name and place.
    pub(crate) fn sight(&self, message: &Value, by: &str) -> (String, Place) {
        let text = message["data"].as_str().unwrap_or_default();
        let name = text.split(' ').next().unwrap_or_default().to_owned();
        let place = place_of(message).unwrap_or_else(|| panic!("{by} was shown a message without a place: {message}"));
        let id = message["id"].as_str().expect("an id").to_owned();
        let mut state = self.state();
        let mut found = Vec::new();
        if text != body_of(&name) {
            found.push((Wrong::Different, format!("{by}: the body of {name} at {place:?} is `{text}`")));
        }
        match state.messages.get(&name).map(|message| message.fate) {
            None | Some(Fate::Refused) => found.push((Wrong::Phantom, format!("{by}: {name} at {place:?}"))),
            Some(Fate::Hidden) => found.push((Wrong::Early, format!("{by}: {name} at {place:?}"))),
            Some(Fate::Sent | Fate::Acknowledged | Fate::Committing) => {}
        }
        let first = state.seen.entry(place).or_insert_with(|| (id.clone(), name.clone())).clone();
        if first != (id.clone(), name.clone()) {
            found.push((Wrong::Different, format!("{by}: {place:?} is {id} {name}, and was {first:?}")));
        }
        let first = *state.places.entry(name.clone()).or_insert(place);
        if first != place {
            found.push((Wrong::Doubled, format!("{by}: {name} at {place:?} and at {first:?}")));
        }
        let period = state.periods.len().saturating_sub(1);
        state.wrong.extend(found.into_iter().map(|(wrong, words)| (wrong, period, words)));
        (name, place)
    }
}

/// The place that an answer or a message names.
pub(crate) fn place_of(value: &Value) -> Option<Place> {
    let topic = TOPICS.iter().position(|topic| value["topic"] == *topic)?;
    Some((topic, number(&value["queue"])?, number(&value["offset"])?))
}

/// The whole text of the message with that name: of different lengths, and told by the name.
pub(crate) fn body_of(name: &str) -> String {
    let length = name.bytes().fold(7_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 400);
    format!("{name} {}", "x".repeat(length))
}
