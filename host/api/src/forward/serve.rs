//! The other end: a request that another node took enters the router behind the edge.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::Method;
use http_body::Body as _;
use pointsman_api_types::Code;
use pointsman_broker::{Action, Error};
use pointsman_model::NodeId;
use tower::ServiceExt;

use super::head::{AnswerHead, RequestHead};
use super::pace::PaceSlot;
use super::{BodyLost, ForwardBody, Forwarded, is_paced, shard_of};
use crate::context::{self, Admitted};
use crate::failure::Failure;
use crate::{App, access, edge, routes};

/// Put beside an answer by [`inner_edge`]: nothing was done, for this node does not lead.
#[derive(Clone, Copy)]
struct NotLed;

/// Serves a request of another node.
pub(crate) async fn serve(router: Router, from: NodeId, forwarded: Forwarded) -> Forwarded {
    let head = match RequestHead::decode(&forwarded.head) {
        Ok(head) => head,
        Err(error) => {
            tracing::warn!(node.id = from.0, %error, "a forwarded request is not understood");
            return answer(&AnswerHead::NotLeader, empty());
        }
    };
    let request_id = head.request_id.clone();
    let mut request = Request::new(Body::from_stream(forwarded.body));
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.headers_mut() = head.headers;
    request.extensions_mut().insert(Admitted {
        request_id: head.request_id,
        principal: Some(head.principal),
        path: Vec::new(),
        remaining: Some(Duration::from_millis(head.remaining_ms)),
    });
    // A router never fails.
    let mut response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    if response.extensions().get::<NotLed>().is_some() {
        return answer(&AnswerHead::NotLeader, empty());
    }
    let failure = edge::failure_of(&mut response);
    // What a node refuses because it shuts down, the next leader does.
    if failure.as_ref().is_some_and(|failure| matches!(failure.code(), Code::NoLeader | Code::Draining)) {
        return answer(&AnswerHead::NotLeader, empty());
    }
    let problem = failure.as_ref().map(|failure| failure.code().as_str().to_owned());
    if let Some(failure) = failure {
        response = failure.render(&request_id);
    }
    let (parts, body) = response.into_parts();
    let head =
        AnswerHead::Served { status: parts.status, headers: parts.headers, length: body.size_hint().exact(), problem };
    answer(&head, body.into_data_stream().map(|piece| piece.map_err(|_| BodyLost)).boxed())
}

fn answer(head: &AnswerHead, body: ForwardBody) -> Forwarded {
    match head.encode() {
        Ok(head) => Forwarded { head, body },
        Err(error) => {
            // Our own answers have a handful of headers.
            tracing::error!(%error, "an answer cannot be sent to another node");
            Forwarded { head: AnswerHead::not_leader(), body: empty() }
        }
    }
}

fn empty() -> ForwardBody {
    futures_util::stream::empty().boxed()
}

/// Runs a request that another node's edge let pass.
pub(crate) async fn inner_edge(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().and_then(|path| routes::template(path.as_str()));
    let (Some(route), Some(mut admitted)) = (route, parts.extensions.remove::<Admitted>()) else {
        return edge::no_such_route().await.into_response();
    };
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    admitted.path = match edge::path_parts(&mut parts).await {
        Ok(path) => path,
        Err(failure) => return failure.into_response(),
    };
    if let Err(failure) = context::check_path(&admitted.path, reads) {
        return failure.into_response();
    }
    match lead(&app, route, &parts, &admitted).await {
        Ok(true) => {}
        Ok(false) | Err(Error::NoLeader) => {
            app.metrics.forwarded.not_leader.inc();
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(NotLed);
            return response;
        }
        Err(error) => return Failure::from(error).into_response(),
    }
    app.metrics.forwarded.served.inc();
    parts.extensions.insert(admitted);
    let body = if is_paced(route) {
        parts.extensions.insert(PaceSlot::new(body));
        Body::empty()
    } else {
        body
    };
    next.run(Request::from_parts(parts, body)).await
}

/// Whether this node may serve it, with everything applied that its caller may know of.
async fn lead(
    app: &App,
    route: &'static str,
    parts: &http::request::Parts,
    admitted: &Admitted,
) -> Result<bool, Error> {
    let tenant = admitted.tenant();
    // A tenant may be made by the very call.
    let known = tenant.filter(|_| access::action(route, &parts.method, &admitted.path) != Action::CreateTenant);
    if let Some(principal) = &admitted.principal {
        app.broker.meet(principal, known).await?;
    }
    let Some(shard) = shard_of(app, route, parts, &admitted.path) else { return Ok(true) };
    super::ready_here(app, route, parts, &admitted.path, shard, admitted.remaining.unwrap_or_default()).await
}
