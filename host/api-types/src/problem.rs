//! Problems (RFC 9457) and the one table of error codes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Decimal;

/// Where the page of a problem type lives; its code follows.
pub const TYPE_BASE: &str = "https://pointsman.dev/problems/";

macro_rules! codes {
    ($($name:ident $text:literal $status:literal $retryable:literal $title:literal;)*) => {
        /// An error code of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status it goes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The same call may succeed later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// A few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    InvalidRequest "invalid-request" 400 false "The request is not valid";
    InvalidName "invalid-name" 400 false "A name is not valid";
    InvalidCursor "invalid-cursor" 400 false "A cursor is not valid";
    InvalidFilter "invalid-filter" 400 false "A filter is not valid";
    TooDeep "too-deep" 400 false "The JSON is nested too deeply";
    Unauthenticated "unauthenticated" 401 false "No valid credentials";
    TokenExpired "token-expired" 401 false "The token has expired";
    TokenRevoked "token-revoked" 401 false "The token was revoked";
    Forbidden "forbidden" 403 false "The call is not allowed";
    NotFound "not-found" 404 false "No such route";
    TenantNotFound "tenant-not-found" 404 false "No such tenant";
    TopicNotFound "topic-not-found" 404 false "No such topic";
    GroupNotFound "group-not-found" 404 false "No such group";
    MessageNotFound "message-not-found" 404 false "No such message";
    TransactionNotFound "transaction-not-found" 404 false "No such transaction";
    PluginNotFound "plugin-not-found" 404 false "No such plugin";
    BindingNotFound "binding-not-found" 404 false "No such binding";
    TokenNotFound "token-not-found" 404 false "No such token";
    ScheduleNotFound "schedule-not-found" 404 false "No such schedule";
    JobNotFound "job-not-found" 404 false "No such job";
    MethodNotAllowed "method-not-allowed" 405 false "The route has no such method";
    NotAcceptable "not-acceptable" 406 false "No acceptable form of the answer";
    RequestTimeout "request-timeout" 408 true "The request did not arrive in time";
    AlreadyExists "already-exists" 409 false "It exists already";
    InUse "in-use" 409 false "It is in use";
    AlreadyDelivered "already-delivered" 409 false "It was delivered already";
    TransactionResolved "transaction-resolved" 409 false "The transaction has another verdict";
    OffsetExpired "offset-expired" 410 false "The offset is no longer kept";
    PreconditionFailed "precondition-failed" 412 false "The precondition does not hold";
    MessageTooLarge "message-too-large" 413 false "The message is too large";
    BatchTooLarge "batch-too-large" 413 false "The batch is too large";
    BodyTooLarge "body-too-large" 413 false "The body is too large";
    PluginTooLarge "plugin-too-large" 413 false "The plugin is too large";
    UnsupportedMediaType "unsupported-media-type" 415 false "The body has a type that is not taken here";
    IdempotencyMismatch "idempotency-mismatch" 422 false "The idempotency key was used for something else";
    PluginRejected "plugin-rejected" 422 false "A plugin refused the message";
    PluginInvalid "plugin-invalid" 422 false "The component is not a valid plugin";
    CrossShard "cross-shard" 422 false "The call would span shards";
    PreconditionRequired "precondition-required" 428 false "If-Match is required";
    QuotaExceeded "quota-exceeded" 429 true "A quota is used up";
    TooManyInflight "too-many-inflight" 429 true "Too many leases are in flight";
    HeadersTooLarge "headers-too-large" 431 false "The headers are too large";
    Internal "internal" 500 false "The broker failed";
    NoLeader "no-leader" 503 true "The shard has no leader";
    Draining "draining" 503 true "The node is shutting down";
    Overloaded "overloaded" 503 true "The node is overloaded";
    PluginUnavailable "plugin-unavailable" 503 true "A plugin cannot run";
    StorageFailed "storage-failed" 503 true "The storage failed";
    OutcomeUnknown "outcome-unknown" 504 true "The outcome is not known";
    DiskFull "disk-full" 507 true "The disk is full";
}

impl Code {
    /// The URL of the problem type.
    #[must_use]
    pub fn type_url(self) -> String {
        format!("{TYPE_BASE}{}", self.as_str())
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// URL of a page about the code.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    pub type_url: String,
    /// A few words, the same for each problem of the code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// The code; what programs look at.
    pub code: Code,
    /// The same call may succeed later.
    pub retryable: bool,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
    /// The request, as in `Pm-Request-Id`; null inside a result.
    pub request_id: Option<String>,
    /// Each place that is wrong.
    pub errors: Vec<FieldError>,
    /// `invalid-filter`: where in the expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// `offset-expired`: the first offset kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest: Option<Decimal>,
    /// `transaction-resolved`: the verdict it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `in-use`: the names of the users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<String>>,
}

/// One place that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body, or the name of a query parameter or header.
    pub pointer: String,
    /// What kind of error.
    pub code: String,
    /// In words.
    pub detail: String,
}

impl Problem {
    /// A problem of that code.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            type_url: code.type_url(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            retryable: code.retryable(),
            retry_after_ms: None,
            request_id: None,
            errors: Vec::new(),
            position: None,
            earliest: None,
            state: None,
            users: None,
        }
    }

    /// A problem with one place.
    #[must_use]
    pub fn at(code: Code, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let mut problem = Self::new(code, detail.clone());
        problem.errors.push(FieldError { pointer: pointer.into(), code: code.as_str().to_owned(), detail });
        problem
    }
}

impl From<crate::Error> for Problem {
    fn from(error: crate::Error) -> Self {
        Self::at(error.code, error.pointer, error.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_written_as_its_text_and_has_an_error_status() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).expect("string"), code.as_str());
            assert!((400..600).contains(&code.status()), "{code}");
            assert_eq!(code.retryable(), matches!(code.status(), 408 | 429 | 503 | 504 | 507), "{code}");
        }
    }
}
