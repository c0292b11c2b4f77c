//! The dialing side of a replication stream.
//!
//! A request is sent once there is a place for its answer, so that answers never wait for the one who reads them; the
//! bytes not yet answered are bounded as well. The other side checks the same bounds.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::{ShardId, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Caller, Pending, Session};
use crate::error::CallError;
use crate::frame::write::{Outgoing, Pieces};
use crate::frame::{Broken, Frame, Head, Kind};

/// Requests waiting to be sent: few, so that the one who makes them notices when the connection is busy.
const REQUESTS_MAX: usize = 8;

/// A stream's requests that were sent and not answered.
pub(super) struct Stream {
    waiting: VecDeque<Waiting>,
    /// The number of the next answer.
    next: u32,
    /// Tells the task that sends that the stream is over.
    _over: oneshot::Sender<()>,
}

/// The place of an answer, and the bytes its request holds.
struct Waiting {
    place: mpsc::OwnedPermit<Bytes>,
    _bytes: OwnedSemaphorePermit,
}

impl Stream {
    /// Hands an answer on.
    ///
    /// # Errors
    /// It answers nothing.
    pub(super) fn answer(&mut self, frame: Frame) -> Result<(), Broken> {
        if frame.head.sequence != self.next {
            return Err(Broken::Rule("an answer of a replication stream out of order"));
        }
        let waiting = self.waiting.pop_front().ok_or(Broken::Rule("an answer that no request waits for"))?;
        self.next = self.next.wrapping_add(1);
        waiting.place.send(frame.body);
        Ok(())
    }
}

impl Caller {
    /// Opens a stream: where its requests go and where its answers come from.
    pub(crate) fn append_stream(
        self: &Arc<Self>,
        shard: ShardId,
    ) -> Result<(mpsc::Sender<Vec<Bytes>>, mpsc::Receiver<Bytes>), CallError> {
        let (requests, to_send) = mpsc::channel(REQUESTS_MAX);
        let (answers, answered) = mpsc::channel(limits::PEER_STREAM_FRAMES_MAX);
        let (over, is_over) = oneshot::channel();
        let session = self.open(Pending::Stream(Stream { waiting: VecDeque::new(), next: 0, _over: over }))?;
        let window = Arc::new(Semaphore::new(limits::PEER_STREAM_BYTES_MAX));
        let sender = Sender { session, shard, answers, window };
        // Ends with the session, at the latest when the connection does.
        tokio::spawn(sender.run(to_send, is_over));
        Ok((requests, answered))
    }
}

/// Sends the requests of a stream.
struct Sender {
    session: Session,
    shard: ShardId,
    answers: mpsc::Sender<Bytes>,
    window: Arc<Semaphore>,
}

impl Sender {
    async fn run(self, mut requests: mpsc::Receiver<Vec<Bytes>>, mut is_over: oneshot::Receiver<()>) {
        let gone = self.answers.clone();
        tokio::select! {
            biased;
            // The other side or the connection ended it, or nobody reads the answers: the session ends with `self`.
            _ = &mut is_over => {}
            () = gone.closed() => {}
            () = self.send_all(&mut requests) => {}
        }
    }

    /// Sends requests until there are no more; then waits for the rest of the answers.
    async fn send_all(&self, requests: &mut mpsc::Receiver<Vec<Bytes>>) {
        let mut sequence = 0;
        while let Some(request) = requests.recv().await {
            let pieces = Pieces::from(request);
            let length = pieces.len();
            if length > self.session.caller.lane.length_max() {
                tracing::error!(request.bytes = length, "a replication request is longer than a frame may be");
                return;
            }
            let Some(waiting) = self.wait(length).await else { return };
            let head = Head::new(Kind::Append, self.session.number).of_shard(self.shard).at(sequence);
            if !self.session.caller.send_request(head, pieces, waiting) {
                return;
            }
            sequence = sequence.wrapping_add(1);
        }
        if sequence == 0 {
            // The other side has never heard of it.
            return;
        }
        self.session.caller.outbox.push(Outgoing::bare(Head::new(Kind::AppendEnd, self.session.number)));
        std::future::pending().await
    }

    async fn wait(&self, length: usize) -> Option<Waiting> {
        let bytes = u32::try_from(length.min(limits::PEER_STREAM_BYTES_MAX)).ok()?;
        let bytes = Arc::clone(&self.window).acquire_many_owned(bytes).await.ok()?;
        let place = self.answers.clone().reserve_owned().await.ok()?;
        self.session.caller.outbox.room().await;
        Some(Waiting { place, _bytes: bytes })
    }
}

impl Caller {
    fn send_request(&self, head: Head, pieces: Pieces, waiting: Waiting) -> bool {
        let mut sessions = self.sessions.lock();
        let Some(Pending::Stream(stream)) = sessions.table.get_mut(&head.session) else { return false };
        stream.waiting.push_back(waiting);
        // Under the lock, so that the answer cannot come before its place is known.
        self.outbox.push(Outgoing::new(head, pieces))
    }
}
