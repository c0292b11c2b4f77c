//! The dialing side of a connection: sessions this node opened and what comes back for them.
//!
//! A session is a number that is never used twice on a connection; answers for one that is no longer known are dropped.
//! When the connection ends all its sessions do.

mod append;
mod forward;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_model::{ShardId, limits};
use tokio::sync::oneshot;

use self::append::Stream;
use self::forward::Exchange;
use crate::connection::Receive;
use crate::error::CallError;
use crate::frame::write::{Outgoing, Pieces};
use crate::frame::{Broken, END, Frame, Head, Kind, REFUSED};
use crate::handler::Service;
use crate::hello::refusal_text;
use crate::lane::Lane;
use crate::outbox::Outbox;

/// One connection that this node dialed.
pub(crate) struct Caller {
    lane: Lane,
    outbox: Arc<Outbox>,
    sessions: Mutex<Sessions>,
    /// Told of a refusal and of round trips.
    news: Box<dyn Fn(News) + Send + Sync>,
}

/// What a connection tells about its other side.
pub(crate) enum News {
    /// It refused us after its hello.
    Refused(String),
    /// A ping came back.
    RoundTrip(Duration),
}

/// Sessions under way.
struct Sessions {
    open: bool,
    next: u32,
    table: HashMap<u32, Pending>,
    /// How many of each kind: calls, streams, forwards.
    counts: [usize; 3],
}

/// What waits for an answer.
enum Pending {
    Call(oneshot::Sender<Result<Bytes, CallError>>),
    Stream(Stream),
    Exchange(Exchange),
}

impl Pending {
    /// Its place in the counts, and how many there may be.
    fn bound(&self) -> (usize, usize, &'static str) {
        match self {
            Self::Call(_) => (0, limits::PEER_CALLS_MAX, "too many calls at once"),
            Self::Stream(_) => (1, limits::PEER_STREAMS_MAX, "too many replication streams at once"),
            Self::Exchange(_) => (2, limits::PEER_FORWARDS_MAX, "too many forwarded requests at once"),
        }
    }
}

/// Why a session cannot be opened.
enum NoSession {
    Closed,
    TooMany(&'static str),
}

impl From<NoSession> for CallError {
    fn from(reason: NoSession) -> Self {
        match reason {
            NoSession::Closed => Self::Unreachable,
            NoSession::TooMany(reason) => Self::Refused(reason.to_owned()),
        }
    }
}

/// An open session. Dropping it tells the other side to give up, if the session has not ended.
struct Session {
    caller: Arc<Caller>,
    number: u32,
    /// Whether the other side is told.
    cancels: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.caller.end(self.number).is_some() && self.cancels {
            self.caller.outbox.push(Outgoing::bare(Head::new(Kind::Cancel, self.number)));
        }
    }
}

impl Caller {
    pub(crate) fn new(lane: Lane, outbox: Arc<Outbox>, news: Box<dyn Fn(News) + Send + Sync>) -> Arc<Self> {
        let sessions = Sessions { open: true, next: 0, table: HashMap::new(), counts: [0; 3] };
        Arc::new(Self { lane, outbox, sessions: Mutex::new(sessions), news })
    }

    /// One request and its answer.
    pub(crate) async fn call(
        self: &Arc<Self>,
        service: Service,
        shard: ShardId,
        request: Vec<Bytes>,
        within: Duration,
    ) -> Result<Bytes, CallError> {
        let pieces = Pieces::from(request);
        if pieces.len() > self.lane.length_max() {
            return Err(CallError::Refused("the request is longer than a frame may be".to_owned()));
        }
        let kind = match service {
            Service::Node => Kind::Node,
            Service::Control => Kind::Control,
            Service::Bulk => Kind::Bulk,
        };
        let (answer, answered) = oneshot::channel();
        let session = self.open(Pending::Call(answer))?;
        let left = Arc::new(AtomicBool::new(false));
        let head = Head::new(kind, session.number).of_shard(shard);
        self.outbox.push(Outgoing { head, pieces, left: Some(Arc::clone(&left)) });
        match tokio::time::timeout(within, answered).await {
            Ok(Ok(result)) => result,
            // The connection ended. Nothing that was queued leaves after that.
            Ok(Err(_)) if !left.load(Ordering::Acquire) => Err(CallError::Unreachable),
            Ok(Err(_)) | Err(_) => Err(CallError::Unanswered),
        }
    }

