//! What all connections of a node share, and how one is run from its first byte to its last.

mod dial;
mod listen;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pointsman_model::NodeId;
use tokio_util::sync::CancellationToken;

use crate::complaints::Complaints;
use crate::connection::Ending;
use crate::handler::Handler;
use crate::handshake::Denied;
use crate::lane::Lane;
use crate::link::Link;
use crate::pace::Pace;
use crate::serving::Serving;
use crate::tally::Tally;
use crate::tls::Tls;

/// Shared by all connections of a node.
pub(crate) struct Mesh {
    pub(crate) links: BTreeMap<NodeId, Arc<Link>>,
    pub(crate) tally: Tally,
    pub(crate) stop: CancellationToken,
    /// Connections, and those who dial and listen: they end by themselves once `stop` is cancelled.
    pub(crate) connections: Serving,
    /// What is served for others.
    pub(crate) serving: Serving,
    handler: Arc<dyn Handler>,
    tls: Option<Tls>,
    pace: Pace,
    complaints: Complaints,
}

impl Mesh {
    pub(crate) fn new(
        links: BTreeMap<NodeId, Arc<Link>>,
        handler: Arc<dyn Handler>,
        tls: Option<Tls>,
        pace: Pace,
    ) -> Arc<Self> {
        Arc::new(Self {
            links,
            tally: Tally::default(),
            stop: CancellationToken::new(),
            connections: Serving::default(),
            serving: Serving::default(),
            handler,
            tls,
            pace,
            complaints: Complaints::default(),
        })
    }

    pub(crate) fn handler(&self) -> &dyn Handler {
        &*self.handler
    }

    /// Whether a connection from or to that address may be used.
    fn may_use(&self, address: SocketAddr) -> bool {
        self.tls.is_some() || address.ip().to_canonical().is_loopback()
    }

    /// Counts a connection that did not get through its hello.
    fn denied(&self, denied: &Denied, who: SocketAddr) {
        match denied {
            Denied::Ours { .. } | Denied::Theirs(_) | Denied::Address(_) => {
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
            }
            Denied::Garbage(_) | Denied::Late | Denied::Tls(_) => {
                self.tally.garbage.fetch_add(1, Ordering::Relaxed);
            }
            // It may have crashed; and anybody may look whether the port is open.
            Denied::Io(_) | Denied::Hung | Denied::Cut => return,
        }
        if let Denied::Ours { node, .. } = denied
            && self.links.contains_key(node)
        {
            // Said by its link, once.
            return;
        }
        let reason = denied.to_string();
        if self.complaints.may(&reason) {
            tracing::warn!(peer.address = %who, reason, "a connection to the peer port was refused");
        }
    }

    /// Counts and logs the end of a connection.
    fn ended(&self, ending: &Ending, node: NodeId, lane: Lane) {
        match ending {
            Ending::Garbage(broken) => {
                self.tally.garbage.fetch_add(1, Ordering::Relaxed);
                let reason = broken.to_string();
                if self.complaints.may(&reason) {
                    tracing::error!(
                        peer.node = node.0,
                        peer.lane = lane.name(),
                        reason,
                        "what a node sent breaks the peer protocol"
                    );
                }
            }
            Ending::Silent => {
                self.tally.silent.fetch_add(1, Ordering::Relaxed);
                let what = format!("node {} fell silent", node.0);
                if self.complaints.may(&what) {
                    tracing::warn!(peer.node = node.0, peer.lane = lane.name(), "{what}");
                }
            }
            Ending::Stopped | Ending::Closed | Ending::Io(_) => {
                tracing::debug!(peer.node = node.0, peer.lane = lane.name(), reason = %ending, "a peer connection ended");
            }
        }
    }
}
