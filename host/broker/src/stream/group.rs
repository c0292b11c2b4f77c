//! Group stream: leases as events. A session whose unsettled leases are counted.
//!
//! A task of its own leases ahead, as far as `max_inflight` allows, and hands over one lease at a time; so dropping
//! [`GroupStream::next`] loses nothing. A lease that is handed over says through [`Unseen`] whether it was written: what
//! was not goes back at once when the client hangs up, what was written ends soon after (`lease::session`).

use std::sync::Arc;
use std::time::Duration;

use pointsman_model::limits;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::slot::StreamSlot;
use crate::lease::{Given, GroupRuntime, Wanted, check};
use crate::view::{GroupStreamRequest, Lease, LeaseRequest, StreamEvent};
use crate::{Action, Broker, Call, Error, Principal};

/// How often a stream that waits looks for itself.
const POLL: Duration = Duration::from_millis(limits::RETRY_POLL_MS);
/// How long one wait for leases lasts: so often a stream looks whether its token still holds.
const WAIT: Duration = Duration::from_secs(10);

/// What a group stream says.
#[derive(Debug)]
pub enum GroupEvent {
    /// `open`, `caught-up`, `error` or `drain`.
    Said(StreamEvent),
    /// A lease.
    Lease {
        /// It.
        lease: Box<Lease>,
        /// Until it is written.
        unseen: Unseen,
    },
}

/// A lease that was not written to its client yet. Dropped, it goes back at once and uncounted.
pub struct Unseen {
    group: Arc<GroupRuntime>,
    given: Option<Given>,
}

impl std::fmt::Debug for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Unseen").field(&self.given).finish()
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        if let Some(given) = self.given {
            self.group.give_back_unseen(&[given]);
        }
    }
}

/// An open group stream.
pub struct GroupStream {
    group: Arc<GroupRuntime>,
    topics: Option<Vec<String>>,
    events: mpsc::Receiver<GroupEvent>,
    client: Option<Arc<str>>,
    /// Leases that were written, as far as they may still run.
    written: Vec<Given>,
    /// Ended by a bound, a failure or the node: its leases stay.
    ended: bool,
    stop: CancellationToken,
    _slot: StreamSlot,
}

impl Broker {
    /// Opens a stream of leases of a group.
    ///
    /// # Errors
    /// A permanent refusal: unknown group, a number out of bounds, too many streams. [`Error::NoLeader`].
    pub fn open_group_stream(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        request: GroupStreamRequest,
    ) -> Result<GroupStream, Error> {
        self.authorize(call, tenant, Action::Consume(group))?;
        let (home, runtime) = self.group(tenant, group)?;
        let max_inflight = request.max_inflight.unwrap_or(limits::STREAM_INFLIGHT_DEFAULT);
        check("max_inflight", max_inflight.into(), 1, limits::STREAM_INFLIGHT_MAX.into())?;
        if let Some(lease_ms) = request.lease_ms {
            check("lease_ms", lease_ms, limits::LEASE_MS_MIN, limits::LEASE_MS_MAX)?;
        }
        let wanted = Wanted::of(LeaseRequest {
            max_bytes: Some(limits::STREAM_UNSENT_BYTES_MAX as u32),
            lease_ms: request.lease_ms,
            client_id: request.client_id,
            ..LeaseRequest::default()
        })?;
        let slot = StreamSlot::take(&self.inner.streams, home.tenant, self.connections_max(&home))?;
        let topics = {
            let state = home.shard.port.state();
            let found = state.groups.get(&runtime.id());
            found.map(|group| group.config.topics.iter().map(|topic| topic.topic.clone()).collect())
        };
        let (to, events) = mpsc::channel(1);
        let client = wanted.client();
        let pump = Pump {
            broker: self.clone(),
            principal: call.principal.clone(),
            group: Arc::clone(&runtime),
            given: runtime.come_back(client.as_ref()),
            wanted,
            max_inflight: max_inflight as usize,
            events_left: request.max_events,
            until: request.max_ms.map(|ms| Instant::now() + Duration::from_millis(ms)),
            until_tail: request.until_tail,
            caught_up: false,
            to,
        };
        let written = pump.given.clone();
        let stop = self.inner.stop.clone();
        home.shard.parts.tasks.spawn(pump.run(stop.clone()));
        Ok(GroupStream { group: runtime, topics, events, client, written, ended: false, stop, _slot: slot })
    }
}

impl GroupStream {
    /// The next event; `None` when the stream has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<GroupEvent> {
        if let Some(topics) = self.topics.take() {
            return Some(GroupEvent::Said(StreamEvent::Open { topics, resumed: false }));
        }
        let event = loop {
            match self.events.recv().await {
                // It ran out while the client did not read.
                Some(GroupEvent::Lease { unseen, .. }) if !unseen.runs() => {}
                None if self.stop.is_cancelled() && !self.ended => break Some(GroupEvent::Said(StreamEvent::Drain)),
                other => break other,
            }
        };
        let over = matches!(event, None | Some(GroupEvent::Said(StreamEvent::Failed(_) | StreamEvent::Drain)));
        self.ended |= over;
        event
    }

    /// These leases are written to the client.
    pub fn seen(&mut self, leases: Vec<Unseen>) {
        self.written.extend(leases.into_iter().filter_map(|mut unseen| unseen.given.take()));
        if self.written.len() > 2 * limits::STREAM_INFLIGHT_MAX as usize {
            self.group.running(&mut self.written);
        }
    }

    /// The node stops: the stream ends and its leases stay.
    pub fn drain(&mut self) {
        self.ended = true;
    }
}

