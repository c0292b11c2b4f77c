//! Mutual TLS. The certificates beside this file are for tests only: their keys are public.

use std::path::Path;

use bytes::Bytes;
use pointsman_model::NodeId;

use super::fake::{Fake, greeting};
use super::{TestNode, connected, echo, listener, pace, start, until};
use crate::body::Body;
use crate::config::TlsFiles;
use crate::error::Error;
use crate::handler::Service;
use crate::lane::Lane;
use crate::tls::Tls;

fn files(ca: &str, name: &str) -> TlsFiles {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/tls");
    TlsFiles {
        ca: directory.join(format!("{ca}.pem")),
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key.pem")),
    }
}

async fn two(first: Option<TlsFiles>, second: Option<TlsFiles>, host: &str) -> (TestNode, TestNode) {
    let ((port, at), (other_port, other_at)) = (listener().await, listener().await);
    let one = start(1, port, &[(2, format!("{host}:{}", other_at.port()))], first, pace());
    let two = start(2, other_port, &[(1, format!("{host}:{}", at.port()))], second, pace());
    (one, two)
}

#[tokio::test]
async fn two_nodes_of_one_ca_talk() {
    for host in ["localhost", "127.0.0.1"] {
        let (one, two) = two(Some(files("ca", "node")), Some(files("ca", "node")), host).await;
        connected(&one, 2).await;
        connected(&two, 1).await;
        assert_eq!(echo(&one, 2, Service::Control).await.unwrap(), "echo me");
        let sent = Bytes::from(vec![3; 1_000_000]);
        let answer = one.peers.forward(NodeId(2), Bytes::from_static(b"echo"), Body::from(sent)).await.unwrap();
        let mut body = answer.body;
        let mut length = 0;
        while let Some(piece) = body.next().await {
            length += piece.unwrap().len();
        }
        assert_eq!(length, 1_000_000);
        let (requests, mut answers) = two.peers.append_stream(NodeId(1), super::SHARD).await.unwrap();
        requests.send(vec![Bytes::from(vec![5; 3_000_000]), Bytes::from_static(b"end")]).await.unwrap();
        assert!(answers.recv().await.is_some());
        one.peers.shutdown().await;
    }
}

/// Two nodes that never get to each other; the first knows why in these words.
async fn check_apart(first: Option<TlsFiles>, second: Option<TlsFiles>, words: &[&str]) {
    let (one, two) = two(first, second, "localhost").await;
    until("it knows why", || {
        one.peers
            .seen(NodeId(2))
            .unwrap()
            .refused
            .is_some_and(|reason| words.iter().any(|words| reason.contains(words)))
    })
    .await;
    for (node, other) in [(&one, 2), (&two, 1)] {
        let seen = node.peers.seen(NodeId(other)).unwrap();
        assert!(!seen.connected && seen.hello.is_none());
        assert_eq!(node.peers.counters().connected, 0);
    }
    assert!(one.handler.asked.lock().is_empty());
}

#[tokio::test]
async fn whoever_has_no_certificate_of_the_ca_stays_out() {
    let good = || Some(files("ca", "node"));
    // A certificate of another CA.
    check_apart(good(), Some(files("ca", "stranger")), &["UnknownIssuer"]).await;
    // The stranger trusts us, but we do not trust it.
    check_apart(Some(files("other-ca", "node")), good(), &["UnknownIssuer"]).await;
    // A good certificate of another host.
    check_apart(good(), Some(files("ca", "elsewhere")), &["elsewhere.example", "NotValidForName"]).await;
    // None at all.
    check_apart(good(), None, &["TLS"]).await;
    check_apart(None, good(), &["TLS on at one side only"]).await;
}

#[tokio::test]
async fn garbage_and_plain_hellos_at_a_tls_port_are_counted() {
    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "localhost:1".to_owned())], Some(files("ca", "node")), pace());
    let mut plain = Fake::dial(address, &greeting(Lane::Control, 2, 1)).await;
    // A TLS alert, which is no frame, or the end.
    let _ = plain.reader.next().await;
    until("it is counted", || one.peers.counters().garbage == 1).await;
    assert_eq!(one.peers.counters().connected, 0);
}

#[tokio::test]
async fn a_client_without_a_certificate_stays_out() {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let (port, address) = listener().await;
    let one = start(1, port, &[(2, "localhost:1".to_owned())], Some(files("ca", "node")), pace());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files("ca", "node").ca).unwrap()).unwrap();
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // With TLS 1.3 the client is done before the server has looked at its certificate.
    if let Ok(mut stream) = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await {
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut byte).await;
        assert!(!matches!(read, Ok(1)), "{read:?}");
    }
    until("it is counted", || one.peers.counters().garbage == 1).await;
}

#[test]
fn files_that_are_no_good_are_named() {
    let check = |files: TlsFiles, name: &str| match Tls::load(&files).err() {
        Some(Error::TlsFile { path, .. }) => assert!(path.ends_with(name), "{path:?}"),
        other => panic!("{other:?}"),
    };
    let good = files("ca", "node");
    assert!(Tls::load(&good).is_ok());
    check(TlsFiles { ca: "nowhere.pem".into(), ..good.clone() }, "nowhere.pem");
    check(TlsFiles { ca: good.key.clone(), ..good.clone() }, "node.key.pem");
    check(TlsFiles { key: good.ca.clone(), ..good.clone() }, "ca.pem");
    // A key of another certificate.
    let mixed = TlsFiles { key: files("ca", "stranger").key, ..good };
    assert!(matches!(Tls::load(&mixed).err(), Some(Error::Tls { .. })));
}
