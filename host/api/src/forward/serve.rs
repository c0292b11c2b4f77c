//! The other end: a request that another node took enters the router behind the edge.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use pointsman_model::NodeId;

use super::head::AnswerHead;
use super::{ForwardBody, Forwarded};
use crate::App;

/// Serves a request of another node.
pub(crate) async fn serve(_router: Router, _from: NodeId, _request: Forwarded) -> Forwarded {
    answer(&AnswerHead::NotLeader, Box::pin(futures_util::stream::empty()))
}

/// Runs a request that another node's edge let pass.
pub(crate) async fn inner_edge(State(_app): State<Arc<App>>, request: Request, next: Next) -> Response {
    next.run(request).await
}

fn answer(head: &AnswerHead, body: ForwardBody) -> Forwarded {
    Forwarded { head: head.encode().unwrap_or_default(), body }
}
