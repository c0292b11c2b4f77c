//! One request, and its answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pointsman_api_types::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// What is sent. Values that cannot be a header are remembered and refused by sending.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timeout: Option<Duration>,
    pub(crate) wrong: Option<String>,
}

impl Request {
    /// A request of a path, with its query.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new(), timeout: None, wrong: None }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A `POST`.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// A `PUT`.
    #[must_use]
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    /// A `DELETE`.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Adds a header; one of the same name stays. The value goes out as UTF-8.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
            }
            (Err(_), _) => self.wrong = Some(format!("`{name}` is no header name")),
            (_, Err(_)) => self.wrong = Some(format!("the value of header `{name}` holds control characters")),
        }
        self
    }

    /// Adds a header where there is a value.
    #[must_use]
    pub fn header_if(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.header(name, value.as_ref()),
            None => self,
        }
    }

    /// Sets the body and its type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.remove(CONTENT_TYPE);
        self.body = body.into();
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body("application/json", body),
            Err(error) => {
                self.wrong = Some(error.to_string());
                self
            }
        }
    }

    /// Says what type of answer is wanted.
    #[must_use]
    pub fn accept(self, content_type: &str) -> Self {
        self.header(ACCEPT.as_str(), content_type)
    }

    /// Waits this long for the answer, instead of as long as the client's options say.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Response {
    /// The answer, if it is a good one.
    ///
    /// # Errors
    /// [`Error::Refused`] with the problem, or [`Error::Unexpected`].
    pub fn ok(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => Err(Error::Refused(Box::new(problem))),
            Err(_) => Err(self.unexpected("it has no problem document")),
        }
    }

    /// The value in a good answer.
    ///
    /// # Errors
    /// As [`Response::ok`], and [`Error::Unexpected`] for another body.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let answer = self.ok()?;
        serde_json::from_slice(&answer.body).map_err(|error| answer.unexpected(&error.to_string()))
    }

    fn unexpected(&self, reason: &str) -> Error {
        const QUOTE_CHARS_MAX: usize = 200;
        let body: String = String::from_utf8_lossy(&self.body).chars().take(QUOTE_CHARS_MAX).collect();
        Error::Unexpected { status: self.status.as_u16(), detail: format!("{reason}: {body}") }
    }
}

/// An answer whose body is still coming. The connection ends with it.
#[derive(Debug)]
pub struct Streamed {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    pub(crate) address: String,
    pub(crate) body: Incoming,
}

impl Streamed {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`Error::Broken`] where the connection ended before the body did.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(source)) => return Err(Error::Broken { address: self.address.clone(), source }),
            }
        }
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// As [`Streamed::chunk`].
    pub async fn collect(mut self) -> Result<Response, Error> {
        let first = self.chunk().await?.unwrap_or_default();
        let body = match self.chunk().await? {
            None => first,
            Some(second) => {
                let mut whole = BytesMut::from(first);
                whole.extend_from_slice(&second);
                while let Some(more) = self.chunk().await? {
                    whole.extend_from_slice(&more);
                }
                whole.freeze()
            }
        };
        Ok(Response { status: self.status, headers: self.headers, body })
    }
}
