//! The leanest HTTP/1.1 client that is still honest: one socket, requests built beforehand, answers read whole.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer: its status and where its body lies in the connection's buffer.
pub(crate) struct Answer<'a> {
    /// HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: &'a [u8],
}

/// Builds the bytes of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

impl Connection {
    /// Connects without Nagle's delay.
    pub(crate) async fn open(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Self { stream, buffer: Vec::with_capacity(256 << 10) })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<Answer<'_>, String> {
        self.stream.write_all(request).await.map_err(|e| e.to_string())?;
        self.buffer.clear();
        let (head, status, length) = loop {
            self.fill().await?;
            if let Some(head) = find(&self.buffer, b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..head]);
                let status = text.get(9..12).and_then(|s| s.parse().ok()).ok_or("no status")?;
                let length = text
                    .lines()
                    .find_map(|line| {
                        line.to_ascii_lowercase().strip_prefix("content-length:").map(str::trim).map(str::to_owned)
                    })
                    .ok_or("no content-length")?;
                break (head + 4, status, length.parse::<usize>().map_err(|e| e.to_string())?);
            }
        };
        while self.buffer.len() < head + length {
            self.fill().await?;
        }
        Ok(Answer { status, body: &self.buffer[head..head + length] })
    }

    /// Like [`Self::call`], and an error for any status of 400 or more.
    pub(crate) async fn must(&mut self, request: &[u8]) -> Result<&[u8], String> {
        let answer = self.call(request).await?;
        if answer.status >= 400 {
            return Err(format!("{}: {}", answer.status, String::from_utf8_lossy(answer.body)));
        }
        Ok(answer.body)
    }

    /// Sends a request whose answer never ends; its bytes come by [`Self::more`].
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<(), String> {
        self.buffer.clear();
        self.stream.write_all(request).await.map_err(|e| e.to_string())
    }

    /// The next bytes of an endless answer.
    pub(crate) async fn more(&mut self) -> Result<&mut Vec<u8>, String> {
        self.fill().await?;
        Ok(&mut self.buffer)
    }

    async fn fill(&mut self) -> Result<(), String> {
        let read = self.stream.read_buf(&mut self.buffer).await.map_err(|e| e.to_string())?;
        if read == 0 { Err("the server closed the connection".into()) } else { Ok(()) }
    }
}

/// Where `needle` starts in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}
