//! Node-to-node frames: how the nodes of a cluster reach each other.
//!
//! [`Peers`] listens on the peer port and dials every other node for ever. Between an ordered pair of nodes there are
//! three TCP connections, one a lane: *append* (replication), *control* (votes, heartbeats) and *bulk*
//! (checkpoints, forwarded requests). The node that dialed sends its requests out on them and gets its answers back on
//! the same connection, so a pair that talks both ways has six, and no connection serves two directions of calls.
//!
//! | module | holds |
//! |---|---|
//! | [`peers`] | [`Peers`]: start, calls, streams, forwards, shutdown |
//! | [`handler`] | what a node does with what arrives: [`Handler`], [`Hello`] |
//! | [`body`] | [`Body`]: a stream of bytes with flow control |
//! | [`config`] | where to listen, whom to dial, TLS files |
//! | [`error`] | why a call has no answer |
//!
//! What it is not: it knows no message, no Raft and no HTTP. Bytes go in and come out; every call ends by itself, an append
//! stream keeps its order, nothing is ever sent twice. Nothing that arrives is trusted before its checksum and its
//! sender's hello hold; what is not a frame closes the connection it came on and touches no other.
//!
//! The bytes are in `docs/reference/peer-protocol.md`, the choices in `docs/adr/0017-peer-protocol.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should"))]

pub mod body;
mod caller;
mod complaints;
pub mod config;
mod connection;
pub mod error;
mod flow;
mod frame;
pub mod handler;
mod handshake;
mod hello;
mod lane;
mod link;
mod mesh;
mod outbox;
mod pace;
pub mod peers;
pub mod seen;
mod server;
mod serving;
mod tally;
mod tls;

#[cfg(test)]
mod tests;

pub use body::{Body, BodyError};
pub use config::{PeersConfig, TlsFiles};
pub use error::{CallError, Error, ForwardError};
pub use handler::{BoxFuture, ForwardAnswer, Forwarded, Handler, Hello, Service};
pub use peers::Peers;
pub use seen::{Counters, Seen};
