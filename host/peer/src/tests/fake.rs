//! A node that speaks frames by hand, so that it can do what ours never would.

use bytes::Bytes;
use pointsman_model::NodeId;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{CLUSTER, LONG};
use crate::frame::read::FrameReader;
use crate::frame::write::{Outgoing, Unwritten};
use crate::frame::{Frame, Head, Kind};
use crate::handler::Hello;
use crate::hello::Greeting;
use crate::lane::Lane;

/// One connection of it.
pub(super) struct Fake {
    pub(super) reader: FrameReader<OwnedReadHalf>,
    pub(super) writer: OwnedWriteHalf,
}

pub(super) fn greeting(lane: Lane, node: u32, to: u32) -> Greeting {
    let hello = Hello {
        cluster: Some(CLUSTER),
        node: NodeId(node),
        incarnation: 0,
        feature_level: 1,
        wall_ms: 0,
        note: Bytes::new(),
    };
    Greeting::ours(lane, NodeId(to), hello)
}

pub(super) fn bytes(frame: &Outgoing) -> Vec<u8> {
    let mut unwritten = Unwritten::default();
    unwritten.push(frame);
    unwritten.seal();
    unwritten.concat()
}

impl Fake {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: FrameReader::new(reader, 64 << 10, 70 << 20), writer }
    }

    /// Dials a node and says hello; what it answers is still to be read.
    pub(super) async fn dial(address: std::net::SocketAddr, greeting: &Greeting) -> Self {
        let mut fake = Self::new(TcpStream::connect(address).await.unwrap());
        fake.send(&Outgoing::new(Head::new(Kind::Hello, 0), greeting.encode())).await;
        fake
    }

    /// Dials a node and is welcome.
    pub(super) async fn welcome(address: std::net::SocketAddr, lane: Lane, node: u32, to: u32) -> Self {
        let mut fake = Self::dial(address, &greeting(lane, node, to)).await;
        assert_eq!(fake.next().await.unwrap().head.kind, Kind::Hello);
        fake
    }

    /// Waits until a lane is dialed, and answers the hello as `node`; the other lanes are kept open meanwhile.
    pub(super) async fn accept(listener: &TcpListener, node: u32, wanted: Lane) -> (Self, Vec<Self>) {
        let mut others = Vec::new();
        let mut found = None;
        while found.is_none() || others.len() < 2 {
            let mut fake = Self::new(listener.accept().await.unwrap().0);
            let theirs = Greeting::decode(fake.next().await.unwrap().body).unwrap();
            let ours = greeting(theirs.lane, node, theirs.hello.node.0);
            fake.send(&Outgoing::new(Head::new(Kind::Hello, 0), ours.encode())).await;
            if theirs.lane == wanted { found = Some(fake) } else { others.push(fake) }
        }
        (found.unwrap(), others)
    }

    pub(super) async fn send(&mut self, frame: &Outgoing) {
        self.writer.write_all(&bytes(frame)).await.unwrap();
    }

    /// The next frame that is no ping; `None` if the connection is over, by an end or a reset.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = tokio::time::timeout(LONG, self.reader.next()).await.expect("a frame or the end");
            match frame {
                Ok(Some(Frame { head: Head { kind: Kind::Ping, .. }, .. })) => {}
                Ok(frame) => return frame,
                Err(crate::frame::read::ReadError::Io(_)) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
