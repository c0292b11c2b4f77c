//! A body: bytes that come piece by piece, with an end that can be told from a breakdown.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

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
    /// Pieces that were looked at and come first.
    ahead: VecDeque<Result<Bytes, BodyError>>,
    inner: Inner,
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

enum Inner {
    Whole(Bytes),
    Stream(Pieces),
    Ended,
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self::made(Inner::Ended)
    }

    fn made(inner: Inner) -> Self {
        Self { ahead: VecDeque::new(), inner }
    }

    /// A body that is made while it is sent.
    pub fn new(pieces: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Self::made(Inner::Stream(Box::pin(pieces)))
    }

    /// The next piece, never empty.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        StreamExt::next(self).await
    }
}

impl Body {
    /// Whether it is known that no further piece comes.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.inner, Inner::Ended) && self.ahead.is_empty()
    }

    /// Looks, without waiting, whether the body is one piece and that is here: then it need not be waited for.
    pub(crate) fn look(&mut self) {
        let Inner::Stream(stream) = &mut self.inner else { return };
        if !self.ahead.is_empty() {
            return;
        }
        let mut nobody = Context::from_waker(Waker::noop());
        let Poll::Ready(first) = poll_piece(stream, &mut nobody) else { return };
        let Some(Ok(first)) = first else {
            self.ahead.extend(first);
            self.inner = Inner::Ended;
            return;
        };
        match poll_piece(stream, &mut nobody) {
            Poll::Ready(None) => self.inner = Inner::Whole(first),
            Poll::Ready(Some(second)) => self.ahead.extend([Ok(first), second]),
            Poll::Pending => self.ahead.push_back(Ok(first)),
        }
    }

    /// The whole body, if it is here and at most `max` bytes; else itself again.
    pub(crate) fn small(self, max: usize) -> Result<Bytes, Self> {
        match self.inner {
            Inner::Whole(bytes) if bytes.len() <= max => Ok(bytes),
            inner => Err(Self { inner, ..self }),
        }
    }
}

/// The next piece that is not empty.
fn poll_piece(stream: &mut Pieces, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
    loop {
        match std::task::ready!(stream.as_mut().poll_next(context)) {
            Some(Ok(piece)) if piece.is_empty() => {}
            item => return Poll::Ready(item),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::made(if bytes.is_empty() { Inner::Ended } else { Inner::Whole(bytes) })
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.ahead.pop_front() {
            Some(Ok(piece)) => return Poll::Ready(Some(Ok(piece))),
            Some(Err(error)) => {
                self.inner = Inner::Ended;
                return Poll::Ready(Some(Err(error)));
            }
            None => {}
        }
        let item = match &mut self.inner {
            Inner::Ended => None,
            Inner::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Inner::Stream(stream) => match std::task::ready!(poll_piece(stream, context)) {
                Some(Ok(piece)) => return Poll::Ready(Some(Ok(piece))),
                end => end,
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};

    use super::{Body, BodyError};

    type Item = Result<&'static str, BodyError>;

    /// A body of these items, and whether looking finds it to be whole.
    async fn check(items: &[Item], whole: bool) {
        let pieces: Vec<_> = items.iter().map(|item| item.map(|piece| Bytes::from_static(piece.as_bytes()))).collect();
        let expected: Vec<_> = pieces.iter().filter(|piece| **piece != Ok(Bytes::new())).cloned().collect();
        for waits in [false, true] {
            for looks in 0..3 {
                // With a pause before each piece there is nothing to be seen at first.
                let pieces = stream::iter(pieces.clone()).then(move |piece| async move {
                    if waits {
                        tokio::task::yield_now().await;
                    }
                    piece
                });
                let mut body = Body::new(pieces);
                for _ in 0..looks {
                    body.look();
                }
                if whole && looks > 0 && !waits {
                    body = Body::from(body.small(100).unwrap());
                }
                let given: Vec<_> = body.by_ref().collect().await;
                assert_eq!(given, expected, "looked {looks} times");
                assert!(body.is_over() && body.next().await.is_none());
            }
        }
    }

    #[tokio::test]
    async fn looking_at_a_body_changes_nothing() {
        check(&[], false).await;
        check(&[Ok("")], false).await;
        check(&[Ok("a")], true).await;
        check(&[Ok(""), Ok("a"), Ok("")], true).await;
        check(&[Ok("a"), Ok("b")], false).await;
        check(&[Ok("a"), Ok("b"), Ok("c"), Ok("d")], false).await;
        check(&[Err(BodyError)], false).await;
        check(&[Ok("a"), Err(BodyError)], false).await;
    }
}
