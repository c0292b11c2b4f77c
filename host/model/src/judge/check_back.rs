//! What a check-back plugin is asked, and what it answers. It does no I/O: it names a request, and judges the response.

use bytes::Bytes;

use crate::time::Timestamp;

/// A prepared transaction that nobody has ended, told by its first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// The transaction's id, as clients see it.
    pub transaction: String,
    /// Its producer group.
    pub producer_group: String,
    /// When it was prepared.
    pub prepared_at: Timestamp,
    /// The time the decision may rely on.
    pub now: Timestamp,
    /// How many messages it has.
    pub messages: u16,
    /// Name of the first message's topic.
    pub topic: String,
    /// The first message's tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its properties, as published.
    pub properties: Vec<(String, String)>,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its payload. A plugin sees it only if its plan asks for [`super::Field::Body`].
    pub body: Bytes,
}

/// What a plugin says of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckAnswer {
    /// Its messages become visible.
    Commit,
    /// They never do.
    Rollback,
    /// Nobody knows yet.
    Unknown {
        /// When to check again, from now on, at most [`crate::limits::CHECK_INTERVAL_MS_MAX`]; `None` is the
        /// transaction's own interval.
        after_ms: Option<u64>,
    },
    /// Ask this, and hand the response to `check_answer`. At most [`crate::limits::CHECK_REQUESTS_MAX`] a check.
    Ask(OutsideRequest),
}

/// An HTTP request that the host makes for a plugin, if the binding's allow-list has its host. Within the bounds
/// `CHECK_URL_BYTES_MAX`, `CHECK_HEADERS_MAX`, `CHECK_HEADERS_BYTES_MAX`, `CHECK_BODY_BYTES_MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideRequest {
    /// The method.
    pub method: OutsideMethod,
    /// An absolute URL; nothing of it has been checked but its length.
    pub url: String,
    /// Names and values in the order given. Nothing of them has been checked but their number and length.
    pub headers: Vec<(String, String)>,
    /// The body; empty is none.
    pub body: Bytes,
}

/// The methods a plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutsideMethod {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
}

impl OutsideMethod {
    /// As HTTP writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// What came of an [`OutsideRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResponse {
    /// An answer.
    Answered {
        /// HTTP status.
        status: u16,
        /// Names, in lower case, and values that are UTF-8.
        headers: Vec<(String, String)>,
        /// The body, cut to [`crate::limits::CHECK_BODY_BYTES_MAX`].
        body: Bytes,
    },
    /// None: refused by the host, not reachable, too slow. In words.
    Failed(String),
}
