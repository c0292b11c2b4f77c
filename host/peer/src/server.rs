//! The listening side of a connection: serves what the node that dialed asks for.

mod append;
mod calls;
mod forward;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::NodeId;

use self::append::Stream;
use self::calls::Calls;
use self::forward::Exchange;
use crate::connection::Receive;
use crate::frame::write::Outgoing;
use crate::frame::{Broken, Frame, Head, Kind};
use crate::handler::{Handler, Service};
use crate::hello::{Greeting, refusal_text};
use crate::lane::Lane;
use crate::outbox::Outbox;
use crate::serving::Serving;

/// One connection that another node dialed.
pub(crate) struct Server {
    from: NodeId,
    lane: Lane,
    outbox: Arc<Outbox>,
    handler: Arc<dyn Handler>,
    /// The tasks in which requests are served.
    serving: Serving,
    sessions: Mutex<HashMap<u32, Served>>,
    calls: Calls,
    /// Told of what the other side says about itself, or of us.
    news: Box<dyn Fn(News) -> Result<(), Broken> + Send + Sync>,
}

/// What a connection tells about the node that dialed.
pub(crate) enum News {
    /// It says hello again.
    Hello(Greeting),
    /// It refused us after our hello.
    Refused(String),
}

/// A session of the other side's.
enum Served {
    Stream(Stream),
    Exchange(Exchange),
}

impl Server {
    pub(crate) fn new(
        from: NodeId,
        lane: Lane,
        outbox: Arc<Outbox>,
        handler: Arc<dyn Handler>,
        serving: Serving,
        news: Box<dyn Fn(News) -> Result<(), Broken> + Send + Sync>,
    ) -> Arc<Self> {
        let (sessions, calls) = (Mutex::default(), Calls::new());
        Arc::new(Self { from, lane, outbox, handler, serving, sessions, calls, news })
    }

    /// Ends every session; to be called once the connection has ended.
    pub(crate) fn close(&self) {
        let sessions = std::mem::take(&mut *self.sessions.lock());
        drop(sessions);
    }

    fn end(&self, session: u32) -> Option<Served> {
        self.sessions.lock().remove(&session)
    }

    fn push(&self, frame: Outgoing) -> bool {
        self.outbox.push(frame)
    }
}

/// Receives for a [`Server`]; a type of its own because tasks need the [`Arc`].
pub(crate) struct Door(pub(crate) Arc<Server>);

impl Receive for Door {
    fn receive(&self, frame: Frame) -> Result<(), Broken> {
        let server = &self.0;
        let head = frame.head;
        if server.outbox.stop.is_cancelled() && head.kind != Kind::Pong {
            // On the way out: nothing new is begun, and the other side learns it from the end of the connection.
            return Ok(());
        }
        match (head.kind, server.lane) {
            (Kind::Append, Lane::Append) => server.append(frame),
            (Kind::AppendEnd, Lane::Append) => {
                server.end_requests(head.session);
                Ok(())
            }
            (Kind::Control, Lane::Control) => {
                server.call(Service::Control, frame);
                Ok(())
            }
            (Kind::Bulk, Lane::Bulk) => {
                server.call(Service::Bulk, frame);
                Ok(())
            }
            (Kind::Node, Lane::Bulk) => {
                server.call(Service::Node, frame);
                Ok(())
            }
            (Kind::Forward, Lane::Bulk) => server.forward(frame),
            (Kind::ForwardChunk | Kind::Credit, Lane::Bulk) => server.forward_more(frame),
            (Kind::Cancel, _) => {
                drop(server.end(head.session));
                Ok(())
            }
            (Kind::Ping, _) => {
                server.outbox.push_pong(head.sequence);
                Ok(())
            }
            (Kind::Hello, _) => (server.news)(News::Hello(Greeting::decode(frame.body)?)),
            (Kind::Refusal, _) => (server.news)(News::Refused(refusal_text(&frame.body))),
            _ => Err(Broken::Rule("a request of a kind that this connection does not serve")),
        }
    }
}

/// The head of an answer.
fn reply(session: u32) -> Head {
    Head::new(Kind::Reply, session)
}
