//! Flow control of forwarded bodies: the sender spends credit, the reader gives it back as it reads.
//!
//! Both directions of a session, and both sides of a connection, use the same parts. A piece costs its length, but at
//! least [`limits::PEER_CHUNK_COST_BYTES_MIN`], so that a flood of tiny pieces is bounded too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use pointsman_model::limits;
use tokio::sync::{Semaphore, mpsc};

use crate::body::{Body, BodyError};
use crate::frame::write::Outgoing;
use crate::frame::{Broken, END, Head, Kind};
use crate::outbox::Outbox;

/// Credit is given back in steps of this.
const STEP_BYTES: usize = limits::PEER_CREDIT_BYTES / 4;
/// Most pieces that credit allows, and the end.
const PIECES_MAX: usize = limits::PEER_CREDIT_BYTES / limits::PEER_CHUNK_COST_BYTES_MIN + 1;

fn cost(piece: &[u8]) -> usize {
    piece.len().max(limits::PEER_CHUNK_COST_BYTES_MIN)
}

/// What a sender may still send.
#[derive(Debug)]
pub(crate) struct Credit {
    free: Semaphore,
    spent: AtomicUsize,
}

impl Credit {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { free: Semaphore::new(limits::PEER_CREDIT_BYTES), spent: AtomicUsize::new(0) })
    }

    async fn spend(&self, cost: usize) {
        let count = u32::try_from(cost).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        if let Ok(permits) = self.free.acquire_many(count).await {
            self.spent.fetch_add(cost, Ordering::AcqRel);
            permits.forget();
        }
    }

    /// Spends of what nobody else has touched yet.
    fn spend_first(&self, cost: usize) {
        let forgotten = self.free.forget_permits(cost);
        assert_eq!(forgotten, cost, "the first piece is smaller than the credit");
        self.spent.fetch_add(cost, Ordering::AcqRel);
    }

    /// Takes back what a credit frame gives.
    ///
    /// # Errors
    /// It gives more than was spent.
    pub(crate) fn give_back(&self, mut body: &[u8]) -> Result<(), Broken> {
        if body.len() != 4 {
            return Err(Broken::Rule("a credit of another length"));
        }
        let cost = body.get_u32_le() as usize;
        let spent = self.spent.fetch_update(Ordering::AcqRel, Ordering::Acquire, |spent| spent.checked_sub(cost));
        if spent.is_err() {
            return Err(Broken::Rule("credit beyond what was spent"));
        }
        self.free.add_permits(cost);
        Ok(())
    }
}

/// Sends a body at once if that needs no waiting: a small one that is here, on credit not yet touched. Else gives it back.
///
/// # Errors
/// None: the body, for [`pump`].
pub(crate) fn send_small(
    body: Body,
    session: u32,
    outbox: &Outbox,
    credit: &Credit,
    left: Option<Arc<AtomicBool>>,
) -> Result<(), Body> {
    let piece = body.small(limits::PEER_CHUNK_BYTES_MAX)?;
    credit.spend_first(cost(&piece));
    let head = Head::new(Kind::ForwardChunk, session).flagged(END);
    outbox.push(Outgoing { head, pieces: piece.into(), left });
    Ok(())
}

/// Sends a body to its end, as credit allows.
///
/// `left` is set once the last piece may have left.
///
/// # Errors
/// The body broke off; nothing says so to the other side yet.
pub(crate) async fn pump(
    mut body: Body,
    session: u32,
    outbox: &Outbox,
    credit: &Credit,
    left: Option<Arc<AtomicBool>>,
) -> Result<(), BodyError> {
    let head = Head::new(Kind::ForwardChunk, session);
    while let Some(piece) = body.next().await {
        let mut piece = piece?;
        while !piece.is_empty() {
            let part = piece.split_to(piece.len().min(limits::PEER_CHUNK_BYTES_MAX));
            credit.spend(cost(&part)).await;
            outbox.room().await;
            if piece.is_empty() && body.is_over() {
                outbox.push(Outgoing { head: head.flagged(END), pieces: part.into(), left });
                return Ok(());
            }
            outbox.push(Outgoing::new(head, part));
        }
    }
    outbox.push(Outgoing { left, ..Outgoing::bare(head.flagged(END)) });
    Ok(())
}

/// Where the pieces of an arriving body go.
#[derive(Debug)]
pub(crate) struct Inlet {
    pieces: mpsc::Sender<Piece>,
    unread: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Piece {
    Some(Bytes),
    End,
}

impl Inlet {
    /// Takes a piece; `end` if it is the last. Pieces of a body that nobody reads any more are dropped.
    ///
    /// # Errors
    /// The sender had no credit for it.
    pub(crate) fn push(&self, piece: Bytes, end: bool) -> Result<(), Broken> {
        if !piece.is_empty() {
            let cost = cost(&piece);
            if self.unread.fetch_add(cost, Ordering::AcqRel) + cost > limits::PEER_CREDIT_BYTES {
                return Err(Broken::Rule("a piece of a body beyond the credit"));
            }
            self.put(Piece::Some(piece))?;
        }
        if end { self.put(Piece::End) } else { Ok(()) }
    }

    fn put(&self, piece: Piece) -> Result<(), Broken> {
        match self.pieces.try_send(piece) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Broken::Rule("pieces of a body beyond the credit")),
        }
    }
}

/// A body that arrives piece by piece. It breaks off when its [`Inlet`] is dropped before the end.
pub(crate) fn arriving(session: u32, outbox: Arc<Outbox>) -> (Inlet, Arriving) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let unread = Arc::new(AtomicUsize::new(0));
    let inlet = Inlet { pieces: sender, unread: Arc::clone(&unread) };
    (inlet, Arriving { session, outbox, pieces, unread, read: 0 })
}

/// The reading end of an [`Inlet`].
#[derive(Debug)]
pub(crate) struct Arriving {
    session: u32,
    outbox: Arc<Outbox>,
    pieces: mpsc::Receiver<Piece>,
    unread: Arc<AtomicUsize>,
    /// Read and not yet given back.
    read: usize,
}

impl Arriving {
    /// As a body; `guard` is dropped with it, or at its end.
    pub(crate) fn guarded(self, guard: impl Send + Unpin + 'static) -> Body {
        Body::new(Guarded { arriving: self, _guard: guard })
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match ready!(self.pieces.poll_recv(context)) {
            Some(Piece::Some(piece)) => {
                self.read += cost(&piece);
                if self.read >= STEP_BYTES {
                    self.give_back();
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Some(Piece::End) => Poll::Ready(None),
            None => Poll::Ready(Some(Err(BodyError))),
        }
    }

    fn give_back(&mut self) {
        let read = std::mem::take(&mut self.read);
        self.unread.fetch_sub(read, Ordering::AcqRel);
        let given = u32::try_from(read).unwrap_or(u32::MAX).to_le_bytes();
        self.outbox.push(Outgoing::new(Head::new(Kind::Credit, self.session), Bytes::copy_from_slice(&given)));
    }
}

struct Guarded<G> {
    arriving: Arriving,
    _guard: G,
}

impl<G: Unpin> Stream for Guarded<G> {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.arriving.poll_piece(context)
    }
}
