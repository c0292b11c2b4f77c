//! A body of any length, message by message: the lines of NDJSON, or frames.
//!
//! What is read and not yet taken is bounded by [`limits::PUBLISH_BODY_BYTES_MAX`] and counts in the node's budget.

use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use pointsman_api_types::Code;
use pointsman_model::limits;

use crate::body::{Budget, Share};
use crate::failure::Failure;

/// Longest line or frame.
const PIECE_BYTES_MAX: usize = limits::PUBLISH_BODY_BYTES_MAX;

/// How a body is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// At line feeds; blank lines are nothing.
    Lines,
    /// By the length that each frame starts with.
    Frames,
}

/// One message of the body, as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A line without its end, or a frame with its lengths.
    Whole(Bytes),
    /// A line that was passed over because of its length.
    TooLong,
}

/// A body that is being cut.
pub(crate) struct Pieces {
    body: Body,
    cut: Cut,
    held: BytesMut,
    /// Bytes of `held` without a line feed.
    searched: usize,
    /// The line began earlier and is passed over.
    passing: bool,
    ended: bool,
    share: Share,
}

impl Pieces {
    pub(crate) fn new(body: Body, cut: Cut, budget: &Budget) -> Self {
        let share = Share::new(budget);
        Self { body, cut, held: BytesMut::new(), searched: 0, passing: false, ended: false, share }
    }

    /// The next piece that is here already; `Ok(None)` if more must be read.
    ///
    /// # Errors
    /// A frame whose lengths cannot be: nothing behind it can be read.
    pub(crate) fn ready(&mut self) -> Result<Option<Piece>, Failure> {
        match self.cut {
            Cut::Lines => Ok(self.line()),
            Cut::Frames => self.frame(),
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The body broke off, or stopped coming; a frame that is none; too many bodies are being read.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        loop {
            if let Some(piece) = self.ready()? {
                return Ok(Some(piece));
            }
            if self.ended {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let idle = Duration::from_millis(limits::REQUEST_BODY_IDLE_MS_MAX);
        let frame = tokio::time::timeout(idle, self.body.frame())
            .await
            .map_err(|_| Failure::new(Code::RequestTimeout, "the body stopped coming"))?;
        let Some(frame) = frame else {
            self.ended = true;
            return Ok(());
        };
        let frame =
            frame.map_err(|error| Failure::new(Code::InvalidRequest, format!("the body broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            self.held.extend_from_slice(&data);
            self.share.hold(self.held.len())?;
        }
        Ok(())
    }

    fn line(&mut self) -> Option<Piece> {
        loop {
            let end = self.held[self.searched..].iter().position(|byte| *byte == b'\n').map(|at| at + self.searched);
            let line = match end {
                Some(end) => {
                    let line = self.held.split_to(end).freeze();
                    self.held.advance(1);
                    line
                }
                None if self.ended && !self.held.is_empty() => self.held.split().freeze(),
                None => {
                    if self.held.len() > PIECE_BYTES_MAX {
                        self.passing = true;
                        self.held.clear();
                    }
                    self.searched = self.held.len();
                    return (self.ended && std::mem::take(&mut self.passing)).then_some(Piece::TooLong);
                }
            };
            self.searched = 0;
            if std::mem::take(&mut self.passing) || line.len() > PIECE_BYTES_MAX {
                return Some(Piece::TooLong);
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Piece::Whole(line));
            }
        }
    }

    fn frame(&mut self) -> Result<Option<Piece>, Failure> {
        let Some(length) = self.held.first_chunk().map(|n| u32::from_le_bytes(*n) as usize + 4) else {
            return if self.ended && !self.held.is_empty() { Err(broken()) } else { Ok(None) };
        };
        if length > PIECE_BYTES_MAX || (self.ended && length > self.held.len()) {
            return Err(broken());
        }
        Ok((length <= self.held.len()).then(|| Piece::Whole(self.held.split_to(length).freeze())))
    }
}

fn broken() -> Failure {
    Failure::new(Code::InvalidRequest, "the lengths of a frame do not fit the body (u32 n, u32 m, meta, payload)")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn cut(cut: Cut, body: &[u8], step: usize) -> (Vec<Piece>, bool) {
        let chunks: Vec<Result<Bytes, Infallible>> = body.chunks(step).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let budget = Budget::default();
        let mut pieces = Pieces::new(Body::from_stream(futures_util::stream::iter(chunks)), cut, &budget);
        let mut found = Vec::new();
        let whole = loop {
            match pieces.next().await {
                Ok(Some(piece)) => found.push(piece),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        drop(pieces);
        assert_eq!(budget.held(), 0, "every share is given back");
        (found, whole)
    }

    fn whole(texts: &[&[u8]]) -> Vec<Piece> {
        texts.iter().map(|text| Piece::Whole(Bytes::copy_from_slice(text))).collect()
    }

    #[tokio::test]
    async fn lines_wherever_the_chunks_end() {
        let body = b"{\"a\":1}\n\n  \r\n{}\r\nlast";
        for step in 1..=body.len() {
            assert_eq!(cut(Cut::Lines, body, step).await, (whole(&[b"{\"a\":1}", b"{}\r", b"last"]), true), "{step}");
        }
        assert_eq!(cut(Cut::Lines, b"", 1).await, (vec![], true));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over() {
        let mut body = vec![b'x'; PIECE_BYTES_MAX + 1];
        body.extend_from_slice(b"\nnext\n");
        let (found, ended) = cut(Cut::Lines, &body, 1 << 20).await;
        assert_eq!((found, ended), ([vec![Piece::TooLong], whole(&[b"next"])].into_iter().flatten().collect(), true));
        body.truncate(PIECE_BYTES_MAX + 1);
        assert_eq!(cut(Cut::Lines, &body, 1 << 20).await, (vec![Piece::TooLong], true));
        body.truncate(PIECE_BYTES_MAX);
        assert_eq!(cut(Cut::Lines, &body, 1 << 20).await.0, whole(&[&body]));
    }

    #[tokio::test]
    async fn frames_wherever_the_chunks_end() {
        let frame = [&7_u32.to_le_bytes()[..], &2_u32.to_le_bytes(), b"{}x"].concat();
        let body = [&frame[..], &frame].concat();
        for step in 1..=body.len() {
            assert_eq!(cut(Cut::Frames, &body, step).await, (whole(&[&frame, &frame]), true), "{step}");
        }
        assert_eq!(cut(Cut::Frames, &body[..body.len() - 1], 4).await, (whole(&[&frame]), false), "cut short");
        assert_eq!(cut(Cut::Frames, &u32::MAX.to_le_bytes(), 4).await, (vec![], false), "too long");
    }
}
