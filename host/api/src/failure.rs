//! From a refusal to a problem: the one place that maps the broker's errors to codes of the contract.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use pointsman_api_types::problem::FieldError;
use pointsman_api_types::{Code, Decimal, Problem};
use pointsman_broker::Error;
use pointsman_model::limits;

/// What a handler answers instead of a result. Travels as a response extension to `edge`, which renders it.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    problem: Problem,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// With the place: a JSON pointer, or the name of a query parameter or header.
    pub(crate) fn at(code: Code, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Problem::at(code, pointer, detail).into()
    }

    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::at(Code::InvalidRequest, pointer, detail)
    }

    /// Part of the contract, but not of this release: refused and never ignored.
    pub(crate) fn unsupported(pointer: impl Into<String>, what: &str) -> Self {
        Self::invalid(pointer, format!("{what}: not supported yet"))
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.0.problem.code
    }

    #[cfg(test)]
    pub(crate) fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// The problem, for a result inside an answer.
    pub(crate) fn into_problem(self) -> Problem {
        cut(self.0.problem)
    }

    /// The whole answer.
    pub(crate) fn render(self, request_id: &str) -> Response {
        let Parts { problem, headers } = *self.0;
        let mut problem = cut(problem);
        problem.request_id = Some(request_id.to_owned());
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(ms) = problem.retry_after_ms {
            out.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000).max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            out.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        out.extend(headers);
        response
    }
}

/// Errors quote a bounded part of the input.
fn cut(mut problem: Problem) -> Problem {
    cut_text(&mut problem.detail);
    for error in &mut problem.errors {
        cut_text(&mut error.detail);
        cut_text(&mut error.pointer);
    }
    problem
}

