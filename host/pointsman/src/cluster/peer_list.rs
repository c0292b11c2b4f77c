//! `--peers`: the nodes of a cluster, the same list on each of them.
//!
//! `1=HOST:PEERPORT/HOST:PORT,2=…`: behind each number first where other nodes reach it, then where clients do. Strict:
//! what is odd in it is refused at start, in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use pointsman_model::{NodeId, limits};

/// A host and a port, as the user wrote them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// A name or an address; IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or("has a `[` without its `]`")?;
                inner.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address between `[` and `]`")?;
                inner
            }
            None if host.contains(':') => return Err("needs `[` and `]` around its IPv6 address"),
            None => host,
        };
        if host.is_empty() {
            return Err("has no host");
        }
        if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b)) {
            return Err("has a host with a character that no host has");
        }
        if text.len() > limits::NODE_ADDRESS_BYTES_MAX {
            return Err("is too long");
        }
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits && port > 0 => Ok(Self { host: host.to_owned(), port }),
            _ => Err("has a port that is none of 1 to 65535"),
        }
    }

    /// An address of this host that can be listened on.
    pub(crate) fn resolve(&self) -> std::io::Result<SocketAddr> {
        let mut found = (self.host.as_str(), self.port).to_socket_addrs()?;
        found.next().ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"))
    }
}

/// Where a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// By other nodes.
    pub(crate) peer: Endpoint,
    /// By clients.
    pub(crate) http: Endpoint,
}

/// Every node of the cluster, this one among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerList {
    /// This node.
    pub(crate) own: NodeId,
    /// All of them.
    pub(crate) nodes: BTreeMap<NodeId, Peer>,
}

impl PeerList {
    /// Reads `--node-id` and `--peers`.
    pub(crate) fn parse(own: &str, list: &str) -> Result<Self, Error> {
        let own = node_id(own).ok_or_else(|| Error::NodeId(own.to_owned()))?;
        let mut nodes = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        for entry in list.split(',') {
            let (id, peer) = self::entry(entry)?;
            for address in [&peer.peer, &peer.http] {
                if !addresses.insert(address.clone()) {
                    return Err(Error::AddressTwice(address.clone()));
                }
            }
            if nodes.insert(id, peer).is_some() {
                return Err(Error::NodeTwice(id));
            }
        }
        if nodes.len() > limits::NODES_MAX {
            return Err(Error::TooMany(nodes.len()));
        }
        if !nodes.contains_key(&own) {
            return Err(Error::OwnMissing(own));
        }
        Ok(Self { own, nodes })
    }

    /// This node's own entry.
    pub(crate) fn own(&self) -> &Peer {
        // INVARIANT: `parse` refuses a list without it.
        &self.nodes[&self.own]
    }

    /// All other nodes.
    pub(crate) fn others(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.nodes.iter().map(|(id, peer)| (*id, peer)).filter(|(id, _)| *id != self.own)
    }
}

fn node_id(text: &str) -> Option<NodeId> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits).map(NodeId)
}

fn entry(text: &str) -> Result<(NodeId, Peer), Error> {
    let bad =
        |reason: &str| Error::Entry { entry: text.chars().take(QUOTED_CHARS_MAX).collect(), reason: reason.into() };
    let (id, addresses) = text.split_once('=').ok_or_else(|| bad("has no `=`"))?;
    let id = node_id(id).ok_or_else(|| bad("does not start with a number from 1 to 4294967295"))?;
    let (peer, http) = addresses.split_once('/').ok_or_else(|| bad("has no `/` between its two addresses"))?;
    let endpoint = |name: &str, text: &str| {
        Endpoint::parse(text).map_err(|reason| bad(&format!("{reason} in its {name} address")))
    };
    Ok((id, Peer { peer: endpoint("first", peer)?, http: endpoint("second", http)? }))
}

/// Most of an entry that an error shows.
const QUOTED_CHARS_MAX: usize = 200;

