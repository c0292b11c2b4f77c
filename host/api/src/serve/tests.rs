//! The accept loop over real TCP: both protocols on one port, silent clients, shutdown.

use std::time::Instant;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    stats: Arc<ServerStats>,
    served: tokio::task::JoinHandle<()>,
}

fn start(router: Router, change: impl FnOnce(&mut ServeConfig)) -> Running {
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut config = ServeConfig::default();
    change(&mut config);
    let (shutdown, stats) = (CancellationToken::new(), Arc::clone(&config.stats));
    let served = tokio::spawn(serve(vec![listener], router, shutdown.clone(), config));
    Running { address, shutdown, stats, served }
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut tcp = TcpStream::connect(address).await.expect("connects");
    tcp.write_all(request).await.expect("writes");
    let mut answer = Vec::new();
    // A server that closes with unread bytes resets: what came before is the answer.
    let _ = tcp.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn both_protocols_on_one_port() {
    let server = start(Router::new().route("/", get(async || "hello")), |_| {});
    let answer = exchange(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let tcp = TcpStream::connect(server.address).await.expect("connects");
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
        .await
        .expect("h2 with prior knowledge");
    tokio::spawn(connection);
    let request = hyper::Request::get("http://localhost/").body(String::new()).expect("a request");
    let response = send.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    server.shutdown.cancel();
    server.served.await.expect("ends");
    assert_eq!(server.stats.open.load(Ordering::Relaxed), 0);
    assert_eq!(server.stats.accepted.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn silent_clients_are_closed() {
    let server = start(Router::new(), |config| config.header_timeout = Duration::from_millis(200));
    for sent in [&b""[..], b"PRI * HT", b"GET / HTTP/1.1\r\nHo"] {
        let began = Instant::now();
        let mut tcp = TcpStream::connect(server.address).await.expect("connects");
        tcp.write_all(sent).await.expect("writes");
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), tcp.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "still open after {:?}: {sent:?}", began.elapsed());
        assert!(began.elapsed() >= Duration::from_millis(190), "{sent:?}");
    }
}

#[tokio::test]
async fn headers_are_bounded() {
    let server = start(Router::new(), |_| {});
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(limits::REQUEST_HEADER_BYTES_MAX));
    let answer = exchange(server.address, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(limits::REQUEST_HEADERS_MAX + 1));
    let answer = exchange(server.address, many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn shutdown_lets_requests_end_and_drops_what_does_not() {
    let router = Router::new()
        .route("/slow", get(async || tokio::time::sleep(Duration::from_millis(300)).await))
        .route("/never", get(async || std::future::pending::<()>().await));
    let server = start(router, |config| config.grace = Duration::from_secs(1));
    let slow = tokio::spawn(exchange(server.address, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"));
    let never = tokio::spawn(exchange(server.address, b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    server.shutdown.cancel();
    server.served.await.expect("ends");
    let took = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(slow.await.expect("ends").starts_with("HTTP/1.1 200"));
    assert_eq!(never.await.expect("ends"), "");
    assert!(TcpStream::connect(server.address).await.is_err(), "no longer listening");
}

#[tokio::test]
async fn connections_are_capped() {
    let server = start(Router::new().route("/", get(async || "hello")), |config| config.connections_max = 1);
    let first = TcpStream::connect(server.address).await.expect("connects");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = tokio::spawn(exchange(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "waits for the first to go");
    drop(first);
    assert!(second.await.expect("ends").ends_with("hello"));
}
