//! Counts of the peer port, shared by all its connections.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::seen::Counters;

/// The numbers behind [`Counters`].
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) garbage: AtomicU64,
    pub(crate) silent: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_frames: AtomicU64,
    pub(crate) received_frames: AtomicU64,
}

impl Tally {
    pub(crate) fn read(&self) -> Counters {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Counters {
            connections: of(&self.connections),
            connected: of(&self.connected),
            refused: of(&self.refused),
            garbage: of(&self.garbage),
            silent: of(&self.silent),
            sent_bytes: of(&self.sent_bytes),
            received_bytes: of(&self.received_bytes),
            sent_frames: of(&self.sent_frames),
            received_frames: of(&self.received_frames),
        }
    }

    /// Counts a connection that got through its hello, for as long as the answer lives.
    pub(crate) fn connection(&self) -> Connected<'_> {
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self)
    }
}

/// One open connection.
pub(crate) struct Connected<'a>(&'a Tally);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
