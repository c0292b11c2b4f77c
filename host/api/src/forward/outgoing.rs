//! A request's body at its entry node: read once, given as often as it takes.
//!
//! What another node gets is read whole first, through the cap of its route and one byte more, so that the handler there
//! finds for itself that it is too large. A handler here gets a large body as it comes, like on a node alone, and one try.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::request::Parts;
use http::{Method, header};
use http_body::Body as _;
use pointsman_model::limits;
use tokio::time::Instant;

use super::{BodyLost, ForwardBody};
use crate::body::{self, Share};
use crate::failure::Failure;
use crate::publish::{Shape, shape};
use crate::{App, headers};

/// The route whose body may have no end.
const PUBLISH: &str = "/v1/tenants/{tenant}/topics/{topic}/messages";
/// Routes whose bodies are as large as a publish.
const LARGE: &[&str] = &[
    PUBLISH,
    "/v1/tenants/{tenant}/topics/{topic}/transactions",
    "/v1/tenants/{tenant}/plugins/{plugin}/versions/{version}",
];
/// Routes that may wait as long as their body says.
const WAITING: &[&str] =
    &["/v1/tenants/{tenant}/groups/{group}/leases", "/v1/tenants/{tenant}/producer-groups/{pg}/checks/lease"];

/// The body of a request on its way to a handler.
pub(super) struct Outgoing {
    state: State,
    cap: usize,
    /// `Content-Length`.
    announced: Option<usize>,
    /// The client waits for a word before it sends the body.
    expects: bool,
    /// It may have no end, and is answered while it comes.
    endless: bool,
    /// How long the answer may take beside the call's own time; `None` without a bound.
    more: Option<Duration>,
    /// Some of an endless body was taken.
    touched: Arc<AtomicBool>,
    /// How long the client took to send it.
    reading: Duration,
}

enum State {
    Unread(Body),
    /// With its share of what the node may hold.
    Whole(Vec<Bytes>, Share),
    Spent,
}

impl Outgoing {
    pub(super) fn new(app: &App, route: &'static str, parts: &Parts, body: Body) -> Self {
        let large = LARGE.contains(&route);
        let cap = if large { limits::PUBLISH_BODY_BYTES_MAX } else { limits::CONTROL_BODY_BYTES_MAX };
        let published = (route == PUBLISH && parts.method == Method::POST).then(|| shape(&parts.headers).ok());
        let pieces = matches!(published.flatten(), Some(Shape::Lines | Shape::Frames));
        let reports = pieces
            && !parts.headers.contains_key(header::CONTENT_ENCODING)
            && headers::accept(&parts.headers, &["application/json", pointsman_api_types::publish::NDJSON_TYPE])
                .is_ok_and(|form| form == pointsman_api_types::publish::NDJSON_TYPE);
        let wait = if WAITING.contains(&route) { limits::WAIT_MS_MAX } else { 0 };
        let more = (!pieces).then(|| Duration::from_millis(wait + limits::FORWARD_GRACE_MS));
        let length = parts.headers.get(header::CONTENT_LENGTH);
        let nothing = body.size_hint().exact() == Some(0);
        Self {
            state: if nothing { State::Whole(Vec::new(), Share::new(&app.bodies)) } else { State::Unread(body) },
            cap,
            announced: length.and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok()),
            expects: parts.headers.contains_key(header::EXPECT),
            endless: reports,
            more,
            touched: Arc::default(),
            reading: Duration::ZERO,
        }
    }

    /// True if it was given away and cannot be given again.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self.state, State::Spent)
    }

    /// True if another node may have got some of a body that is not whole.
    pub(super) fn was_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// How long the client took to send it, which is no wait for a leader.
    pub(super) fn reading(&self) -> Duration {
        self.reading
    }

    /// How long the head of an answer is waited for.
    pub(super) fn patience(&self, remaining: Duration) -> Option<Duration> {
        self.more.map(|more| remaining + more)
    }

    /// The body for the handler of this node.
    pub(super) async fn for_here(&mut self, app: &App) -> Result<Body, Failure> {
        let small = self.announced.is_some_and(|length| length <= limits::RETRIED_BODY_BYTES_MAX)
            && !self.expects
            && !self.endless;
        if small {
            self.read(app).await?;
        }
        Ok(match std::mem::replace(&mut self.state, State::Spent) {
            State::Unread(body) => body,
            State::Spent => Body::empty(),
            State::Whole(pieces, share) => {
                let body = match &pieces[..] {
                    [] => Body::empty(),
                    [one] => Body::from(one.clone()),
                    _ => Body::from_stream(stream::iter(pieces.clone()).map(Ok::<_, BodyLost>)),
                };
                self.state = State::Whole(pieces, share);
                body
            }
        })
    }

    /// The body for another node.
    pub(super) async fn for_other(&mut self, app: &App) -> Result<ForwardBody, Failure> {
        if !self.endless {
            self.read(app).await?;
        }
        Ok(match std::mem::replace(&mut self.state, State::Spent) {
            State::Unread(body) => {
                let touched = Arc::clone(&self.touched);
                let pieces = body.into_data_stream();
                pieces
                    .map(move |piece| {
                        touched.store(true, Ordering::Relaxed);
                        piece.map_err(|_| BodyLost)
                    })
                    .boxed()
            }
            State::Spent => stream::empty().boxed(),
            State::Whole(pieces, share) => {
                let body = stream::iter(pieces.clone().into_iter().map(Ok)).boxed();
                self.state = State::Whole(pieces, share);
                body
            }
        })
    }

    /// Reads it whole. One that announces that it is too large is not read: the handler sees its headers.
    async fn read(&mut self, app: &App) -> Result<(), Failure> {
        let State::Unread(body) = &mut self.state else { return Ok(()) };
        let started = Instant::now();
        let mut share = Share::new(&app.bodies);
        let pieces = match self.announced {
            Some(length) if length > self.cap => Vec::new(),
            _ => body::pieces(body, self.cap, &mut share).await?,
        };
        self.state = State::Whole(pieces, share);
        self.reading = started.elapsed();
        Ok(())
    }
}
