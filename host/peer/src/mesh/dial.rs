//! Dials a node, for ever: one task for each of its lanes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::net::TcpStream;

use super::Mesh;
use crate::caller::{Caller, News};
use crate::connection::{self, Wire};
use crate::handler::Hello;
use crate::handshake::{Denied, Unknown};
use crate::lane::Lane;
use crate::link::{Link, Side};
use crate::outbox::Outbox;
use crate::tls;

impl Mesh {
    /// Keeps one connection to a node until the mesh stops.
    pub(crate) async fn keep(self: Arc<Self>, link: Arc<Link>, lane: Lane) {
        let mut pause = self.pace.backoff_min;
        while !self.stop.is_cancelled() {
            let began = Instant::now();
            let attempt = tokio::select! {
                attempt = self.attempt(&link, lane) => attempt,
                () = self.stop.cancelled() => return,
            };
            match attempt {
                Ok((wire, hello)) => self.run_dialed(wire, &link, lane, hello).await,
                Err(denied) => self.not_reached(&link, &denied),
            }
            if began.elapsed() > self.pace.backoff_max {
                // It was good for a while.
                pause = self.pace.backoff_min;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = link.awake.notified() => {}
                () = self.stop.cancelled() => return,
            }
            pause = (pause * 2).min(self.pace.backoff_max);
        }
    }

    fn not_reached(&self, link: &Link, denied: &Denied) {
        match denied {
            // It is not there, or not yet, or no longer.
            Denied::Io(error) => tracing::debug!(peer.node = link.node.0, reason = %error, "a node was not reached"),
            Denied::Late => tracing::debug!(peer.node = link.node.0, "a node did not say hello in time"),
            _ => {
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
                let in_words = matches!(denied, Denied::Theirs(_) | Denied::Ours { .. });
                link.failed(Side::Dialing, denied.to_string(), in_words);
            }
        }
    }

    async fn attempt(&self, link: &Link, lane: Lane) -> Result<(Wire, Hello), Denied> {
        let stream = tokio::time::timeout(self.pace.connect, self.connect(link)).await.map_err(|_| Denied::Late)??;
        let hello = async {
            let unknown = self.secure(link, stream).await?;
            unknown.dial(lane, link.node, self.handler()).await
        };
        tokio::time::timeout(self.pace.hello, hello).await.map_err(|_| Denied::Late)?
    }

    async fn connect(&self, link: &Link) -> Result<TcpStream, Denied> {
        let mut outcome = Err(Denied::Address(format!("{:?} is no address", link.address)));
        for address in tokio::net::lookup_host(&link.address).await? {
            if !self.may_use(address) {
                outcome = Err(Denied::Address(format!("{address} is beyond this machine and there is no TLS")));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    tls::tune(&stream)?;
                    return Ok(stream);
                }
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }

    async fn secure(&self, link: &Link, stream: TcpStream) -> Result<Unknown, Denied> {
        match &self.tls {
            Some(tls) => tls.connect(host(&link.address), stream).await,
            None => Ok(tls::plain(stream)),
        }
    }

    async fn run_dialed(&self, wire: Wire, link: &Arc<Link>, lane: Lane, hello: Hello) {
        let _connected = self.tally.connection();
        let outbox = Arc::new(Outbox::new(self.stop.child_token()));
        let news = {
            let link = Arc::clone(link);
            move |news| match news {
                News::Refused(reason) => link.refused(Side::Dialing, reason),
                News::RoundTrip(_) if lane != Lane::Control => {}
                News::RoundTrip(time) => link.measured(time),
            }
        };
        let caller = Caller::new(lane, Arc::clone(&outbox), Box::new(news));
        link.opened(lane, Arc::clone(&caller), hello);
        let ending = connection::run(wire, &outbox, &*caller, true, &self.pace, &self.tally).await;
        link.closed(lane);
        caller.close();
        self.ended(&ending, link.node, lane);
    }
}

/// The host of a `host:port`; an IPv6 address without its brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
