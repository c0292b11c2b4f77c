//! Listens on the peer port.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_model::{NodeId, limits};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::Mesh;
use crate::connection::{self, Wire};
use crate::frame::Broken;
use crate::handler::Hello;
use crate::handshake::{self, Denied};
use crate::lane::Lane;
use crate::link::{Link, Side};
use crate::outbox::Outbox;
use crate::server::{Door, News, Server};
use crate::tls;

/// Pause after the system refused to accept, as it does without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One more connection that has not said hello; cancelled when it has, or must go.
///
/// With too many of them the oldest goes: a node says hello at once.
fn admit(strangers: &mut VecDeque<CancellationToken>) -> CancellationToken {
    strangers.retain(|stranger| !stranger.is_cancelled());
    if strangers.len() >= limits::PEER_STRANGERS_MAX
        && let Some(oldest) = strangers.pop_front()
    {
        oldest.cancel();
    }
    let stranger = CancellationToken::new();
    strangers.push_back(stranger.clone());
    stranger
}

impl Mesh {
    /// Accepts connections until the mesh stops.
    pub(crate) async fn listen(self: Arc<Self>, listener: TcpListener) {
        let mut strangers = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    let reason = error.to_string();
                    if self.complaints.may(&reason) {
                        tracing::warn!(reason, "the peer port cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !self.may_use(address) {
                self.denied(&Denied::Address("beyond this machine, and there is no TLS".to_owned()), address);
                continue;
            }
            let stranger = admit(&mut strangers);
            self.connections.spawn(Arc::clone(&self).serve(stream, address, stranger));
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr, stranger: CancellationToken) {
        let hello = tokio::time::timeout(self.pace.hello, self.welcome(stream));
        let outcome = tokio::select! {
            outcome = hello => outcome.unwrap_or(Err(Denied::Late)),
            () = stranger.cancelled() => return,
            () = self.stop.cancelled() => return,
        };
        stranger.cancel();
        match outcome {
            Ok((wire, lane, hello)) => {
                if let Some(link) = self.links.get(&hello.node) {
                    self.run_accepted(wire, link, lane, hello).await;
                }
            }
            Err(denied) => {
                self.denied(&denied, address);
                if let Denied::Ours { node, reason } = denied
                    && let Some(link) = self.links.get(&node)
                {
                    link.refused(Side::Listening, reason);
                }
            }
        }
    }

    async fn welcome(&self, stream: TcpStream) -> Result<(Wire, Lane, Hello), Denied> {
        tls::tune(&stream)?;
        let unknown = match &self.tls {
            Some(tls) => tls.accept(stream).await?,
            None => tls::plain(stream),
        };
        unknown.listen(|node: NodeId| self.links.contains_key(&node), self.handler()).await
    }

    async fn run_accepted(self: &Arc<Self>, wire: Wire, link: &Arc<Link>, lane: Lane, hello: Hello) {
        let _connected = self.tally.connection();
        let outbox = Arc::new(Outbox::new(self.stop.child_token()));
        let news = {
            let (mesh, link, stop) = (Arc::clone(self), Arc::clone(link), outbox.stop.clone());
            Box::new(move |news| mesh.hear(news, &link, &stop))
        };
        let handler = Arc::clone(&self.handler);
        let server = Server::new(link.node, lane, Arc::clone(&outbox), handler, self.serving.clone(), news);
        link.accepted(lane, outbox.stop.clone(), hello);
        let door = Door(server);
        let ending = connection::run(wire, &outbox, &door, false, &self.pace, &self.tally).await;
        door.0.close();
        self.ended(&ending, link.node, lane);
    }

    /// What a node that dialed says later on: a new hello, which may no longer be welcome, or that it refuses us.
    fn hear(&self, news: News, link: &Link, stop: &CancellationToken) -> Result<(), Broken> {
        match news {
            News::Hello(greeting) if greeting.hello.node != link.node => {
                return Err(Broken::Rule("a hello of another node"));
            }
            News::Hello(greeting) => {
                let admitted = handshake::check(&self.handler.hello(), &greeting)
                    .and_then(|()| self.handler.admit(&greeting.hello));
                match admitted {
                    Ok(()) => link.heard(greeting.hello),
                    Err(reason) => {
                        link.refused(Side::Listening, reason);
                        stop.cancel();
                    }
                }
            }
            News::Refused(reason) => {
                link.refused(Side::Listening, reason);
                stop.cancel();
            }
        }
        Ok(())
    }
}
