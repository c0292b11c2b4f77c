//! Lease: what a group's consumers get.
//!
//! A group has one dispatcher in the leader's memory ([`memory`]): where it reads in each queue, what it has judged
//! ahead, what is leased and until when. A lease call
//!
//! 1. takes what is judged and ready, retries that are due first, then by priority ([`grant`]);
//! 2. if little is ready, scans the next offsets and lets the filter judge them, outside the lock ([`scan`]);
//! 3. else waits until a message of its topics is applied, something is given back, or something is due.
//!
//! A group of ordering `key` or `queue` takes what is next from lanes ([`lanes`], [`ordered`]) and writes each lease to
//! the log before it is answered ([`granting`]).
//!
//! Nothing is leased before the last await of a call, so a dropped call leases nothing (in a group that keeps an order:
//! gives back what it leased). Leases that run out, and
//! offsets that the filter refused, become records in [`ending`].

mod ending;
mod grant;
mod granting;
mod lanes;
mod members;
mod memory;
mod ordered;
mod policy;
mod replay;
mod retries;
mod scan;
mod session;
mod settling;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pointsman_model::{GroupId, QueueId, Timestamp, TopicId, limits};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::error::Error;
use crate::shard::ShardParts;
use crate::view::{Lease, LeaseRequest};
use crate::watch::Signal;
use crate::{Action, Broker, Call};
pub(crate) use granting::Given;
use memory::{Memory, Step};
pub(crate) use scan::head;

/// One group at run time.
pub(crate) struct GroupRuntime {
    id: GroupId,
    parts: ShardParts,
    /// Wakes one waiting lease call; whoever leaves something behind passes it on.
    signal: Arc<Signal>,
    memory: Mutex<Memory>,
    /// Told of every lease that ends, for streams that have as many as they may.
    settled: Notify,
    /// Open streams of each `client_id`.
    streams: Mutex<HashMap<Arc<str>, usize>>,
}

/// A lease call with its defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    messages: usize,
    bytes: usize,
    /// The group's if absent.
    lease_ms: Option<u64>,
    client: Option<Arc<str>>,
    /// Replays a lost answer.
    key: Option<String>,
}

impl Wanted {
    /// The same for so many messages.
    pub(crate) fn of_messages(&self, messages: usize) -> Self {
        Self { messages, ..self.clone() }
    }

    pub(crate) fn client(&self) -> Option<Arc<str>> {
        self.client.clone()
    }

    pub(crate) fn of(request: LeaseRequest) -> Result<Self, Error> {
        let messages = request.max_messages.unwrap_or(limits::LEASE_MESSAGES_DEFAULT);
        check("/max_messages", messages.into(), 1, limits::LEASE_MESSAGES_MAX.into())?;
        let bytes = request.max_bytes.unwrap_or(limits::LEASE_BYTES_DEFAULT);
        check("/max_bytes", bytes.into(), 1, limits::LEASE_BYTES_MAX.into())?;
        check("/wait_ms", request.wait_ms, 0, limits::WAIT_MS_MAX)?;
        if let Some(lease_ms) = request.lease_ms {
            check("/lease_ms", lease_ms, limits::LEASE_MS_MIN, limits::LEASE_MS_MAX)?;
        }
        if request.client_id.as_ref().is_some_and(|id| id.len() > limits::CLIENT_ID_BYTES_MAX) {
            return Err(Error::invalid("/client_id", format!("at most {} bytes", limits::CLIENT_ID_BYTES_MAX)));
        }
        Ok(Self {
            messages: messages as usize,
            bytes: bytes as usize,
            lease_ms: request.lease_ms,
            client: request.client_id.map(Arc::from),
            key: request.idempotency_key,
        })
    }
}

/// Refuses a number outside its bounds.
pub(crate) fn check(pointer: &str, n: u64, min: u64, max: u64) -> Result<(), Error> {
    if (min..=max).contains(&n) { Ok(()) } else { Err(Error::invalid(pointer, format!("{min} to {max}"))) }
}

impl Broker {
    /// Leases messages to a consumer of a group; waits up to `wait_ms` for the first. A dropped future leases nothing.
    ///
    /// # Errors
    /// [`Error::TooManyInflight`] if no lease became free in that time.
    pub async fn lease(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        request: LeaseRequest,
    ) -> Result<Vec<Lease>, Error> {
        let home = self.authorize(call, tenant, Action::Consume(group))?;
        let wait = Duration::from_millis(request.wait_ms);
        let wanted = Wanted::of(request)?;
        if is_filtered(&home, group) {
            self.check_fuel(&home)?;
        }
        let leases = self.group(tenant, group)?.1.lease(&wanted, crate::call::now() + wait).await;
        // It may be deleted while the call waits.
        leases.map_err(|error| match error {
            Error::GroupNotFound(_) => Error::GroupNotFound(group.into()),
            other => other,
        })
    }

