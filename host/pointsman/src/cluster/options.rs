//! What a cluster node is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;

use pointsman_peer::TlsFiles;

use super::peer_list::{self, Endpoint, PeerList};

/// The flags of a cluster node.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// Number of this node in the cluster, from 1.
    #[arg(long, value_name = "N", requires = "peers")]
    node_id: Option<String>,
    /// Every node of the cluster, this one included: ID=HOST:PEERPORT/HOST:PORT,… The same list on every node.
    #[arg(long, value_name = "LIST", requires = "node_id")]
    peers: Option<String>,
    /// Address for other nodes; by default the one that --peers gives this node. Only loopback without TLS. A node alone
    /// has none.
    #[arg(long, value_name = "ADDR")]
    peer_listen: Option<SocketAddr>,
    /// PEM file of the authorities that sign the nodes' certificates: the nodes talk mutual TLS.
    #[arg(long, value_name = "FILE", requires_all = ["peer_tls_cert", "peer_tls_key", "peers"])]
    peer_tls_ca: Option<PathBuf>,
    /// PEM file of this node's certificate, for the host that --peers gives it.
    #[arg(long, value_name = "FILE", requires_all = ["peer_tls_ca", "peer_tls_key"])]
    peer_tls_cert: Option<PathBuf>,
    /// PEM file of the key of that certificate.
    #[arg(long, value_name = "FILE", requires_all = ["peer_tls_ca", "peer_tls_cert"])]
    peer_tls_key: Option<PathBuf>,
    /// Take this node's place with an empty directory, its data being lost; only for this one start.
    #[arg(long, requires = "peers")]
    replace: bool,
}

/// A node of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterOptions {
    /// Every node.
    pub(crate) list: PeerList,
    /// Where this one listens for the others.
    pub(crate) listen: SocketAddr,
    /// Mutual TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// It comes with an empty directory and takes its own place.
    pub(crate) replace: bool,
}

/// Why the flags are refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    List(#[from] peer_list::Error),
    #[error("--peers: no address of {endpoint} is known: {source}; give --peer-listen and --listen, or mend the name")]
    Unknown { endpoint: Endpoint, source: std::io::Error },
    #[error(
        "--peer-listen {0}: only loopback addresses are used for other nodes without TLS; give --peer-tls-ca, --peer-tls-cert and --peer-tls-key"
    )]
    NotLoopback(SocketAddr),
}

impl ClusterArgs {
    /// What they come to; `None` for a node alone.
    pub(crate) fn options(&self) -> Result<Option<ClusterOptions>, Error> {
        // clap lets none of the two come alone.
        let (Some(own), Some(list)) = (&self.node_id, &self.peers) else { return Ok(None) };
        let list = PeerList::parse(own, list)?;
        let listen = match self.peer_listen {
            Some(listen) => listen,
            None => address(&list.own().peer)?,
        };
        let tls = match (&self.peer_tls_ca, &self.peer_tls_cert, &self.peer_tls_key) {
            (Some(ca), Some(certificate), Some(key)) => {
                Some(TlsFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() })
            }
            _ => None,
        };
        if tls.is_none() && !listen.ip().is_loopback() {
            return Err(Error::NotLoopback(listen));
        }
        Ok(Some(ClusterOptions { list, listen, tls, replace: self.replace }))
    }
}

impl ClusterOptions {
    /// Where this node listens for clients if nothing else is said.
    pub(crate) fn http_listen(&self) -> Result<SocketAddr, Error> {
        address(&self.list.own().http)
    }
}

fn address(endpoint: &Endpoint) -> Result<SocketAddr, Error> {
    endpoint.resolve().map_err(|source| Error::Unknown { endpoint: endpoint.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(own: &str, list: &str) -> ClusterArgs {
        ClusterArgs { node_id: Some(own.into()), peers: Some(list.into()), ..ClusterArgs::default() }
    }

    #[test]
    fn addresses_are_those_of_the_own_entry_unless_others_are_given() {
        let list = "1=127.0.0.1:7071/127.0.0.1:7070,2=127.0.0.1:7081/127.0.0.1:7080";
        let found = options("2", list).options().expect("good").expect("a cluster");
        assert_eq!(found.listen.to_string(), "127.0.0.1:7081");
        assert_eq!(found.http_listen().expect("an address").to_string(), "127.0.0.1:7080");
        let listen: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        let given = ClusterArgs { peer_listen: Some(listen), ..options("2", list) };
        assert_eq!(given.options().expect("good").expect("a cluster").listen, listen);
        assert!(ClusterArgs::default().options().expect("good").is_none());
    }

    #[test]
    fn beyond_this_machine_nodes_talk_tls() {
        let args = options("1", "1=10.0.0.1:7071/10.0.0.1:7070");
        let error = args.options().expect_err("refused").to_string();
        assert!(error.contains("--peer-listen 10.0.0.1:7071") && error.contains("--peer-tls-ca"), "{error}");
        let file = || Some(PathBuf::from("/tls"));
        let tls = ClusterArgs { peer_tls_ca: file(), peer_tls_cert: file(), peer_tls_key: file(), ..args };
        assert!(tls.options().expect("good").expect("a cluster").tls.is_some());
    }
}