impl Drop for GroupStream {
    fn drop(&mut self) {
        self.group.leave(self.client.as_ref(), &self.written, !self.ended);
    }
}

impl Unseen {
    fn runs(&self) -> bool {
        self.given.is_some_and(|given| self.group.running(&mut vec![given]) > 0)
    }
}

/// Leases ahead for one stream.
struct Pump {
    broker: Broker,
    /// Whose stream it is: it ends with its token.
    principal: Principal,
    group: Arc<GroupRuntime>,
    wanted: Wanted,
    /// What was leased and may still run.
    given: Vec<Given>,
    max_inflight: usize,
    events_left: Option<u64>,
    until: Option<Instant>,
    until_tail: bool,
    caught_up: bool,
    to: mpsc::Sender<GroupEvent>,
}

/// What the pump does next.
enum Next {
    Lease(usize),
    /// All of `max_inflight` is leased.
    Wait,
    End,
}

impl Pump {
    /// Runs until a bound, a failure, the stream or the broker ends it.
    async fn run(mut self, stop: CancellationToken) {
        let to = self.to.clone();
        tokio::select! {
            () = to.closed() => {}
            () = stop.cancelled() => {}
            last = self.pump() => {
                if let Some(error) = last {
                    // The stream may be gone; then nobody needs to know.
                    let event = match error {
                        Error::Draining => StreamEvent::Drain,
                        error => StreamEvent::Failed(error),
                    };
                    let _ = to.send(GroupEvent::Said(event)).await;
                }
            }
        }
    }

    /// Answers why it ended, if not by a bound.
    async fn pump(&mut self) -> Option<Error> {
        let group = Arc::clone(&self.group);
        loop {
            let settled = group.settled();
            if let Err(error) = self.broker.check_principal(&self.principal) {
                return Some(error);
            }
            match self.next() {
                Next::End => return None,
                Next::Wait => {
                    let poll = Instant::now() + POLL;
                    let wake = self.until.map_or(poll, |until| until.min(poll));
                    let _ = tokio::time::timeout_at(wake, settled).await;
                }
                Next::Lease(messages) => match self.lease(messages).await {
                    Ok(leases) if leases.is_empty() => {
                        if !std::mem::replace(&mut self.caught_up, true) {
                            self.to.send(GroupEvent::Said(StreamEvent::CaughtUp)).await.ok()?;
                            if self.until_tail {
                                return None;
                            }
                        }
                    }
                    Ok(leases) => self.hand_over(leases).await.ok()?,
                    Err(Error::TooManyInflight { .. }) => {}
                    Err(error) => return Some(error),
                },
            }
        }
    }

    fn next(&mut self) -> Next {
        if self.events_left == Some(0) || self.until.is_some_and(|until| until <= Instant::now()) {
            return Next::End;
        }
        let credit = self.max_inflight.saturating_sub(self.group.running(&mut self.given));
        match self.events_left.map_or(credit, |left| credit.min(usize::try_from(left).unwrap_or(usize::MAX))) {
            0 => Next::Wait,
            messages => Next::Lease(messages),
        }
    }

    /// Waits for leases; until the tail is reached it only looks.
    async fn lease(&self, messages: usize) -> Result<Vec<Lease>, Error> {
        let now = Instant::now();
        let wait = if self.caught_up { now + WAIT } else { now };
        let until = self.until.map_or(wait, |until| until.min(wait));
        let leases = self.group.lease(&self.wanted.of_messages(messages), until.into_std()).await;
        // A paused group, or one without room, answers at once.
        let idle =
            matches!(&leases, Ok(leases) if leases.is_empty()) || matches!(leases, Err(Error::TooManyInflight { .. }));
        if self.caught_up && idle && now.elapsed() < POLL {
            tokio::time::sleep_until(self.until.map_or(now + POLL, |until| until.min(now + POLL))).await;
        }
        leases
    }

    async fn hand_over(&mut self, leases: Vec<Lease>) -> Result<(), ()> {
        let wrap = |lease: Lease| {
            let unseen = Unseen { group: Arc::clone(&self.group), given: self.group.given(&lease) };
            (lease, unseen)
        };
        // All of them first: what is not sent is given back.
        let leases: Vec<_> = leases.into_iter().map(wrap).collect();
        self.given.extend(leases.iter().filter_map(|(_, unseen)| unseen.given));
        for (lease, unseen) in leases {
            if let Some(left) = &mut self.events_left {
                *left -= 1;
            }
            self.to.send(GroupEvent::Lease { lease: Box::new(lease), unseen }).await.map_err(drop)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
