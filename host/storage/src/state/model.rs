//! [`ModelState`]: a state in memory whose crashes a simulation chooses.
//!
//! The tree on disk does its own I/O, so the simulated disk cannot tear it. What it may leave behind is known all the
//! same: the state of *any* entry up to the log's fsynced index, or nothing. [`ModelState::crash`] takes that choice.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use parking_lot::Mutex;
use pointsman_model::LogIndex;

use super::tree::FsyncedIndex;
use super::{Applied, Change, Items, KeyRange, Read, Result, Snapshot, StateStore, Value, Visit, check_key, visible};
use crate::Error;

type Map = BTreeMap<Vec<u8>, Value>;
type Changes = Vec<(Vec<u8>, Option<Value>)>;

#[derive(Clone, Default)]
struct Inner {
    /// The state as of `base_applied`, from which `history` goes on.
    base: Map,
    base_applied: Option<Applied>,
    history: Vec<(Applied, Changes)>,
    live: Map,
    applied: Option<Applied>,
    flushed: Option<Applied>,
}

/// A state in memory that can crash.
pub struct ModelState {
    fsynced: FsyncedIndex,
    inner: Mutex<Inner>,
}

impl ModelState {
    /// An empty state.
    #[must_use]
    pub fn new(fsynced: FsyncedIndex) -> Self {
        Self { fsynced, inner: Mutex::default() }
    }

    /// Every state that a crash now may leave behind: `None` is "gone". `durable` is the log's index that survives.
    #[must_use]
    pub fn survivors(&self, durable: Option<LogIndex>) -> Vec<Option<LogIndex>> {
        let inner = self.inner.lock();
        let all = inner.base_applied.iter().chain(inner.history.iter().map(|(applied, _)| applied));
        let fits = all.map(|applied| applied.index).filter(|index| durable.is_some_and(|durable| *index <= durable));
        std::iter::once(None).chain(fits.map(Some)).collect()
    }

    /// What is found after a crash that left `survivor`, bounded by the log's `fsynced` from then on.
    ///
    /// # Panics
    /// If `survivor` is none of [`ModelState::survivors`].
    #[must_use]
    pub fn crash(&self, survivor: Option<LogIndex>, fsynced: FsyncedIndex) -> Self {
        let inner = self.inner.lock();
        let Some(survivor) = survivor else { return Self::new(fsynced) };
        let mut live = inner.base.clone();
        let mut applied = inner.base_applied.clone();
        for (entry, changes) in inner.history.iter().take_while(|(entry, _)| entry.index <= survivor) {
            change(&mut live, changes);
            applied = Some(entry.clone());
        }
        assert_eq!(applied.as_ref().map(|applied| applied.index), Some(survivor), "no such survivor");
        let after = Inner {
            base: live.clone(),
            base_applied: applied.clone(),
            history: Vec::new(),
            live,
            flushed: applied.clone(),
            applied,
        };
        Self { fsynced, inner: Mutex::new(after) }
    }
}

fn change(map: &mut Map, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

fn scan(map: &Map, range: KeyRange<'_>, visit: &mut Visit<'_>) {
    let Some(range) = visible(range) else { return };
    for (key, value) in map.range::<[u8], _>(range) {
        if visit(key, value) == ControlFlow::Break(()) {
            break;
        }
    }
}

impl Read for ModelState {
    fn applied(&self) -> Option<Applied> {
        self.inner.lock().applied.clone()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        check_key(key);
        Ok(self.inner.lock().live.get(key).cloned())
    }

    fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<()> {
        // A copy, because `visit` may read the state itself.
        let Some(range) = visible(range) else { return Ok(()) };
        let copy = |(key, value): (&Vec<u8>, &Value)| (key.clone(), value.clone());
        let items: Vec<_> = self.inner.lock().live.range::<[u8], _>(range).map(copy).collect();
        for (key, value) in &items {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

impl StateStore for ModelState {
    fn write(&self, applied: &Applied, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<()> {
        let changes: Changes = changes
            .map(|(key, value)| {
                check_key(key);
                (key.to_vec(), value.map(Value::from))
            })
            .collect();
        let mut inner = self.inner.lock();
        assert!(inner.applied.as_ref().is_none_or(|last| applied.index > last.index), "applied twice");
        change(&mut inner.live, &changes);
        inner.applied = Some(applied.clone());
        inner.history.push((applied.clone(), changes));
        Ok(())
    }

    fn flushed(&self) -> Option<Applied> {
        self.inner.lock().flushed.clone()
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        let inner = self.inner.lock();
        Box::new(Moment { map: inner.live.clone(), applied: inner.applied.clone() })
    }

    fn replace(&self, applied: &Applied, items: &mut Items<'_>) -> Result<()> {
        *self.inner.lock() = Inner::default();
        let mut map = Map::new();
        for item in items {
            let (key, value) = item?;
            if key.is_empty() || map.last_key_value().is_some_and(|(last, _)| key <= *last) {
                return Err(Error::KeysOutOfOrder);
            }
            map.insert(key.to_vec(), Value::from(&value[..]));
        }
        let applied = Some(applied.clone());
        *self.inner.lock() = Inner {
            base: map.clone(),
            base_applied: applied.clone(),
            history: Vec::new(),
            live: map,
            flushed: applied.clone(),
            applied,
        };
        Ok(())
    }

    fn flush_now(&self) -> Result<Option<Applied>> {
        let fsynced = (self.fsynced)();
        let mut inner = self.inner.lock();
        let newest = inner.history.iter().rev().map(|(applied, _)| applied);
        let newest =
            newest.filter(|applied| fsynced.is_some_and(|fsynced| applied.index <= fsynced)).max_by_key(|a| a.index);
        if let Some(newest) = newest.cloned() {
            inner.flushed = Some(newest);
        }
        Ok(inner.flushed.clone())
    }
}

struct Moment {
    map: Map,
    applied: Option<Applied>,
}

impl Read for Moment {
    fn applied(&self) -> Option<Applied> {
        self.applied.clone()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        check_key(key);
        Ok(self.map.get(key).cloned())
    }

    fn scan(&self, range: KeyRange<'_>, visit: &mut Visit<'_>) -> Result<()> {
        scan(&self.map, range, visit);
        Ok(())
    }
}

impl Snapshot for Moment {}
