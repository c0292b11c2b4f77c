//! Who does not belong to the cluster, and what is no peer at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::nodes::{Cluster, NODES, free_port};
use crate::server::{Server, T, refused_start};

/// How long a connection with garbage may stay open.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn strangers_and_garbage_are_refused_and_nothing_else_happens() {
    let mut cluster = Cluster::start();
    cluster.json(1, "PUT", &format!("{T}/topics/orders"), &json!({"queues": 1})).expect(201);
    garbage(&cluster);
    publish_everywhere(&cluster);
    wrong_node(&mut cluster);
    other_cluster(&mut cluster);
    alone(&mut cluster);
    wiped(&mut cluster);
    publish_everywhere(&cluster);
}

fn publish_everywhere(cluster: &Cluster) {
    for node in NODES {
        cluster.call(node, "POST", &format!("{T}/topics/orders/messages"), &[], b"x").expect(201);
    }
}

/// Bytes that are no frames, on every peer port.
fn garbage(cluster: &Cluster) {
    let zeros = [0_u8; 64];
    let ones = [0xFF_u8; 4096];
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut long = [0_u8; 24];
    long[..4].copy_from_slice(&(1_u32 << 30).to_le_bytes());
    let mut open = Vec::new();
    for node in NODES {
        for bytes in [&zeros[..], &ones[..], &http[..], &long[..], &[][..]] {
            let mut stream = TcpStream::connect(cluster.peer_address(node)).expect("connect");
            stream.set_read_timeout(Some(CLOSED_WITHIN)).expect("timeout");
            // It may be closed before all of it is written.
            let _ = stream.write_all(bytes);
            open.push((node, bytes.len(), stream));
        }
    }
    for (node, length, mut stream) in open {
        let end = stream.read_to_end(&mut Vec::new());
        let closed = !matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(closed, "node {node} keeps a connection with {length} bytes of garbage");
    }
}

/// Starts a node that must be refused; gives its words.
fn refused(cluster: &Cluster, node: u32, data: &std::path::Path) -> String {
    let arguments = cluster.arguments(node, data);
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let (code, words) = refused_start(&arguments);
    assert_ne!(code, Some(0), "{words}");
    words
}

/// The directory of another node of the same cluster.
fn wrong_node(cluster: &mut Cluster) {
    for node in [2, 3] {
        cluster.kill(node);
    }
    let words = refused(cluster, 2, cluster.data(3));
    assert!(words.contains("node 3") || words.contains("node-id"), "{words}");
    for node in [2, 3] {
        cluster.spawn(node, &[]);
    }
    cluster.wait_until_whole();
}

/// A node of another cluster, with a number of this one.
fn other_cluster(cluster: &mut Cluster) {
    let mut other = Cluster::start();
    NODES.iter().for_each(|node| other.kill(*node));
    cluster.kill(2);
    let words = refused(cluster, 2, other.data(2));
    assert!(words.contains("another cluster"), "{words}");
    cluster.spawn(2, &[]);
    cluster.wait_until_whole();
}

/// A node that was alone.
fn alone(cluster: &mut Cluster) {
    let mut server = Server::start();
    server.kill();
    cluster.kill(2);
    let words = refused(cluster, 2, server.data());
    assert!(!words.trim().is_empty(), "it says why");
    cluster.spawn(2, &[]);
    cluster.wait_until_whole();
}

/// A directory that has lost everything, started as if nothing had happened; and one with everything, told to replace.
fn wiped(cluster: &mut Cluster) {
    cluster.kill(3);
    let arguments = cluster.arguments(3, cluster.data(3));
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).chain(["--replace"]).collect();
    let (code, words) = refused_start(&arguments);
    assert!(code != Some(0) && words.contains("--replace"), "{words}");
    cluster.wipe(3);
    let words = refused(cluster, 3, cluster.data(3));
    assert!(words.contains("--replace"), "{words}");
    if cluster.data(3).exists() {
        cluster.wipe(3);
    }
    cluster.spawn(3, &["--replace"]);
    cluster.wait_until_whole();
}

#[test]
fn a_peer_port_that_others_can_reach_needs_tls() {
    let scratch = tempfile::tempdir().expect("temporary directory");
    let data = scratch.path().join("data").display().to_string();
    let (mine, peer) = (free_port(), free_port());
    let port = peer.rsplit(':').next().expect("a port");
    let anywhere = format!("0.0.0.0:{port}");
    let peers = format!("1={peer}/{mine},2={}/{},3={}/{}", free_port(), free_port(), free_port(), free_port());
    for (node, peers, word) in [
        ("1", peers.as_str(), "TLS"),
        ("4", peers.as_str(), "node-id"),
        ("1", "1=nonsense", "peers"),
        ("1", "", "peers"),
    ] {
        let listen = if word == "TLS" { anywhere.as_str() } else { peer.as_str() };
        let arguments =
            ["--data-dir", &data, "--listen", &mine, "--peer-listen", listen, "--node-id", node, "--peers", peers];
        let (code, words) = refused_start(&arguments);
        assert!(code.is_some_and(|code| code != 0), "{words}");
        assert_eq!(words.trim().lines().count(), 1, "one line: {words}");
        assert!(words.to_lowercase().contains(&word.to_lowercase()), "{arguments:?}: {words}");
    }
}
