//! One stream of appends to one follower: requests go out ahead of the answers of those before.
//!
//! No more is taken from openraft than the window holds. What is proposed meanwhile waits in the log, and the next
//! request takes all of it at once; so requests grow under load and there is nothing to merge. A commit index alone waits
//! for [`LINGER`]: an entry is likely to take it along. A follower that answers
//! nothing for [`STALL`] ends the stream: openraft has no timeout of its own here, and a half-open connection would hold
//! the follower's progress for ever.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, Sleep, sleep_until};

use super::wire::Answer;
use super::{Traffic, append, failed, nonsense};
use crate::Error;
use crate::raft_types::{RaftNodeId, Types};
use crate::shard::group::node_of;
use crate::transport::{AppendStream, TransportError};

/// Requests without an answer: some for the follower's sync under way, some for its next one. More only makes them smaller.
const WINDOW_REQUESTS: usize = 4;
/// Their bytes; one request may be larger.
const WINDOW_BYTES: usize = 4 << 20;
/// How long the oldest request may wait for its answer: longer than any sync that is worth waiting for.
const STALL: Duration = Duration::from_secs(5);

/// How long a commit index waits for an entry to go with.
const LINGER: Duration = Duration::from_millis(1);

type Item = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// What a session waits for.
enum Event {
    /// An answer, or the end of the stream.
    Answer(Option<Bytes>),
    /// A request, or openraft has no more.
    Request(Option<AppendEntriesRequest<Types>>),
    /// Whether the way takes what it did not take before; if not, it is closed.
    Room(bool),
    /// A commit index waited long enough.
    Lingered,
    /// The oldest request may be too old.
    Alarm,
}

/// A stream while it lasts.
pub(super) struct Session<S> {
    from: RaftNodeId,
    to: RaftNodeId,
    input: S,
    input_open: bool,
    stream: AppendStream,
    /// The next request, until it is encoded and the way takes it.
    next: Option<Vec<Bytes>>,
    /// A request without entries, which one with entries makes needless.
    held: Option<AppendEntriesRequest<Types>>,
    /// Wakes when it waited long enough.
    linger: Pin<Box<Sleep>>,
    /// When each request without an answer left, and its bytes.
    sent: VecDeque<(Instant, usize)>,
    sent_bytes: usize,
    /// Wakes when the oldest may be too old.
    alarm: Pin<Box<Sleep>>,
    traffic: Arc<Traffic>,
    /// Why a request could not be encoded.
    broken: Option<Error>,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Session<S> {
    pub(super) fn new(
        (from, to): (RaftNodeId, RaftNodeId),
        first: AppendEntriesRequest<Types>,
        input: S,
        stream: AppendStream,
        traffic: Arc<Traffic>,
    ) -> Self {
        let mut session = Self {
            from,
            to,
            input,
            input_open: true,
            stream,
            next: None,
            held: None,
            linger: Box::pin(sleep_until(Instant::now())),
            sent: VecDeque::with_capacity(WINDOW_REQUESTS),
            sent_bytes: 0,
            alarm: Box::pin(sleep_until(Instant::now() + STALL)),
            traffic,
            broken: None,
        };
        session.take(first);
        session
    }

    /// The next answer, and the session unless it is over.
    pub(super) async fn next(mut self) -> Option<(Item, Option<Self>)> {
        loop {
            if let Some(error) = self.broken.take() {
                return Some((Err(nonsense(&error)), None));
            }
            self.push();
            if !self.input_open && self.next.is_none() && self.held.is_none() && self.sent.is_empty() {
                return None;
            }
            let has_room = self.sent.len() < WINDOW_REQUESTS && self.sent_bytes < WINDOW_BYTES;
            let takes = self.input_open && self.next.is_none() && has_room;
            let (requests, full) = (&self.stream.requests, self.next.is_some());
            let lingers = self.held.is_some() && self.next.is_none();
            let event = tokio::select! {
                biased;
                answer = self.stream.answers.recv() => Event::Answer(answer),
                request = self.input.next(), if takes => Event::Request(request),
                has_room = async { requests.reserve().await.is_ok() }, if full => Event::Room(has_room),
                () = &mut self.linger, if lingers => Event::Lingered,
                () = &mut self.alarm => Event::Alarm,
            };
            match event {
                Event::Answer(answer) => {
                    let item = self.answered(answer.as_deref());
                    let goes_on = matches!(item, Ok(Ok(_)));
                    return Some((item, goes_on.then_some(self)));
                }
                Event::Request(Some(request)) if request.entries.is_empty() => {
                    if self.held.replace(request).is_none() {
                        self.linger.as_mut().reset(Instant::now() + LINGER);
                    }
                }
                Event::Request(Some(request)) => {
                    // It carries the newest commit index, too.
                    self.held = None;
                    self.take(request);
                }
                Event::Lingered => {
                    if let Some(request) = self.held.take() {
                        self.take(request);
                    }
                }
                Event::Request(None) => self.input_open = false,
                Event::Room(true) => {}
                Event::Room(false) => return Some((Err(self.lost()), None)),
                Event::Alarm => {
                    let oldest = self.sent.front().map_or_else(Instant::now, |(left, _)| *left);
                    if oldest.elapsed() >= STALL {
                        return Some((Err(self.lost()), None));
                    }
                    self.alarm.as_mut().reset(oldest + STALL);
                }
            }
        }
    }

    fn lost(&self) -> RPCError<Types> {
        failed(&TransportError::Unanswered(node_of(self.to)))
    }

    fn take(&mut self, request: AppendEntriesRequest<Types>) {
        match append::encode(self.from, self.to, request) {
            Ok(frame) => self.next = Some(frame),
            Err(error) => self.broken = Some(error),
        }
    }

    /// Sends the next request if the way takes it now. A way that is closed is noticed by whoever reads the answers.
    fn push(&mut self) {
        let Some(frame) = self.next.take() else { return };
        let bytes = frame.iter().map(Bytes::len).sum();
        match self.stream.requests.try_send(frame) {
            Ok(()) => {
                self.sent.push_back((Instant::now(), bytes));
                self.sent_bytes += bytes;
                self.traffic.appends_sent.add(1);
                self.traffic.append_bytes_sent.add(bytes as u64);
            }
            Err(TrySendError::Full(frame) | TrySendError::Closed(frame)) => self.next = Some(frame),
        }
    }

    fn answered(&mut self, answer: Option<&[u8]>) -> Item {
        let (Some(answer), Some((_, bytes))) = (answer, self.sent.pop_front()) else { return Err(self.lost()) };
        self.sent_bytes -= bytes;
        match Answer::decode(answer).map_err(|error| nonsense(&error))? {
            Answer::Matched(last) => Ok(Ok(last.map(Into::into))),
            Answer::Conflict(Some(at)) => Ok(Err(StreamAppendError::Conflict(at.into()))),
            Answer::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote.into()))),
            Answer::Refused(reason) => Err(failed(&TransportError::Refused { node: node_of(self.to), reason })),
            _ => Err(RPCError::Network(NetworkError::new(&Error::Malformed("answer to an append")))),
        }
    }
}

#[cfg(test)]
mod tests;
