//! Calls: one request, one answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pointsman_model::{ShardId, limits};
use tokio::sync::Semaphore;

use super::{Server, reply};
use crate::frame::write::{Outgoing, Pieces};
use crate::frame::{Frame, Head, Kind, REFUSED};
use crate::handler::Service;
use crate::hello::refusal;

/// The calls of a connection that are being served.
pub(super) struct Calls {
    count: AtomicUsize,
    bytes: AtomicUsize,
    /// Large answers are made no faster than they leave.
    bulk: Semaphore,
}

impl Calls {
    pub(super) fn new() -> Self {
        let bulk = Semaphore::new(limits::PEER_BULK_CALLS_AT_ONCE);
        Self { count: AtomicUsize::new(0), bytes: AtomicUsize::new(0), bulk }
    }

    /// Counts one more. `false` if it is one too many; it is counted all the same.
    fn enter(&self, bytes: usize) -> bool {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        count == 0 || count < limits::PEER_CALLS_MAX && before + bytes <= limits::PEER_CALLS_BYTES_MAX
    }

    fn leave(&self, bytes: usize) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A call being answered. If it ends without an answer, in a panic, the other side is told to wait no longer.
struct Call {
    server: Arc<Server>,
    session: u32,
    request_bytes: usize,
    answered: bool,
}

impl Call {
    async fn serve(mut self, service: Service, shard: ShardId, request: Bytes) {
        let server = Arc::clone(&self.server);
        let permit = match service {
            // The semaphore is never closed.
            Service::Bulk => server.calls.bulk.acquire().await.ok(),
            Service::Control | Service::Node => None,
        };
        let answer = server.handler.call(server.from, service, shard, request).await;
        self.answer(answer);
        if permit.is_some() {
            server.outbox.room().await;
        }
    }

    fn answer(&mut self, result: Result<Vec<Bytes>, String>) {
        let frame = match result.map(Pieces::from) {
            Ok(pieces) if pieces.len() > self.server.lane.length_max() => {
                // Refusing would say that nothing was done.
                tracing::error!(answer.bytes = pieces.len(), "the answer to a call is longer than a frame may be");
                return;
            }
            Ok(pieces) => Outgoing::new(reply(self.session), pieces),
            Err(reason) => Outgoing::new(reply(self.session).flagged(REFUSED), refusal(&reason)),
        };
        self.server.push(frame);
        self.answered = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            self.server.push(Outgoing::bare(Head::new(Kind::Cancel, self.session)));
        }
        self.server.calls.leave(self.request_bytes);
    }
}

impl Server {
    /// Serves a call in a task of its own.
    pub(super) fn call(self: &Arc<Self>, service: Service, frame: Frame) {
        let Frame { head, body } = frame;
        let fits = self.calls.enter(body.len());
        let server = Arc::clone(self);
        let mut call = Call { server, session: head.session, request_bytes: body.len(), answered: false };
        if fits {
            self.serving.spawn(call.serve(service, head.shard, body));
        } else {
            call.answer(Err("too many calls at once".to_owned()));
        }
    }
}
