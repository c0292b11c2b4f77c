//! Answers: JSON, with or without a tag.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use pointsman_api_types::List;
use pointsman_broker::view::Page;
use serde::Serialize;

use crate::conditional;
use crate::failure::{Failure, internal};

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Response, Failure> {
    let bytes = serde_json::to_vec(value).map_err(|error| internal(&error.to_string()))?;
    Ok(bytes_of(status, "application/json", bytes))
}

/// Bytes of a type.
pub(crate) fn bytes_of(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A configuration resource after a GET: 200, or 304.
pub(crate) fn read<T: Serialize>(request: &HeaderMap, revision: u64, value: &T) -> Result<Response, Failure> {
    if conditional::not_modified(request, revision)? {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        response.headers_mut().insert(header::ETAG, conditional::etag(revision));
        return Ok(response);
    }
    tagged(StatusCode::OK, revision, value)
}

/// A configuration resource after a write: 201 or 200.
pub(crate) fn written<T: Serialize>(created: bool, revision: u64, value: &T) -> Result<Response, Failure> {
    tagged(if created { StatusCode::CREATED } else { StatusCode::OK }, revision, value)
}

fn tagged<T: Serialize>(status: StatusCode, revision: u64, value: &T) -> Result<Response, Failure> {
    let mut response = json(status, value)?;
    response.headers_mut().insert(header::ETAG, conditional::etag(revision));
    Ok(response)
}

/// A page of a list.
pub(crate) fn list<T, U: Serialize>(page: Page<T>, shown: impl FnMut(T) -> U) -> Result<Response, Failure> {
    let items = page.items.into_iter().map(shown).collect();
    json(StatusCode::OK, &List { items, next_cursor: page.next_cursor })
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
