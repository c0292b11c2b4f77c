//! What a node knows of another, and counts of what happened on its peer port.

use std::time::Duration;

use crate::handler::Hello;

/// What this node knows of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What it said last; `None` as long as it was never reached.
    pub hello: Option<Hello>,
    /// Whether all our connections to it are open.
    pub connected: bool,
    /// Why the last attempt in either direction was refused, or the address cannot be used; gone with the next that is not.
    pub refused: Option<String>,
    /// One of the two said so in words, by its own rules; else the connection broke, or nobody could talk on it.
    pub refused_in_words: bool,
    /// How long a ping on the control connection took last.
    pub round_trip: Option<Duration>,
}

/// Counts since the start, but for `connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections open now, both directions.
    pub connections: u64,
    /// Connections that were opened and got through the hello, both directions.
    pub connected: u64,
    /// Connections refused in words: strangers, another cluster, an old protocol.
    pub refused: u64,
    /// Connections closed because something else than a frame arrived, or a frame that breaks the rules.
    pub garbage: u64,
    /// Connections closed because the other side fell silent.
    pub silent: u64,
    /// Bytes sent, before TLS.
    pub sent_bytes: u64,
    /// Bytes received, after TLS.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Frames received.
    pub received_frames: u64,
}
