//! The answer of another node, as this one passes it on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::request::Parts;
use http::{Method, header};
use http_body::{Frame, SizeHint};
use pointsman_model::limits;
use tokio::sync::watch;

use super::head::AnswerHead;
use super::pace::Reporting;
use super::{BodyLost, ForwardBody, Forwarded};
use crate::App;
use crate::serve::ConnectionHandle;

/// What another node said.
pub(super) enum Taken {
    /// Its answer.
    Response(Response),
    /// It does not lead; nothing was done.
    NotLeader,
}

/// Reads an answer: a short one whole, so that it can still be asked for again, a long one as it comes.
///
/// # Errors
/// The other node vanished before it was whole, or said what no answer is.
pub(super) async fn take(
    app: &App,
    answer: Forwarded,
    reports: Option<watch::Sender<u64>>,
    parts: &Parts,
) -> Result<Taken, BodyLost> {
    let head = AnswerHead::decode(&answer.head).map_err(|error| {
        tracing::warn!(%error, "the answer of another node is not understood");
        BodyLost
    })?;
    let AnswerHead::Served { status, mut headers, length, problem } = head else { return Ok(Taken::NotLeader) };
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::DATE] {
        headers.remove(name);
    }
    if parts.method != Method::HEAD {
        headers.remove(header::CONTENT_LENGTH);
    }
    let body = match (length, reports) {
        (Some(length), _) if length <= limits::FORWARD_ANSWER_BYTES_MAX => {
            Body::from(whole(answer.body, length).await?)
        }
        (Some(left), _) => Body::new(Sized { pieces: answer.body, left }),
        (None, reports) => {
            if let Some(connection) = parts.extensions.get::<ConnectionHandle>() {
                connection.bound_send_buffer();
            }
            match reports {
                Some(reports) => Body::from_stream(Reporting::new(answer.body, reports)),
                None => Body::from_stream(answer.body),
            }
        }
    };
    if let Some(problem) = problem {
        app.metrics.refused_elsewhere(&problem);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Taken::Response(response))
}

async fn whole(mut pieces: ForwardBody, length: u64) -> Result<Bytes, BodyLost> {
    let mut bytes = Bytes::new();
    let mut more = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if bytes.is_empty() && more.is_empty() {
            bytes = piece;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&bytes);
            }
            more.extend_from_slice(&piece);
        }
        if more.len().max(bytes.len()) as u64 > length {
            return Err(BodyLost);
        }
    }
    let bytes = if more.is_empty() { bytes } else { more.into() };
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(BodyLost) }
}

/// A body of known length.
struct Sized {
    pieces: ForwardBody,
    left: u64,
}

impl http_body::Body for Sized {
    type Data = Bytes;
    type Error = BodyLost;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyLost>>> {
        let piece = match ready!(self.pieces.poll_next_unpin(context)) {
            Some(Ok(piece)) => piece,
            Some(Err(lost)) => return Poll::Ready(Some(Err(lost))),
            None if self.left > 0 => return Poll::Ready(Some(Err(BodyLost))),
            None => return Poll::Ready(None),
        };
        match self.left.checked_sub(piece.len() as u64) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None => Poll::Ready(Some(Err(BodyLost))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
