//! The pace of a stream of leases: no piece is made before the one before it was taken by the client's connection.
//!
//! A lease counts as written once its piece is made. Between nodes a quarter of a megabyte may be on its way, so the entry
//! node tells, in the body of the request, how many bytes of the answer its connection has taken; the other end makes the
//! next piece when that is all of them. A client that hangs up has then seen all that counts as written, but for one piece.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, Stream};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{BodyLost, ForwardBody};

/// Bytes of one report: the total, little-endian.
const REPORT_BYTES: usize = 8;

/// The entry's end: an answer that reports what was taken of it.
pub(super) struct Reporting {
    answer: ForwardBody,
    taken: u64,
    reports: watch::Sender<u64>,
}

/// The body of the request whose answer reports.
pub(super) fn reports() -> (watch::Sender<u64>, ForwardBody) {
    let (reports, heard) = watch::channel(0);
    let body = stream::unfold(heard, |mut heard| async move {
        // Ends with the answer.
        heard.changed().await.ok()?;
        let taken: u64 = *heard.borrow_and_update();
        Some((Ok(Bytes::copy_from_slice(&taken.to_le_bytes())), heard))
    });
    (reports, body.boxed())
}

impl Reporting {
    pub(super) fn new(answer: ForwardBody, reports: watch::Sender<u64>) -> Self {
        Self { answer, taken: 0, reports }
    }
}

impl Stream for Reporting {
    type Item = Result<Bytes, BodyLost>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Asked for more: all before is taken.
        let taken = self.taken;
        self.reports.send_if_modified(|told| std::mem::replace(told, taken) != taken);
        let piece = ready!(self.answer.poll_next_unpin(context));
        if let Some(Ok(bytes)) = &piece {
            self.taken += bytes.len() as u64;
        }
        Poll::Ready(piece)
    }
}

/// The other end: waits until what was made is taken.
pub(crate) struct Pace {
    reports: Body,
    rest: Vec<u8>,
    taken: u64,
}

/// Gives a [`Pace`] to one handler.
#[derive(Clone)]
pub(crate) struct PaceSlot(Arc<Mutex<Option<Pace>>>);

impl PaceSlot {
    pub(super) fn new(reports: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(Pace { reports, rest: Vec::new(), taken: 0 }))))
    }

    /// The pace, once.
    pub(crate) fn take(&self) -> Option<Pace> {
        self.0.lock().take()
    }
}

impl Pace {
    /// Waits until so many bytes are taken; false if the other node is gone. Dropping the future loses nothing.
    pub(crate) async fn taken(&mut self, made: u64) -> bool {
        loop {
            while let Some((report, rest)) = self.rest.split_first_chunk::<REPORT_BYTES>() {
                self.taken = self.taken.max(u64::from_le_bytes(*report));
                self.rest = rest.to_vec();
            }
            if self.taken >= made {
                // Reports that came meanwhile must not pile up.
                while let Some(frame) = self.reports.frame().now_or_never() {
                    if !self.hear(frame) {
                        return false;
                    }
                }
                return true;
            }
            let frame = self.reports.frame().await;
            if !self.hear(frame) {
                return false;
            }
        }
    }

    fn hear(&mut self, frame: Option<Result<http_body::Frame<Bytes>, axum::Error>>) -> bool {
        match frame {
            Some(Ok(frame)) => {
                self.rest.extend(frame.into_data().unwrap_or_default());
                true
            }
            Some(Err(_)) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_piece_waits_until_the_one_before_is_taken() {
        let (reports, request) = reports();
        let pieces: Vec<Result<Bytes, BodyLost>> = vec![Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"de"))];
        let mut answer = Reporting::new(stream::iter(pieces).chain(stream::pending()).boxed(), reports);
        let mut pace = PaceSlot::new(Body::from_stream(request)).take().expect("a pace");
        assert!(pace.taken(0).await, "the first piece waits for nobody");
        assert!(answer.next().await.is_some_and(|piece| piece.is_ok()));
        assert!(pace.taken(3).now_or_never().is_none(), "it is on its way");
        assert!(answer.next().await.is_some_and(|piece| piece.is_ok()));
        assert!(pace.taken(3).await, "asked for more, hence taken");
        assert!(pace.taken(5).now_or_never().is_none());
        assert!(answer.next().now_or_never().is_none());
        assert!(pace.taken(5).await);
        drop(answer);
        assert!(!pace.taken(6).await, "the client hung up");
    }
}
