//! The entry node's end: finds the node that leads, and gives it the request until an answer comes.
//!
//! What surely was not done is tried again, here or there, for [`limits::NO_LEADER_MS`]: a node that says it does not
//! lead, one that cannot be reached, a handler that answers `no-leader`. Bodies are read whole first, so that they can be
//! sent again; a stream without end is sent once. An answer that is lost is `outcome-unknown`, but for reads.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header;
use http::request::Parts;
use http::{HeaderMap, Method};
use pointsman_api_types::Code;
use pointsman_broker::Error;
use pointsman_model::{NodeId, ShardId, limits};
use tokio::time::Instant;

use super::answer::{Taken, take};
use super::head::RequestHead;
use super::outgoing::Outgoing;
use super::pace;
use super::{ClusterPorts, ForwardError, Forwarded, is_paced, ready_here, shard_of};
use crate::context::{self, Admitted};
use crate::failure::Failure;
use crate::{App, ticket};

/// How often a call that waits looks for a leader.
const LOOK: Duration = Duration::from_millis(20);
/// How long it looks.
const NO_LEADER: Duration = Duration::from_millis(limits::NO_LEADER_MS);
/// How long a leader that was replaced may take to answer what it had taken.
const REPLACED: Duration = NO_LEADER;
/// How long one may that no longer counts as the leader, while no other does: it fell silent.
const SILENT: Duration = Duration::from_millis(500);
/// Headers that are the connection's, or were the edge's to read.
const NOT_FORWARDED: [header::HeaderName; 9] = [
    header::AUTHORIZATION,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::EXPECT,
    header::COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A request at its entry node, behind the checks of the edge.
struct Entry {
    app: Arc<App>,
    ports: ClusterPorts,
    route: &'static str,
    admitted: Admitted,
    parts: Parts,
    next: Next,
    shard: ShardId,
    /// When its time is up.
    deadline: Instant,
}

/// What one try came to.
enum Tried {
    Answered(Response),
    /// Surely nothing was done.
    Again,
    /// A read whose answer was lost.
    Lost,
}

/// Serves a request in a cluster: here, or where its shard is led.
pub(crate) async fn dispatch(
    app: &Arc<App>,
    ports: &ClusterPorts,
    route: Option<&'static str>,
    admitted: Admitted,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let place = route.and_then(|route| Some((route, shard_of(app, route, &parts, &admitted.path)?)));
    let Some((route, shard)) = place else {
        parts.extensions.insert(admitted);
        return next.run(Request::from_parts(parts, body)).await;
    };
    // A malformed one is told by the handler.
    let time = context::timeout(&parts.headers).unwrap_or(Duration::from_millis(limits::TIMEOUT_MS_DEFAULT));
    let deadline = Instant::now() + time;
    let (app, ports) = (Arc::clone(app), ports.clone());
    let mut outgoing = Outgoing::new(&app, route, &parts, body);
    let entry = Entry { app, ports, route, admitted, parts, next, shard, deadline };
    match entry.run(&mut outgoing).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

impl Entry {
    async fn run(&self, outgoing: &mut Outgoing) -> Result<Response, Failure> {
        let mut until = Instant::now() + NO_LEADER;
        let own = NodeId(self.app.config.node_id);
        let mut tries = 0_u32;
        loop {
            let led = ready_here(&self.app, self.route, &self.parts, &self.admitted.path, self.shard, self.remaining());
            let tried = match led.await {
                Ok(true) => self.run_here(outgoing).await?,
                Ok(false) | Err(Error::NoLeader) => {
                    match self.app.broker.leader_of(self.shard).filter(|leader| *leader != own) {
                        Some(leader) => self.send(leader, outgoing).await?,
                        None => Tried::Again,
                    }
                }
                Err(error) => return Err(error.into()),
            };
            match tried {
                Tried::Answered(response) => return Ok(response),
                Tried::Again if outgoing.is_spent() => return Err(Error::NoLeader.into()),
                Tried::Again => {}
                // That took its time, and the next leader shall have some, too.
                Tried::Lost => until = Instant::now() + NO_LEADER,
            }
            if Instant::now() + LOOK >= self.deadline.min(until + outgoing.reading()) {
                return self.no_leader(outgoing).await;
            }
            tries += 1;
            if tries == 1 {
                self.app.metrics.forwarded.retried.inc();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Time that is left for the work.
    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The handler of this node, which leads.
    async fn run_here(&self, outgoing: &mut Outgoing) -> Result<Tried, Failure> {
        let body = outgoing.for_here(&self.app).await?;
        let response = self.handler(body).await;
        let not_led = response.extensions().get::<Failure>().is_some_and(|failure| failure.code() == Code::NoLeader);
        Ok(if not_led && !outgoing.is_spent() { Tried::Again } else { Tried::Answered(response) })
    }

    async fn handler(&self, body: Body) -> Response {
        let mut parts = self.parts.clone();
        let admitted = Admitted { remaining: Some(self.remaining()), ..self.admitted.clone() };
        parts.extensions.insert(admitted);
        self.next.clone().run(Request::from_parts(parts, body)).await
    }

    /// Nobody leads. An `EventSource` gives up for good on a 503, so a stream says so inside, as its handler does here.
    async fn no_leader(&self, outgoing: &mut Outgoing) -> Result<Response, Failure> {
        if ticket::is_stream(self.route) {
            let body = outgoing.for_here(&self.app).await?;
            return Ok(self.handler(body).await);
        }
        Err(Error::NoLeader.into())
    }

    /// Returns once the leader has been silent or replaced for a while: what it has not answered by then it does not
    /// answer.
    async fn gone(&self, leader: NodeId) {
        let mut since: Option<Instant> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.app.broker.leader_of(self.shard);
            if now == Some(leader) {
                since = None;
                continue;
            }
            let patience = if now.is_some() { REPLACED } else { SILENT };
            if since.get_or_insert_with(Instant::now).elapsed() >= patience {
                return;
            }
        }
    }

    async fn send(&self, leader: NodeId, outgoing: &mut Outgoing) -> Result<Tried, Failure> {
        let reads = matches!(self.parts.method, Method::GET | Method::HEAD);
        let head = RequestHead {
            principal: self.admitted.principal.clone().ok_or(Error::NoLeader)?,
            request_id: self.admitted.request_id.clone(),
            remaining_ms: u64::try_from(self.remaining().as_millis()).unwrap_or(u64::MAX),
            method: self.parts.method.clone(),
            uri: self.parts.uri.clone(),
            headers: forwarded_headers(&self.parts.headers),
        };
        let head = head.encode().map_err(|_| Failure::new(Code::HeadersTooLarge, "the headers are too large"))?;
        let (reports, body) = if is_paced(self.route) {
            let (reports, body) = pace::reports();
            (Some(reports), body)
        } else {
            (None, outgoing.for_other(&self.app).await?)
        };
        self.app.metrics.forwarded.sent.inc();
        let sent = self.ports.forward.forward(leader, Forwarded { head, body });
        let patience = outgoing.patience(self.remaining());
        let answer = tokio::select! {
            biased;
            answer = sent => answer,
            () = sleep_for(patience) => Err(ForwardError::Lost),
            () = self.gone(leader) => Err(ForwardError::Lost),
        };
        let lost = || {
            self.app.metrics.forwarded.lost.inc();
            if reads { Ok(Tried::Lost) } else { Err(Failure::from(Error::OutcomeUnknown)) }
        };
        let answer = match answer {
            Ok(answer) => answer,
            // Part of a stream may have come; what of it was taken, nobody knows.
            Err(ForwardError::NotSent) if outgoing.was_touched() => return lost(),
            Err(ForwardError::NotSent) => return Ok(Tried::Again),
            Err(ForwardError::Refused(reason)) => {
                tracing::debug!(node.id = leader.0, reason, "a forwarded request was refused");
                return Err(Error::Overloaded("the node that leads takes no more calls right now".into()).into());
            }
            Err(_) => return lost(),
        };
        match take(&self.app, answer, reports, &self.parts).await {
            Ok(Taken::Response(response)) => Ok(Tried::Answered(response)),
            Ok(Taken::NotLeader) => Ok(Tried::Again),
            Err(_) => lost(),
        }
    }
}

/// For ever without a time.
async fn sleep_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn forwarded_headers(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = headers.clone();
    for name in &NOT_FORWARDED {
        forwarded.remove(name);
    }
    forwarded
}
