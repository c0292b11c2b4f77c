//! The hellos at the start of a connection: both sides say who they are, and either may refuse.

use std::io;

use bytes::Bytes;
use pointsman_model::{NodeId, limits};
use tokio::io::AsyncWriteExt;

use crate::connection::{ReadHalf, Wire, WriteHalf};
use crate::frame::read::{FrameReader, ReadError};
use crate::frame::write::{Outgoing, Unwritten};
use crate::frame::{Broken, Frame, Head, Kind, VERSION};
use crate::handler::{Handler, Hello};
use crate::hello::{Greeting, refusal, refusal_text};
use crate::lane::Lane;

/// Bytes read at a time before the hello holds.
const CHUNK_BYTES: usize = 4 << 10;

/// Why a connection did not get through its hello.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It closed the connection without a word, as one that only looks whether the port is open.
    #[error("it closed the connection instead of saying hello; is TLS on at one side only?")]
    Hung,
    /// It closed the connection within what may have been a hello.
    #[error("it closed the connection within its hello; is TLS on at one side only?")]
    Cut,
    #[error("no hello came in time")]
    Late,
    #[error("{0}")]
    Garbage(#[from] Broken),
    /// The other side refused us.
    #[error("{0}")]
    Theirs(String),
    /// We refused the other side, which may be one we know.
    #[error("{reason}")]
    Ours { node: NodeId, reason: String },
    /// The address may not be used.
    #[error("{0}")]
    Address(String),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
}

impl From<ReadError> for Denied {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof => Self::Cut,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Hung,
                _ => Self::Io(error),
            },
            ReadError::Broken(broken) => broken.into(),
        }
    }
}

/// A connection whose hellos were not yet exchanged.
pub(crate) struct Unknown {
    reader: FrameReader<ReadHalf>,
    writer: WriteHalf,
}

impl Unknown {
    pub(crate) fn new(reader: ReadHalf, writer: WriteHalf) -> Self {
        Self { reader: FrameReader::new(reader, CHUNK_BYTES, limits::PEER_HELLO_BYTES_MAX), writer }
    }

    /// The dialing side: says hello to `to` and waits for its answer.
    pub(crate) async fn dial(mut self, lane: Lane, to: NodeId, handler: &dyn Handler) -> Result<(Wire, Hello), Denied> {
        let ours = Greeting::ours(lane, to, handler.hello());
        self.say(Kind::Hello, ours.encode()).await?;
        let theirs = self.heard().await?;
        let outcome = check(&ours.hello, &theirs).and_then(|()| match theirs.hello.node {
            node if node == to => handler.admit(&theirs.hello),
            node => Err(format!("this address is node {}'s, not node {}'s: check --peers", node.0, to.0)),
        });
        self.settle(lane, theirs.hello, outcome).await
    }

    /// The listening side: waits for a hello and answers it.
    pub(crate) async fn listen(
        mut self,
        knows: impl Fn(NodeId) -> bool,
        handler: &dyn Handler,
    ) -> Result<(Wire, Lane, Hello), Denied> {
        let theirs = self.heard().await?;
        let (lane, node) = (theirs.lane, theirs.hello.node);
        let ours = Greeting::ours(lane, node, handler.hello());
        let outcome = check(&ours.hello, &theirs).and_then(|()| {
            let us = ours.hello.node;
            if node == us {
                Err(format!("this is node {} itself: check --peers", us.0))
            } else if theirs.to != us {
                Err(format!("this address is node {}'s, not node {}'s: check --peers", us.0, theirs.to.0))
            } else if !knows(node) {
                Err(format!("node {} is not among the --peers of node {}", node.0, us.0))
            } else {
                handler.admit(&theirs.hello)
            }
        });
        if outcome.is_ok() {
            self.say(Kind::Hello, ours.encode()).await?;
        }
        let (wire, hello) = self.settle(lane, theirs.hello, outcome).await?;
        Ok((wire, lane, hello))
    }

    async fn settle(mut self, lane: Lane, theirs: Hello, outcome: Result<(), String>) -> Result<(Wire, Hello), Denied> {
        if let Err(reason) = outcome {
            self.say(Kind::Refusal, refusal(&reason)).await?;
            self.writer.shutdown().await?;
            return Err(Denied::Ours { node: theirs.node, reason });
        }
        self.reader.set_bounds(lane.chunk_bytes(), lane.length_max());
        Ok((Wire { reader: self.reader, writer: self.writer }, theirs))
    }

    async fn say(&mut self, kind: Kind, body: Bytes) -> io::Result<()> {
        let mut unwritten = Unwritten::default();
        unwritten.push(&Outgoing::new(Head::new(kind, 0), body));
        unwritten.seal();
        while !unwritten.is_empty() {
            unwritten.write_some(&mut *self.writer).await?;
        }
        self.writer.flush().await
    }

    async fn heard(&mut self) -> Result<Greeting, Denied> {
        let Frame { head, body } = self.reader.next().await?.ok_or(Denied::Hung)?;
        match head.kind {
            Kind::Hello => Ok(Greeting::decode(body)?),
            Kind::Refusal => Err(Denied::Theirs(refusal_text(&body))),
            _ => Err(Broken::Rule("a frame before the hello").into()),
        }
    }
}

/// What both sides check, whoever they are.
///
/// # Errors
/// Why the two cannot talk to each other.
pub(crate) fn check(ours: &Hello, theirs: &Greeting) -> Result<(), String> {
    let (oldest, newest) = theirs.protocols;
    if !(oldest..=newest).contains(&u16::from(VERSION)) {
        let node = theirs.hello.node.0;
        return Err(format!("node {node} speaks the peer protocols {oldest} to {newest}, this node speaks {VERSION}"));
    }
    match (ours.cluster, theirs.hello.cluster) {
        (Some(mine), Some(other)) if mine != other => {
            Err(format!("node {} belongs to another cluster than node {}", theirs.hello.node.0, ours.node.0))
        }
        _ => Ok(()),
    }
}
