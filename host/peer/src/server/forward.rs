//! The listening side of a forwarded request.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::limits;
use tokio::task::AbortHandle;

use super::{Served, Server};
use crate::body::Body;
use crate::flow::{self, Credit, Inlet};
use crate::frame::write::Outgoing;
use crate::frame::{Broken, END, Frame, Head, Kind, REFUSED};
use crate::handler::Forwarded;
use crate::hello::refusal;

/// A forwarded request that is served. Dropping it drops the handler's future.
pub(super) struct Exchange {
    /// Where the request's body goes; `None` once it has ended.
    inlet: Option<Inlet>,
    /// For the answer's body.
    credit: Arc<Credit>,
    task: AbortHandle,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Serves a forwarded request in a task of its own.
    pub(super) fn forward(self: &Arc<Self>, frame: Frame) -> Result<(), Broken> {
        let Frame { head, body: request } = frame;
        let session = head.session;
        if request.len() > limits::PEER_HEAD_BYTES_MAX {
            return Err(Broken::Rule("a head of a forwarded request that is too long"));
        }
        let mut sessions = self.sessions.lock();
        if sessions.contains_key(&session) {
            return Err(Broken::Rule("a forwarded request in a session that is in use"));
        }
        if sessions.len() >= limits::PEER_FORWARDS_MAX {
            let head = Head::new(Kind::ForwardReply, session).flagged(REFUSED);
            self.push(Outgoing::new(head, refusal("too many forwarded requests at once")));
            return Ok(());
        }
        let (inlet, body) = if head.has(END) {
            (None, Body::empty())
        } else {
            let (inlet, arriving) = flow::arriving(session, Arc::clone(&self.outbox));
            (Some(inlet), arriving.guarded(()))
        };
        let credit = Credit::new();
        let answering = Answering { server: Arc::clone(self), session, credit: Arc::clone(&credit) };
        let task = self.serving.spawn(answering.run(Forwarded { head: request, body }));
        sessions.insert(session, Served::Exchange(Exchange { inlet, credit, task }));
        Ok(())
    }

    /// Takes a piece of a request's body, or credit for the answer's.
    pub(super) fn forward_more(&self, frame: Frame) -> Result<(), Broken> {
        let Frame { head, body } = frame;
        let mut sessions = self.sessions.lock();
        let Some(Served::Exchange(exchange)) = sessions.get_mut(&head.session) else {
            // Sent before its sender learned that the answer is complete.
            return Ok(());
        };
        if head.kind == Kind::Credit {
            return exchange.credit.give_back(&body);
        }
        let inlet = exchange.inlet.as_ref().ok_or(Broken::Rule("a piece after the last of a body"))?;
        inlet.push(body, head.has(END))?;
        if head.has(END) {
            exchange.inlet = None;
        }
        Ok(())
    }
}

/// Sends an answer. If dropped before its end, the other side learns that it broke off.
struct Answering {
    server: Arc<Server>,
    session: u32,
    credit: Arc<Credit>,
}

impl Answering {
    async fn run(self, request: Forwarded) {
        let answer = self.server.handler.forward(self.server.from, request).await;
        if answer.head.len() > limits::PEER_HEAD_BYTES_MAX {
            tracing::error!(head.bytes = answer.head.len(), "the head of a forwarded answer is too long");
            return;
        }
        if self.send(answer.head, answer.body).await {
            // Complete: nobody has to be told that it is over.
            self.server.sessions.lock().remove(&self.session);
        }
    }

    async fn send(&self, head: Bytes, mut body: Body) -> bool {
        body.look();
        let frame = Head::new(Kind::ForwardReply, self.session);
        if body.is_over() {
            return self.server.push(Outgoing::new(frame.flagged(END), head));
        }
        self.server.push(Outgoing::new(frame, head));
        let outbox = &self.server.outbox;
        match flow::send_small(body, self.session, outbox, &self.credit, None) {
            Ok(()) => true,
            Err(body) => flow::pump(body, self.session, outbox, &self.credit, None).await.is_ok(),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.server.end(self.session).is_some() {
            self.server.push(Outgoing::bare(Head::new(Kind::Cancel, self.session)));
        }
    }
}