/// Why a list of nodes is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("--node-id `{0}`: it is a number from 1 to 4294967295")]
    NodeId(String),
    #[error("--peers: `{entry}` {reason}; write each node as ID=HOST:PEERPORT/HOST:PORT")]
    Entry { entry: String, reason: String },
    #[error("--peers lists node {0} twice")]
    NodeTwice(NodeId),
    #[error("--peers lists the address {0} twice; every node needs an address for nodes and another for clients")]
    AddressTwice(Endpoint),
    #[error("--peers lists {0} nodes; {max} is the most", max = limits::NODES_MAX)]
    TooMany(usize),
    #[error("--peers does not list node {0}, which --node-id says this is; the list is the same on every node")]
    OwnMissing(NodeId),
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "1=a:7071/a:7070,2=10.0.0.2:7071/b.example:7070,3=[::1]:1/[::1]:65535";

    #[test]
    fn a_list_is_read_and_written_as_it_was() {
        let list = PeerList::parse("2", THREE).expect("good");
        assert_eq!(list.own, NodeId(2));
        assert_eq!(list.own().http.to_string(), "b.example:7070");
        let written: Vec<_> = list.nodes.iter().map(|(id, node)| format!("{id}={}/{}", node.peer, node.http)).collect();
        assert_eq!(written.join(","), THREE);
        assert_eq!(list.others().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 3]);
        assert!(PeerList::parse("4294967295", "4294967295=a:1/a:2").is_ok());
    }

    #[test]
    fn what_is_odd_is_refused_in_one_line() {
        let check = |own: &str, list: &str, expected: &str| {
            let error = PeerList::parse(own, list).expect_err(list).to_string();
            assert!(error.contains(expected), "`{error}` lacks `{expected}`");
            assert!(!error.contains('\n') && error.len() < 500, "{error}");
        };
        for own in ["", "0", "-1", "01", "+1", "4294967296", "one"] {
            check(own, THREE, "--node-id");
        }
        check("4", THREE, "does not list node 4");
        check("1", "", "has no `=`");
        check("1", "1=a:1/a:2,", "has no `=`");
        check("1", "0=a:1/a:2", "a number from 1");
        check("1", "1 =a:1/a:2", "a number from 1");
        check("1", "1=a:1", "has no `/`");
        check("1", "1=a/a:2", "has no port in its first address");
        check("1", "1=a:1/:2", "has no host in its second address");
        check("1", "1=a:0/a:2", "has a port that is none of 1 to 65535");
        check("1", "1=a:+1/a:2", "has a port");
        check("1", "1=a:65536/a:2", "has a port");
        check("1", "1=::1:1/a:2", "needs `[` and `]`");
        check("1", "1=[::1:1/a:2", "has a `[` without its `]`");
        check("1", "1=[a]:1/a:2", "has no IPv6 address");
        check("1", "1=a b:1/a:2", "has a host with a character");
        check("1", "1=a:1/a:2,1=b:1/b:2", "lists node 1 twice");
        check("1", "1=a:1/a:2,2=b:1/a:2", "lists the address a:2 twice");
        check("1", "1=a:1/a:1", "lists the address a:1 twice");
        check("1", &format!("1={}:1/a:2", "x".repeat(400)), "is too long");
        let many: Vec<_> = (1..=limits::NODES_MAX + 1).map(|id| format!("{id}=h{id}:1/h{id}:2")).collect();
        check("1", &many.join(","), "64 is the most");
        assert!(PeerList::parse("1", &many[1..].join(",").replace("65=", "1=")).is_ok());
    }

    #[test]
    fn an_address_is_listened_on_by_number_or_name() {
        let address = |text: &str| Endpoint::parse(text).expect("good").resolve().expect("resolves");
        assert_eq!(address("127.0.0.1:7071").to_string(), "127.0.0.1:7071");
        assert_eq!(address("[::1]:7071").to_string(), "[::1]:7071");
        assert!(address("localhost:7071").ip().is_loopback());
    }
}