    /// Says hello again.
    pub(crate) fn announce(&self, hello: Bytes) {
        self.outbox.push(Outgoing::new(Head::new(Kind::Hello, 0), hello));
    }

    /// Closes the connection.
    pub(crate) fn stop(&self) {
        self.outbox.stop.cancel();
    }

    /// Ends every session; to be called once the connection has ended.
    pub(crate) fn close(&self) {
        let table = {
            let mut sessions = self.sessions.lock();
            sessions.open = false;
            sessions.counts = [0; 3];
            std::mem::take(&mut sessions.table)
        };
        // Outside the lock: what is dropped here may end sessions itself.
        drop(table);
    }

    fn open(self: &Arc<Self>, pending: Pending) -> Result<Session, NoSession> {
        let mut sessions = self.sessions.lock();
        if !sessions.open {
            return Err(NoSession::Closed);
        }
        let (kind, max, too_many) = pending.bound();
        if sessions.counts[kind] >= max {
            return Err(NoSession::TooMany(too_many));
        }
        while sessions.table.contains_key(&sessions.next) {
            sessions.next = sessions.next.wrapping_add(1);
        }
        let number = sessions.next;
        sessions.next = number.wrapping_add(1);
        sessions.counts[kind] += 1;
        sessions.table.insert(number, pending);
        drop(sessions);
        // A call runs to its end at the other side; nobody has to tell it.
        Ok(Session { caller: Arc::clone(self), number, cancels: kind != 0 })
    }

    fn end(&self, number: u32) -> Option<Pending> {
        self.sessions.lock().end(number)
    }

    fn answer(&self, frame: Frame) -> Result<(), Broken> {
        let number = frame.head.session;
        let mut sessions = self.sessions.lock();
        if let Some(Pending::Stream(stream)) = sessions.table.get_mut(&number) {
            return stream.answer(frame);
        }
        if let Some(Pending::Call(answer)) = sessions.end(number) {
            drop(sessions);
            let result = if frame.head.has(REFUSED) {
                Err(CallError::Refused(refusal_text(&frame.body)))
            } else {
                Ok(frame.body)
            };
            // A caller that has gone wants no answer.
            let _ = answer.send(result);
        }
        Ok(())
    }
}

impl Sessions {
    fn end(&mut self, number: u32) -> Option<Pending> {
        let pending = self.table.remove(&number)?;
        self.counts[pending.bound().0] -= 1;
        Some(pending)
    }
}

impl Receive for Caller {
    fn receive(&self, frame: Frame) -> Result<(), Broken> {
        let head = frame.head;
        match (head.kind, self.lane) {
            (Kind::Reply, _) => self.answer(frame)?,
            (Kind::AppendEnd, Lane::Append) | (Kind::Cancel, _) => drop(self.end(head.session)),
            (Kind::ForwardReply | Kind::ForwardChunk | Kind::Credit, Lane::Bulk) => {
                let mut sessions = self.sessions.lock();
                if let Some(Pending::Exchange(exchange)) = sessions.table.get_mut(&head.session) {
                    exchange.receive(frame)?;
                    let over = head.kind != Kind::Credit && (head.has(END) || head.has(REFUSED));
                    let ended = over.then(|| sessions.end(head.session));
                    drop(sessions);
                    drop(ended);
                }
            }
            (Kind::Pong, _) => {
                let trip_us = self.outbox.clock_us().wrapping_sub(head.sequence);
                (self.news)(News::RoundTrip(Duration::from_micros(trip_us.into())));
            }
            (Kind::Refusal, _) => {
                (self.news)(News::Refused(refusal_text(&frame.body)));
                self.stop();
            }
            _ => return Err(Broken::Rule("an answer of a kind that this side did not ask for")),
        }
        Ok(())
    }
}
