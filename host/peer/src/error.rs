//! Why the peer port did not open, and why a call has no answer.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why [`crate::Peers`] did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer port is not free, or the address is not ours.
    #[error("cannot listen for peers on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Without TLS anybody who reaches the port could be a node.
    #[error(
        "the peer address {listen} is not a loopback address: give --peer-tls-ca, --peer-tls-cert and --peer-tls-key"
    )]
    PlainBeyondLoopback {
        /// The address.
        listen: SocketAddr,
    },
    /// A PEM file could not be read, or holds something else.
    #[error("{path}: {reason}", path = path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files were read but make no TLS configuration.
    #[error("peer TLS: {reason}")]
    Tls {
        /// What is wrong.
        reason: String,
    },
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Surely not delivered: there was no connection, or it broke before the request left.
    #[error("the node cannot be reached")]
    Unreachable,
    /// Sent, and no answer came in time or the connection broke.
    #[error("the node did not answer")]
    Unanswered,
    /// The other side refused to serve it, or this side to send it, in words. Nothing was done.
    #[error("refused: {0}")]
    Refused(String),
}

/// Why a forwarded request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// Surely not delivered whole: no connection, or it broke before the last chunk of the request left.
    #[error("the request was not sent")]
    NotSent,
    /// Sent, and the connection broke before an answer came.
    #[error("the request was sent and its answer lost")]
    Lost,
    /// The other side takes no more of them. Nothing was done.
    #[error("refused: {0}")]
    Refused(String),
}
