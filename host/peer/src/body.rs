//! A body: bytes that come piece by piece, with an end that can be told from a breakdown.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// The other side of a body vanished before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct BodyError;

/// A body of a forwarded request or of its answer.
///
/// A stream of pieces. It ends with `None`; a body that broke off gives one [`BodyError`] and then `None`.
/// Whoever reads slowly slows the sender: at most [`pointsman_model::limits::PEER_CREDIT_BYTES`] are on their way.
pub struct Body {
    inner: Inner,
}

enum Inner {
    Whole(Bytes),
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>),
    Ended,
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self { inner: Inner::Ended }
    }

    /// A body that is made while it is sent.
    pub fn new(pieces: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self { inner: Inner::Stream(Box::pin(pieces)) }
    }

    /// The next piece, never empty.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        StreamExt::next(self).await
    }
}

impl Body {
    /// Whether it is known that no further piece comes.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.inner, Inner::Ended)
    }

    /// The whole body, if it is here and at most `max` bytes; else itself again.
    pub(crate) fn small(self, max: usize) -> Result<Bytes, Self> {
        match self.inner {
            Inner::Whole(bytes) if bytes.len() <= max => Ok(bytes),
            inner => Err(Self { inner }),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { inner: if bytes.is_empty() { Inner::Ended } else { Inner::Whole(bytes) } }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = match &mut self.inner {
            Inner::Ended => None,
            Inner::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Inner::Stream(stream) => loop {
                match std::task::ready!(stream.as_mut().poll_next(context)) {
                    Some(Ok(piece)) if piece.is_empty() => {}
                    Some(Ok(piece)) => return Poll::Ready(Some(Ok(piece))),
                    end => break end,
                }
            },
        };
        // Also drops what was behind it: an ended or broken stream is not asked again.
        self.inner = Inner::Ended;
        Poll::Ready(item)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match &self.inner {
            Inner::Whole(_) => "Body(whole)",
            Inner::Stream(_) => "Body(stream)",
            Inner::Ended => "Body(ended)",
        })
    }
}
