//! The dialing side of a forwarded request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use pointsman_model::limits;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Caller, NoSession, Pending};
use crate::body::Body;
use crate::error::ForwardError;
use crate::flow::{self, Arriving, Credit, Inlet};
use crate::frame::write::Outgoing;
use crate::frame::{Broken, END, Frame, Head, Kind, REFUSED};
use crate::handler::ForwardAnswer;
use crate::hello::refusal_text;
use crate::outbox::Outbox;

/// A forwarded request under way.
pub(super) struct Exchange {
    outbox: Arc<Outbox>,
    /// For the request's body.
    credit: Arc<Credit>,
    /// Sends the request's body; ends with the session.
    pump: Option<AbortHandle>,
    answer: Answer,
}

enum Answer {
    Awaited(oneshot::Sender<Result<Headed, ForwardError>>),
    Arriving(Inlet),
}

/// The head of an answer, and its body if there is one.
type Headed = (Bytes, Option<Arriving>);

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

impl Exchange {
    /// Takes a reply, a piece of its body, or credit.
    pub(super) fn receive(&mut self, frame: Frame) -> Result<(), Broken> {
        let Frame { head, body } = frame;
        match head.kind {
            Kind::Credit => self.credit.give_back(&body),
            Kind::ForwardChunk => match &self.answer {
                Answer::Arriving(inlet) => inlet.push(body, head.has(END)),
                Answer::Awaited(_) => Err(Broken::Rule("a body before its head")),
            },
            _ => {
                let (inlet, arriving) = flow::arriving(head.session, Arc::clone(&self.outbox));
                let Answer::Awaited(answer) = std::mem::replace(&mut self.answer, Answer::Arriving(inlet)) else {
                    return Err(Broken::Rule("a second answer"));
                };
                let result = if head.has(REFUSED) {
                    Err(ForwardError::Refused(refusal_text(&body)))
                } else {
                    Ok((body, (!head.has(END)).then_some(arriving)))
                };
                // Whoever has gone wants no answer; dropping its future cancels.
                let _ = answer.send(result);
                Ok(())
            }
        }
    }
}

impl Caller {
    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn forward(self: &Arc<Self>, head: Bytes, mut body: Body) -> Result<ForwardAnswer, ForwardError> {
        if head.len() > limits::PEER_HEAD_BYTES_MAX {
            return Err(ForwardError::Refused("the head of the request is too long".to_owned()));
        }
        let (answer, answered) = oneshot::channel();
        let credit = Credit::new();
        let exchange = Exchange {
            outbox: Arc::clone(&self.outbox),
            credit: Arc::clone(&credit),
            pump: None,
            answer: Answer::Awaited(answer),
        };
        let session = self.open(Pending::Exchange(exchange)).map_err(|reason| match reason {
            NoSession::Closed => ForwardError::NotSent,
            NoSession::TooMany(reason) => ForwardError::Refused(reason.to_owned()),
        })?;
        let left = Arc::new(AtomicBool::new(false));
        body.look();
        self.send(session.number, head, body, credit, Arc::clone(&left));
        match answered.await {
            Ok(Ok((head, Some(arriving)))) => Ok(ForwardAnswer { head, body: arriving.guarded(session) }),
            Ok(Ok((head, None))) => Ok(ForwardAnswer { head, body: Body::empty() }),
            Ok(Err(error)) => Err(error),
            // The connection ended, or the other side gave up. Nothing that was queued leaves after that.
            Err(_) if !left.load(Ordering::Acquire) => Err(ForwardError::NotSent),
            Err(_) => Err(ForwardError::Lost),
        }
    }

    fn send(self: &Arc<Self>, number: u32, head: Bytes, body: Body, credit: Arc<Credit>, left: Arc<AtomicBool>) {
        let frame = Head::new(Kind::Forward, number);
        if body.is_over() {
            self.outbox.push(Outgoing { head: frame.flagged(END), pieces: head.into(), left: Some(left) });
            return;
        }
        self.outbox.push(Outgoing::new(frame, head));
        let Err(body) = flow::send_small(body, number, &self.outbox, &credit, Some(Arc::clone(&left))) else { return };
        let caller = Arc::clone(self);
        let mut sessions = self.sessions.lock();
        let Some(Pending::Exchange(exchange)) = sessions.table.get_mut(&number) else { return };
        let pump = tokio::spawn(async move {
            if flow::pump(body, number, &caller.outbox, &credit, Some(left)).await.is_err() {
                // The request cannot be completed: both sides forget it.
                caller.outbox.push(Outgoing::bare(Head::new(Kind::Cancel, number)));
                drop(caller.end(number));
            }
        });
        exchange.pump = Some(pump.abort_handle());
    }
}
