//! Calls: one request, one answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pointsman_model::limits;

use super::{Server, reply};
use crate::frame::write::{Outgoing, Pieces};
use crate::frame::{Frame, Head, Kind, REFUSED};
use crate::handler::Service;
use crate::hello::refusal;

/// A call being answered. If it ends without an answer, in a panic, the other side is told to wait no longer.
struct Call {
    server: Arc<Server>,
    session: u32,
    answered: bool,
}

impl Call {
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
        self.server.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Serves a call in a task of its own.
    pub(super) fn call(self: &Arc<Self>, service: Service, frame: Frame) {
        let Frame { head, body } = frame;
        let running = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut call = Call { server: Arc::clone(self), session: head.session, answered: false };
        if running >= limits::PEER_CALLS_MAX {
            // Only a caller that does not wait for its answers comes here.
            call.answer(Err("too many calls at once".to_owned()));
            return;
        }
        self.serving.spawn(async move {
            let server = &call.server;
            let answer = server.handler.call(server.from, service, head.shard, body).await;
            call.answer(answer);
        });
    }
}
