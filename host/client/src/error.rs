//! Why a call gave no answer.

use pointsman_api_types::Problem;

/// A call that failed, or was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The base URL cannot be used.
    #[error("the URL `{url}` cannot be used: {reason}")]
    InvalidUrl {
        /// As given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A header, path or body could not be made from what was given. Nothing was sent.
    #[error("the request cannot be made: {0}")]
    InvalidRequest(String),
    /// No connection. Nothing was sent.
    #[error("no connection to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The connection failed after the request may have been sent: its outcome is not known.
    #[error("the connection to {address} broke, the outcome is not known: {source}")]
    Broken {
        /// `host:port`.
        address: String,
        /// The cause.
        source: hyper::Error,
    },
    /// No answer in time: the outcome is not known.
    #[error("no answer within {timeout_ms} ms, the outcome is not known")]
    Timeout {
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The server refused, and said why.
    #[error("{}", describe(.0))]
    Refused(Box<Problem>),
    /// An answer that is none of the contract's.
    #[error("an answer that the contract does not know (HTTP {status}): {detail}")]
    Unexpected {
        /// HTTP status.
        status: u16,
        /// What was found.
        detail: String,
    },
}

impl Error {
    /// The server's problem, if it refused.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    /// True if the same call may succeed later. A call that writes may have been done already where its outcome is not
    /// known.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.retryable,
            Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. } => true,
            Self::InvalidUrl { .. } | Self::InvalidRequest(_) | Self::Unexpected { .. } => false,
        }
    }
}

fn describe(problem: &Problem) -> String {
    let mut text = format!("{} ({})", problem.detail, problem.code);
    for error in &problem.errors {
        if !error.pointer.is_empty() {
            text.push_str(&format!(", at {}", error.pointer));
        }
        if error.detail != problem.detail {
            text.push_str(&format!(": {}", error.detail));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use pointsman_api_types::Code;

    use super::*;

    #[test]
    fn a_problem_is_told_once_and_with_its_place() {
        let told = |problem| Error::Refused(Box::new(problem)).to_string();
        assert_eq!(told(Problem::new(Code::TopicNotFound, "no topic `a`")), "no topic `a` (topic-not-found)");
        let placed = Problem::at(Code::InvalidRequest, "/queues", "not supported yet");
        assert_eq!(told(placed), "not supported yet (invalid-request), at /queues");
    }
}