fn cut_text(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(limits::ERROR_QUOTE_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
}

impl From<Problem> for Failure {
    fn from(mut problem: Problem) -> Self {
        if problem.retry_after_ms.is_none() {
            problem.retry_after_ms = retry_after_ms(problem.code);
        }
        Self(Box::new(Parts { problem, headers: Vec::new() }))
    }
}

/// When a passing refusal is worth another try. 429 and 503 always say.
fn retry_after_ms(code: Code) -> Option<u64> {
    match code {
        Code::NoLeader => Some(500),
        Code::Overloaded | Code::TooManyInflight | Code::QuotaExceeded | Code::PluginUnavailable | Code::Draining => {
            Some(1_000)
        }
        Code::StorageFailed | Code::DiskFull => Some(5_000),
        _ => None,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::InvalidRequest { pointer, detail } => Self::invalid(pointer, detail),
            Error::InvalidName { pointer, detail } => Self::at(Code::InvalidName, pointer, detail),
            Error::InvalidCursor { detail } => Self::at(Code::InvalidCursor, "cursor", detail),
            Error::InvalidFilter { pointer, detail, position } => {
                let mut problem = Problem::at(Code::InvalidFilter, pointer, detail);
                problem.position = position;
                problem.into()
            }
            Error::TenantNotFound => Self::new(Code::TenantNotFound, detail),
            Error::TopicNotFound(_) => Self::new(Code::TopicNotFound, detail),
            Error::GroupNotFound(_) => Self::new(Code::GroupNotFound, detail),
            Error::MessageNotFound => Self::new(Code::MessageNotFound, detail),
            Error::PluginNotFound(_) => Self::new(Code::PluginNotFound, detail),
            Error::BindingNotFound(_) => Self::new(Code::BindingNotFound, detail),
            Error::AlreadyExists(_) => Self::new(Code::AlreadyExists, detail),
            Error::ScheduleNotFound(_) => Self::new(Code::ScheduleNotFound, detail),
            Error::AlreadyDelivered => Self::new(Code::AlreadyDelivered, detail),
            Error::TransactionNotFound => Self::new(Code::TransactionNotFound, detail),
            Error::TransactionResolved(state) => {
                let mut problem = Problem::new(Code::TransactionResolved, detail);
                problem.state = Some(state.as_str().to_owned());
                problem.into()
            }
            Error::InUse(users) => {
                let mut problem = Problem::new(Code::InUse, detail);
                problem.users = Some(users);
                problem.into()
            }
            Error::IdempotencyMismatch => Self::new(Code::IdempotencyMismatch, detail),
            Error::PreconditionFailed => Self::new(Code::PreconditionFailed, detail),
            Error::OffsetExpired { earliest } => {
                let mut problem = Problem::new(Code::OffsetExpired, detail);
                problem.earliest = Some(Decimal(earliest));
                problem.into()
            }
            Error::MessageTooLarge { .. } => Self::new(Code::MessageTooLarge, detail),
            Error::BatchTooLarge(_) => Self::new(Code::BatchTooLarge, detail),
            Error::PluginTooLarge { .. } => Self::new(Code::PluginTooLarge, detail),
            Error::PluginRejected(_) => Self::new(Code::PluginRejected, detail),
            Error::PluginInvalid(complaints) => {
                let mut problem = Problem::new(Code::PluginInvalid, detail);
                problem.errors = complaints
                    .into_iter()
                    .map(|c| FieldError { pointer: String::new(), code: c.code, detail: c.detail })
                    .collect();
                problem.into()
            }
            Error::TooManyInflight { retry_after_ms } => {
                let mut problem = Problem::new(Code::TooManyInflight, detail);
                problem.retry_after_ms = Some(retry_after_ms);
                problem.into()
            }
            Error::QuotaExceeded(_) => Self::new(Code::QuotaExceeded, detail),
            Error::RateExceeded { retry_after_ms, .. } => {
                let mut problem = Problem::new(Code::QuotaExceeded, detail);
                problem.retry_after_ms = Some(retry_after_ms);
                problem.into()
            }
            Error::Unauthenticated(_) => Self::at(Code::Unauthenticated, "Authorization", detail),
            Error::TokenExpired => Self::at(Code::TokenExpired, "Authorization", detail),
            Error::TokenRevoked => Self::at(Code::TokenRevoked, "Authorization", detail),
            Error::Forbidden(_) => Self::new(Code::Forbidden, detail),
            Error::TokenNotFound => Self::new(Code::TokenNotFound, detail),
            Error::NoLeader => Self::new(Code::NoLeader, detail),
            Error::Overloaded(_) => Self::new(Code::Overloaded, detail),
            Error::Draining => Self::new(Code::Draining, detail),
            Error::PluginUnavailable(_) => Self::new(Code::PluginUnavailable, detail),
            Error::StorageFailed(_) => Self::new(Code::StorageFailed, detail),
            Error::DiskFull => Self::new(Code::DiskFull, detail),
            Error::OutcomeUnknown => Self::new(Code::OutcomeUnknown, detail),
            Error::Internal(_) => internal(&detail),
            // The enum is open; a variant without a row here is our fault, not the client's.
            other => internal(&other.to_string()),
        }
    }
}

/// What broke is for the log; the client gets the request id.
pub(crate) fn internal(detail: &str) -> Failure {
    tracing::error!(detail, "internal error");
    Failure::new(Code::Internal, "the broker failed; its log says why")
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.0.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_answers_always_say_when_to_come_back() {
        for code in Code::ALL {
            if matches!(code.status(), 429 | 503) {
                let response = Failure::new(*code, "x").render("r");
                assert!(response.headers().contains_key(header::RETRY_AFTER), "{code}");
            }
        }
        let response = Failure::from(Error::TooManyInflight { retry_after_ms: 1_001 }).render("r");
        assert_eq!(response.headers()[header::RETRY_AFTER], "2", "whole seconds, rounded up");
    }

    #[test]
    fn long_input_is_cut() {
        let problem = Failure::invalid("x".repeat(600), "é".repeat(501)).into_problem();
        assert_eq!(problem.errors[0].pointer.chars().count(), 501);
        assert_eq!(problem.detail.chars().count(), 501);
        let problem = Failure::invalid("", "é".repeat(500)).into_problem();
        assert_eq!(problem.detail.chars().count(), 500);
    }
}
