//! What a connection still has to send.
//!
//! Pushing never waits, so that a cancel can be sent from a `drop`; what is queued is bounded by what may be pushed:
//! streams by their window, bodies by their credit and both by [`Outbox::room`], calls by their number. A peer that makes
//! us queue more than that by not reading answers loses the connection.

use std::mem;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use pointsman_model::limits;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::frame::write::Outgoing;
use crate::frame::{Head, Kind};

/// The queue of frames between those who send and the task that writes.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    started: Instant,
    /// Ends the connection; also when too much is queued.
    pub(crate) stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    frames: Vec<Outgoing>,
    bytes: usize,
    /// A pong is queued: a flood of pings is answered once.
    pong: bool,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), emptied: Notify::new(), started: Instant::now(), stop }
    }

    /// Queues a frame. `false` if the connection takes no more: the frame surely does not leave.
    pub(crate) fn push(&self, frame: Outgoing) -> bool {
        let mut queue = self.queue.lock();
        if queue.closed {
            return false;
        }
        if queue.frames.len() >= limits::PEER_QUEUE_FRAMES_MAX {
            drop(queue);
            self.stop.cancel();
            return false;
        }
        queue.bytes += frame.wire_bytes();
        queue.frames.push(frame);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Microseconds of the connection's own clock, which wraps: says when a ping went out.
    pub(crate) fn clock_us(&self) -> u32 {
        (self.started.elapsed().as_micros() & u128::from(u32::MAX)) as u32
    }

    /// Queues the answer to a ping, unless one is queued.
    pub(crate) fn push_pong(&self, sequence: u32) {
        if !mem::replace(&mut self.queue.lock().pong, true) {
            self.push(Outgoing::bare(Head::new(Kind::Pong, 0).at(sequence)));
        }
    }

    /// Waits until little is queued. At once if the connection takes no more.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            // Again, for it may have been emptied before anybody listened.
            if self.has_room() {
                return;
            }
            emptied.await;
        }
    }

    fn has_room(&self) -> bool {
        let queue = self.queue.lock();
        queue.closed || queue.bytes < limits::PEER_QUEUE_BYTES
    }

    /// Waits for frames and moves all of them into `batch`, in order; from now on they count as having left.
    /// `false` once the outbox is closed and empty.
    pub(crate) async fn take(&self, batch: &mut Vec<Outgoing>) -> bool {
        loop {
            {
                let mut queue = self.queue.lock();
                if !queue.frames.is_empty() {
                    mem::swap(&mut queue.frames, batch);
                    (queue.bytes, queue.pong) = (0, false);
                    drop(queue);
                    for left in batch.iter().filter_map(|frame| frame.left.as_ref()) {
                        left.store(true, Ordering::Release);
                    }
                    self.emptied.notify_waiters();
                    return true;
                }
                if queue.closed {
                    return false;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Takes no more frames. Those queued may still be taken.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// [`Outbox::close`], and forgets what is queued.
    pub(crate) fn abandon(&self) {
        self.close();
        self.queue.lock().frames.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use futures_util::FutureExt;
    use pointsman_model::limits;
    use tokio_util::sync::CancellationToken;

    use super::{Outbox, Outgoing};
    use crate::frame::{HEADER_BYTES, Head, Kind};

    fn outbox() -> Outbox {
        Outbox::new(CancellationToken::new())
    }

    fn frame(length: usize) -> Outgoing {
        Outgoing::new(Head::new(Kind::Reply, 0), Bytes::from(vec![0; length]))
    }

    #[tokio::test]
    async fn there_is_room_until_much_is_queued_and_again_when_it_was_taken() {
        for leaves in [false, true] {
            let outbox = outbox();
            outbox.push(frame(limits::PEER_QUEUE_BYTES - HEADER_BYTES - 1));
            assert!(outbox.room().now_or_never().is_some(), "one byte below");
            outbox.push(frame(0));
            let mut room = Box::pin(outbox.room());
            assert!(room.as_mut().now_or_never().is_none(), "above");
            if leaves {
                assert!(outbox.take(&mut Vec::new()).await);
            } else {
                outbox.close();
            }
            assert!(room.now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn a_frame_counts_as_having_left_when_it_is_taken_and_never_if_it_is_abandoned() {
        for taken in [false, true] {
            let (outbox, left) = (outbox(), Arc::new(AtomicBool::new(false)));
            assert!(outbox.push(Outgoing { left: Some(Arc::clone(&left)), ..frame(1) }));
            assert!(!left.load(Ordering::Acquire));
            if taken {
                assert!(outbox.take(&mut Vec::new()).await);
            } else {
                outbox.abandon();
                assert!(!outbox.take(&mut Vec::new()).await);
            }
            assert_eq!(left.load(Ordering::Acquire), taken);
        }
    }

    #[tokio::test]
    async fn what_was_queued_before_the_close_is_still_taken() {
        let outbox = outbox();
        assert!(outbox.push(frame(1)));
        outbox.close();
        assert!(!outbox.push(frame(1)));
        let mut batch = Vec::new();
        assert!(outbox.take(&mut batch).await);
        assert_eq!(batch.len(), 1);
        assert!(!outbox.take(&mut batch).await);
    }

    #[test]
    fn a_queue_one_below_at_and_above_its_bound_and_pongs() {
        let outbox = outbox();
        outbox.push_pong(1);
        outbox.push_pong(2);
        for queued in 1..limits::PEER_QUEUE_FRAMES_MAX {
            assert!(outbox.push(frame(0)), "{queued} queued");
        }
        assert!(!outbox.stop.is_cancelled());
        assert!(!outbox.push(frame(0)));
        assert!(outbox.stop.is_cancelled());
    }
}