    /// The group of that name, where its messages are leased.
    pub(crate) fn group(&self, tenant: &str, group: &str) -> Result<(crate::broker::Home, Arc<GroupRuntime>), Error> {
        let home = self.home(tenant)?;
        if home.shard.port.leadership().is_none() {
            return Err(Error::NoLeader);
        }
        let id = home.shard.port.state().group(home.tenant, group).map(|group| group.id);
        let runtime = home.shard.group(id.ok_or_else(|| Error::GroupNotFound(group.into()))?);
        Ok((home, runtime))
    }
}

/// True if a plugin decides what the group sees.
fn is_filtered(home: &crate::broker::Home, group: &str) -> bool {
    let state = home.shard.port.state();
    let group = state.group(home.tenant, group);
    group.is_some_and(|group| group.topic_ids.iter().any(|topic| state.filter(group.id, *topic).is_some()))
}

impl GroupRuntime {
    pub(crate) fn new(id: GroupId, parts: ShardParts) -> Self {
        let (settled, streams) = (Notify::new(), Mutex::default());
        Self { id, parts, signal: Arc::default(), memory: Mutex::new(Memory::new()), settled, streams }
    }

    /// The group.
    pub(crate) fn id(&self) -> GroupId {
        self.id
    }

    /// Messages came back out of the dead-letter queue and are due at once.
    pub(crate) fn came_back(&self, places: Vec<(TopicId, QueueId, u64)>) {
        let mut memory = self.memory.lock();
        memory.retry_at = Timestamp(0);
        memory.sync_ended(self.id, &self.parts, places, self.parts.port.now());
        drop(memory);
        self.wake();
    }

    /// Waits for the next lease that ends, from this call on.
    pub(crate) fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// A lease ended, or something came back.
    fn wake(&self) {
        self.signal.wake();
        self.settled.notify_waiters();
    }

    /// Something may be due that was not a moment ago.
    pub(crate) fn look_for_retries(&self) {
        self.memory.lock().retry_at = Timestamp(0);
        self.signal.wake();
    }

    pub(crate) async fn lease(self: &Arc<Self>, wanted: &Wanted, until: Instant) -> Result<Vec<Lease>, Error> {
        self.note_member(wanted.client.as_ref());
        let waiting = self.signal.wait();
        let mut had_room = false;
        loop {
            // Looked up before each try: the answer may come from a call that still ran when this one began.
            if let Some(key) = &wanted.key
                && let Some(again) = self.answered_before(key)?
            {
                return Ok(again);
            }
            let step = self.step(wanted)?;
            had_room |= !matches!(step, Step::Full);
            let wake_at = match step {
                Step::Take { epoch, taken } => {
                    let leases = self.grant(wanted, epoch, taken)?;
                    if leases.is_empty() {
                        continue;
                    }
                    return Ok(self.answer(wanted, leases));
                }
                Step::Grant { epoch, taken } => {
                    let leases = self.grant_ordered(wanted, epoch, taken).await?;
                    if leases.is_empty() {
                        continue;
                    }
                    return Ok(self.answer(wanted, leases));
                }
                Step::Scan(scan) => {
                    self.scan(scan).await?;
                    continue;
                }
                Step::Full => None,
                Step::Paused => return Ok(Vec::new()),
                Step::Nothing { wake_in } => wake_in,
            };
            let now = crate::call::now();
            if now >= until {
                return if had_room {
                    Ok(Vec::new())
                } else {
                    Err(Error::TooManyInflight { retry_after_ms: limits::RETRY_POLL_MS })
                };
            }
            let poll = wake_at.unwrap_or(Duration::MAX).min(Duration::from_millis(limits::RETRY_POLL_MS));
            tokio::select! {
                () = waiting.notified() => {}
                () = tokio::time::sleep_until(until.min(now + poll).into()) => {}
                () = self.parts.stop.cancelled() => return Err(Error::Draining),
            }
        }
    }

    fn answer(&self, wanted: &Wanted, leases: Vec<Lease>) -> Vec<Lease> {
        if let Some(key) = &wanted.key {
            self.note_answer(key, &leases);
        }
        leases
    }

    /// Reads the configuration anew where it changed, and says what a lease call does next.
    fn step(&self, wanted: &Wanted) -> Result<Step, Error> {
        let (step, topics) = {
            let mut memory = self.memory.lock();
            let topics = memory.refresh(self.id, &self.parts)?;
            (memory.step(self.id, &self.parts, wanted)?, topics)
        };
        if let Some((gone, come)) = topics {
            self.parts.watch.unsubscribe(&self.signal, &gone);
            self.parts.watch.subscribe(&self.signal, &come);
        }
        Ok(step)
    }
}

#[cfg(test)]
mod tests;
