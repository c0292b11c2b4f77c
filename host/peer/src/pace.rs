//! How long things may take; tests take shorter ones.

use std::time::Duration;

use pointsman_model::limits;

/// The times of the mesh.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Everything before the end of the hello.
    pub(crate) hello: Duration,
    /// One attempt to connect.
    pub(crate) connect: Duration,
    /// Between two pings.
    pub(crate) ping: Duration,
    /// So many pings' time of silence end a connection.
    pub(crate) silence_ticks: u64,
    /// First pause between attempts to connect.
    pub(crate) backoff_min: Duration,
    /// Longest pause.
    pub(crate) backoff_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            hello: Duration::from_millis(limits::PEER_HELLO_MS),
            connect: Duration::from_millis(limits::PEER_CONNECT_MS),
            ping: Duration::from_millis(limits::PEER_PING_MS),
            silence_ticks: limits::PEER_SILENCE_MS / limits::PEER_PING_MS,
            backoff_min: Duration::from_millis(limits::PEER_BACKOFF_MS_MIN),
            backoff_max: Duration::from_millis(limits::PEER_BACKOFF_MS_MAX),
        }
    }
}
