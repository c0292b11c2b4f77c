//! Heads of forwarded requests and answers: a version byte, then postcard.
//!
//! What a peer sends is bounded and validated like anything else; the caller that it names is taken as it says, for the
//! connections between nodes know each other.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use pointsman_broker::{Principal, WirePrincipal};
use pointsman_model::limits;
use serde::{Deserialize, Serialize};

/// The first byte of a head.
const VERSION: u8 = 1;

/// A head that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a head of a forwarded request: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A request as the entry node sends it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestHead {
    /// Who calls, as the entry node found out.
    pub(crate) principal: Principal,
    pub(crate) request_id: String,
    /// Time that is left for the work.
    pub(crate) remaining_ms: u64,
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AnswerHead {
    /// It was not served here: another node leads, or none. Surely nothing was done.
    NotLeader,
    /// It was served.
    Served {
        /// Status of the answer.
        status: StatusCode,
        /// Its headers.
        headers: HeaderMap,
        /// Bytes of its body, if known beforehand.
        length: Option<u64>,
        /// The code of the problem that it tells.
        problem: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
struct WireRequest<'a> {
    principal: WirePrincipal,
    request_id: &'a str,
    remaining_ms: u64,
    method: &'a str,
    uri: &'a str,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a [u8])>,
}

#[derive(Serialize, Deserialize)]
enum WireAnswer<'a> {
    NotLeader,
    Served {
        status: u16,
        #[serde(borrow)]
        headers: Vec<(&'a str, &'a [u8])>,
        length: Option<u64>,
        problem: Option<&'a str>,
    },
}

impl RequestHead {
    /// # Errors
    /// It is larger than a head may be, or no client's.
    pub(crate) fn encode(&self) -> Result<Bytes, Malformed> {
        let principal = WirePrincipal::of(&self.principal).ok_or(Malformed("the caller is no client"))?;
        let uri = self.uri.path_and_query().map_or("/", |uri| uri.as_str());
        encode(&WireRequest {
            principal,
            request_id: &self.request_id,
            remaining_ms: self.remaining_ms,
            method: self.method.as_str(),
            uri,
            headers: wire_headers(&self.headers),
        })
    }

    /// # Errors
    /// Not a head, or one with values that no client may send.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let wire: WireRequest<'_> = decode(bytes)?;
        let principal = wire.principal.read().ok_or(Malformed("the caller"))?;
        let visible = wire.request_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || !(1..=limits::REQUEST_ID_CHARS_MAX).contains(&wire.request_id.len()) {
            return Err(Malformed("the request id"));
        }
        if !wire.uri.starts_with('/') {
            return Err(Malformed("the path"));
        }
        Ok(Self {
            principal,
            request_id: wire.request_id.to_owned(),
            remaining_ms: wire.remaining_ms.min(limits::TIMEOUT_MS_MAX),
            method: Method::from_bytes(wire.method.as_bytes()).map_err(|_| Malformed("the method"))?,
            uri: wire.uri.parse().map_err(|_| Malformed("the path"))?,
            headers: headers(&wire.headers)?,
        })
    }
}

impl AnswerHead {
    /// The smallest of them.
    pub(crate) fn not_leader() -> Bytes {
        Bytes::from_static(&[VERSION, 0])
    }

    /// # Errors
    /// It is larger than a head may be.
    pub(crate) fn encode(&self) -> Result<Bytes, Malformed> {
        match self {
            Self::NotLeader => encode(&WireAnswer::NotLeader),
            Self::Served { status, headers, length, problem } => encode(&WireAnswer::Served {
                status: status.as_u16(),
                headers: wire_headers(headers),
                length: *length,
                problem: problem.as_deref(),
            }),
        }
    }

    /// # Errors
    /// Not a head, or one that is no answer of HTTP.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match decode(bytes)? {
            WireAnswer::NotLeader => Ok(Self::NotLeader),
            WireAnswer::Served { status, headers: wire, length, problem } => {
                let status = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 200);
                Ok(Self::Served {
                    status: status.ok_or(Malformed("the status"))?,
                    headers: headers(&wire)?,
                    length,
                    problem: problem.map(str::to_owned),
                })
            }
        }
    }
}

fn encode(wire: &impl Serialize) -> Result<Bytes, Malformed> {
    let bytes = postcard::to_extend(wire, vec![VERSION]).map_err(|_| Malformed("it cannot be written"))?;
    if bytes.len() > limits::FORWARD_HEAD_BYTES_MAX { Err(Malformed("it is too large")) } else { Ok(bytes.into()) }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    if bytes.len() > limits::FORWARD_HEAD_BYTES_MAX {
        return Err(Malformed("it is too large"));
    }
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((wire, [])) => Ok(wire),
            Ok(_) => Err(Malformed("bytes behind its end")),
            Err(_) => Err(Malformed("its bytes")),
        },
        _ => Err(Malformed("its version")),
    }
}

fn wire_headers(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

fn headers(wire: &[(&str, &[u8])]) -> Result<HeaderMap, Malformed> {
    if wire.len() > limits::REQUEST_HEADERS_MAX {
        return Err(Malformed("too many headers"));
    }
    let mut headers = HeaderMap::with_capacity(wire.len());
    for (name, value) in wire {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Malformed("the name of a header"))?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| Malformed("a header"))?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
