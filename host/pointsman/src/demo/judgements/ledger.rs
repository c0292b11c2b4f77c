//! The outside world of the demonstration: a ledger that knows which payments are settled, on a loopback port of its own.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Most lines of a request that are read.
const HEAD_LINES_MAX: usize = 64;

/// A ledger that answers `GET /payments/{number}` until it is dropped.
pub(super) struct Ledger {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Ledger {
    pub(super) async fn start(is_settled: fn(u64) -> bool) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            // Whoever hangs up has no answer and needs none.
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move { drop(answer(stream, is_settled).await) });
            }
        });
        Ok(Self { address, serving })
    }

    /// What the plugin's config allows.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where payments are found.
    pub(super) fn url(&self) -> String {
        format!("http://{}/payments", self.address)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(stream: TcpStream, is_settled: fn(u64) -> bool) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    for _ in 0..HEAD_LINES_MAX {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let payment = first.split(' ').nth(1).and_then(|path| path.strip_prefix("/payments/")?.parse().ok());
    let (status, body) = match payment.map(is_settled) {
        Some(true) => ("200 OK", r#"{"status":"settled"}"#),
        Some(false) => ("200 OK", r#"{"status":"cancelled"}"#),
        None => ("404 Not Found", "{}"),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    stream.get_mut().write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await
}
