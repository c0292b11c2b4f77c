//! Why a node does not start, each in one line that says what to do.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cluster::{FormError, OptionsError, Refusal};

/// A refused start, or a stop that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("--listen {0}: only loopback addresses are served without an operator token; use 127.0.0.1:{port}, or name a file that holds one with --operator-token-file", port = .0.port())]
    NotLoopback(SocketAddr),
    #[error("--operator-token-file {}: {reason}", path.display())]
    OperatorToken { path: PathBuf, reason: String },
    #[error("{0}{advice}", advice = advice_bind(.0))]
    Bind(#[from] pointsman_api::Error),
    #[error("cannot listen on {listen}: {source}")]
    Listener { listen: SocketAddr, source: io::Error },
    #[error("cannot make the directory {}: {source}; choose another --data-dir, or make it writable", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("{0}{advice}", advice = advice_storage(.0))]
    Storage(#[from] pointsman_storage::Error),
    #[error("{0}{advice}", advice = advice_consensus(.0))]
    Consensus(#[from] pointsman_consensus::Error),
    #[error("the sandbox does not start: {0}")]
    Sandbox(#[from] pointsman_plugin_host::Error),
    #[error("the node does not start: {0}")]
    Broker(#[from] pointsman_broker::Error),
    #[error(transparent)]
    Flags(#[from] OptionsError),
    #[error("{0}{advice}", advice = advice_form(.0))]
    Formation(#[from] FormError),
    #[error("{0}{advice}", advice = advice_peer(.0))]
    Peer(#[from] pointsman_peer::Error),
    #[error("this directory is of node {node} and --node-id says {asked}; start each node with its own directory")]
    OtherNode { node: u32, asked: u32 },
    #[error(
        "this directory is of node {node} of a cluster; start it with --node-id and --peers, or choose another --data-dir"
    )]
    OfACluster { node: u32 },
    #[error(
        "--peers lists the nodes {lists:?} and this directory is of a cluster of the nodes {knows:?}; start it with the --peers of its cluster"
    )]
    Members { knows: BTreeSet<u32>, lists: BTreeSet<u32> },
    #[error("the path of this program is not known: {0}")]
    OwnProgram(io::Error),
}

impl Error {
    /// The error as one line, whatever its sources say.
    pub(crate) fn line(&self) -> String {
        self.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Formation(refusal.into())
    }
}

fn advice_form(error: &FormError) -> &'static str {
    match error {
        FormError::Storage(error) => advice_storage(error),
        FormError::Refused(_) => "",
    }
}

fn advice_peer(error: &pointsman_peer::Error) -> &'static str {
    match error {
        pointsman_peer::Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            "; stop the process that uses it, or choose another --peer-listen"
        }
        _ => "",
    }
}

fn advice_bind(error: &pointsman_api::Error) -> &'static str {
    match error {
        pointsman_api::Error::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            "; stop the process that uses it, or choose another --listen"
        }
        _ => "",
    }
}

fn advice_storage(error: &pointsman_storage::Error) -> &'static str {
    use pointsman_storage::Error as E;
    match error {
        E::Locked { .. } => "; stop that process, or choose another --data-dir",
        E::UnknownFormat { .. } => "; nothing was changed: start the release that wrote it, or a newer one",
        E::Damaged { .. } | E::DamagedFile { .. } | E::SegmentMissing { .. } | E::ReadOnly { .. } => {
            "; nothing was repaired: restore the directory from a backup, or start with an empty --data-dir"
        }
        E::Foreign { reason, .. } if reason.contains("segment size") => {
            "; segment_bytes is fixed when the directory is made: set it as it was then"
        }
        E::Foreign { .. } => "; put the directory back as it was: a node's files are not to be mixed",
        E::DiskFull { .. } => "; free some space and start again",
        E::Setting { .. } => "; `pointsman config reference` lists the settings",
        E::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "; run as the owner of the directory, or choose another --data-dir"
        }
        _ => "",
    }
}

fn advice_consensus(error: &pointsman_consensus::Error) -> &'static str {
    match error {
        pointsman_consensus::Error::Storage(error) => advice_storage(error),
        pointsman_consensus::Error::StateLost { .. } => "; restore the directory from a backup",
        pointsman_consensus::Error::NotAlone { .. } => {
            "; start it with the --node-id and --peers of its cluster, or choose another --data-dir"
        }
        pointsman_consensus::Error::NoLeader { .. } => "; look at the log above, and start again",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let check = |error: Error, expected: &str| {
            let line = error.line();
            assert!(line.contains(expected) && !line.contains('\n'), "`{line}` lacks `{expected}`");
        };
        let listen: SocketAddr = "0.0.0.0:7070".parse().expect("an address");
        check(Error::NotLoopback(listen), "use 127.0.0.1:7070");
        let in_use = pointsman_api::Error::Bind { address: listen, source: io::ErrorKind::AddrInUse.into() };
        check(in_use.into(), "choose another --listen");
        check(pointsman_storage::Error::Locked { path: "/d/lock".into() }.into(), "choose another --data-dir");
        let newer = pointsman_storage::Error::UnknownFormat { path: "/d/identity".into(), found: 9, known: 1 };
        check(pointsman_consensus::Error::Storage(newer).into(), "start the release that wrote it");
        check(pointsman_consensus::Error::Raft("a\n b".to_owned()).into(), "raft stopped: a b");
    }
}
