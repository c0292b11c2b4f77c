//! Those who asked for a weaker ack hear of an entry before it is committed.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::{LogIndex, Term};
use pointsman_state_machine::command::Durability;
use tokio::sync::oneshot;

use super::Place;
use super::entry::Waiter;
use crate::error::Error;
use crate::ports::{Committed, EarlyAck};

/// The place in the log of a request's records, known before they are committed.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    pub(crate) place: Place,
    pub(crate) records: Range<u32>,
}

struct Listener {
    ack: Durability,
    records: Range<u32>,
    reply: oneshot::Sender<Result<Early, Error>>,
}

#[derive(Default)]
struct Heard {
    place: Option<Place>,
    listeners: Vec<Listener>,
}

/// The early listeners of one entry.
#[derive(Default)]
pub(super) struct EarlyWaiters(Mutex<Heard>);

impl EarlyWaiters {
    /// Takes the listeners of an entry's requests; `None` if there are none.
    pub(super) fn of(waiters: &mut [Waiter]) -> Option<Arc<Self>> {
        let listeners: Vec<_> = waiters
            .iter_mut()
            .filter_map(|waiter| {
                let (ack, reply) = waiter.early.take()?;
                Some(Listener { ack, records: waiter.records.clone(), reply })
            })
            .collect();
        (!listeners.is_empty()).then(|| Arc::new(Self(Mutex::new(Heard { place: None, listeners }))))
    }

    /// Tells all that still listen how the entry ended.
    pub(super) fn finish(&self, result: &Result<Arc<Committed>, Error>) {
        let place = result.as_ref().map(|entry| (entry.term, entry.index)).map_err(Clone::clone);
        self.tell(place, |_| true);
    }

    fn tell(&self, place: Result<Place, Error>, whom: impl Fn(Durability) -> bool) {
        let told: Vec<_> = self.0.lock().listeners.extract_if(.., |listener| whom(listener.ack)).collect();
        for Listener { records, reply, .. } in told {
            // A caller that went away needs no answer.
            let _ = reply.send(place.clone().map(|place| Early { place, records }));
        }
    }
}

impl EarlyAck for EarlyWaiters {
    fn appended(&self, term: Term, index: LogIndex) {
        self.0.lock().place = Some((term, index));
        self.tell(Ok((term, index)), |ack| ack == Durability::None);
    }

    fn fsynced(&self, ok: bool) {
        let place = self.0.lock().place;
        match place {
            Some(place) if ok => self.tell(Ok(place), |_| true),
            _ => self.tell(Err(Error::StorageFailed("the log could not be synced".into())), |_| true),
        }
    }
}
