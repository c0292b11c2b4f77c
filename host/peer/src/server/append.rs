//! The listening side of a replication stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_model::limits;
use tokio::sync::mpsc;

use super::{Served, Server, reply};
use crate::frame::write::{Outgoing, Pieces};
use crate::frame::{Broken, Frame, Head, Kind};
use crate::handler::BoxFuture;

/// A stream that is served. Dropping it ends its requests; the handler then ends by itself.
pub(super) struct Stream {
    /// `None` once the other side has sent its last.
    requests: Option<mpsc::Sender<Bytes>>,
    /// The number of the next request.
    next: u32,
    window: Arc<Mutex<Window>>,
}

/// Requests not yet answered: their lengths.
#[derive(Debug, Default)]
struct Window {
    lengths: VecDeque<usize>,
    bytes: usize,
}

impl Window {
    fn enter(&mut self, length: usize) -> Result<(), Broken> {
        // The sender counts a long request as the whole window.
        let length = length.min(limits::PEER_STREAM_BYTES_MAX);
        let fits =
            self.lengths.len() < limits::PEER_STREAM_FRAMES_MAX && self.bytes + length <= limits::PEER_STREAM_BYTES_MAX;
        if !fits {
            return Err(Broken::Rule("a replication stream beyond its window"));
        }
        self.bytes += length;
        self.lengths.push_back(length);
        Ok(())
    }

    /// `false` if there is no request left to answer.
    fn leave(&mut self) -> bool {
        let left = self.lengths.pop_front();
        self.bytes -= left.unwrap_or(0);
        left.is_some()
    }
}

impl Server {
    /// Takes a request of a stream; the first one opens it.
    pub(super) fn append(self: &Arc<Self>, frame: Frame) -> Result<(), Broken> {
        let Frame { head, body } = frame;
        let mut sessions = self.sessions.lock();
        if !sessions.contains_key(&head.session) {
            if head.sequence != 0 {
                // Sent before its sender learned that the stream is over.
                return Ok(());
            }
            if sessions.len() >= limits::PEER_STREAMS_MAX {
                self.push(Outgoing::bare(Head::new(Kind::AppendEnd, head.session)));
                return Ok(());
            }
            sessions.insert(head.session, Served::Stream(self.serve_stream(head)));
        }
        let Some(Served::Stream(stream)) = sessions.get_mut(&head.session) else {
            return Err(Broken::Rule("a replication request in another session"));
        };
        if head.sequence != stream.next {
            return Err(Broken::Rule("a replication request out of order"));
        }
        stream.next = stream.next.wrapping_add(1);
        let Some(requests) = &stream.requests else {
            return Err(Broken::Rule("a replication request after the last"));
        };
        stream.window.lock().enter(body.len())?;
        match requests.try_send(body) {
            // The handler takes no more; the end of the stream is on its way.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Broken::Rule("a replication stream beyond its window")),
        }
    }

    /// The other side has sent its last request.
    pub(super) fn end_requests(&self, session: u32) {
        if let Some(Served::Stream(stream)) = self.sessions.lock().get_mut(&session) {
            stream.requests = None;
        }
    }

    fn serve_stream(self: &Arc<Self>, head: Head) -> Stream {
        let (requests, to_serve) = mpsc::channel(limits::PEER_STREAM_FRAMES_MAX);
        let (answers, answered) = mpsc::channel(limits::PEER_STREAM_FRAMES_MAX);
        let server = Arc::clone(self);
        let handler = Box::pin(async move {
            server.handler.append_stream(server.from, head.shard, to_serve, answers).await;
        });
        let window = Arc::new(Mutex::new(Window::default()));
        let answering = Answering {
            server: Arc::clone(self),
            session: head.session,
            answered,
            window: Arc::clone(&window),
            sequence: 0,
        };
        self.serving.spawn(answering.run(handler));
        Stream { requests: Some(requests), next: 0, window }
    }
}

/// Sends the answers of a stream. Says that the stream is over when dropped.
struct Answering {
    server: Arc<Server>,
    session: u32,
    answered: mpsc::Receiver<Vec<Bytes>>,
    window: Arc<Mutex<Window>>,
    sequence: u32,
}

impl Answering {
    /// Runs the handler and sends its answers, in one task, so that an answer needs no other to wake up.
    async fn run(mut self, mut handler: BoxFuture<'static, ()>) {
        let mut runs = true;
        loop {
            tokio::select! {
                biased;
                answer = self.answered.recv() => match answer {
                    Some(answer) => if !self.send(answer) { return },
                    None => break,
                },
                () = &mut handler, if runs => {
                    runs = false;
                    self.answered.close();
                }
            }
        }
        if runs {
            // It wants to answer no more, but may still have something to finish.
            self.end();
            handler.await;
        }
    }

    fn send(&mut self, answer: Vec<Bytes>) -> bool {
        let pieces = Pieces::from(answer);
        if !self.window.lock().leave() || pieces.len() > self.server.lane.length_max() {
            tracing::error!("a replication stream is answered more often than asked, or longer than a frame may be");
            return false;
        }
        let frame = Outgoing::new(reply(self.session).at(self.sequence), pieces);
        self.sequence = self.sequence.wrapping_add(1);
        self.server.push(frame)
    }
}

impl Answering {
    fn end(&self) {
        if self.server.end(self.session).is_some() {
            self.server.push(Outgoing::bare(Head::new(Kind::AppendEnd, self.session)));
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.end();
    }
}
