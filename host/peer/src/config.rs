//! Where a node listens for others, whom it dials, and with which certificates.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use pointsman_model::NodeId;

/// Everything [`crate::Peers`] needs to know before it starts.
#[derive(Clone, Debug)]
pub struct PeersConfig {
    /// This node.
    pub node: NodeId,
    /// Where to listen. Without TLS it must be a loopback address.
    pub listen: SocketAddr,
    /// All *other* nodes, each with the `host:port` of its peer port.
    pub peers: BTreeMap<NodeId, String>,
    /// Mutual TLS; without it only this machine is listened to.
    pub tls: Option<TlsFiles>,
}

/// PEM files of mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates that may sign a peer's.
    pub ca: PathBuf,
    /// This node's certificate and what leads to the CA. Its names must hold the host that `--peers` gives this node.
    pub certificate: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
}
