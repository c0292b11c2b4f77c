//! A TCP stream whose send buffer a handler may bound when its answer turns out to be a stream.
//!
//! A client that never reads pins megabytes of kernel memory before hyper feels it; with a bounded buffer it is a
//! quarter of one. Set on the listener the bound would slow large lease answers too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Send buffer of a connection that carries a stream.
const STREAM_SEND_BYTES: usize = 64 << 10;

/// Lets a handler speak to the connection its request came on.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionHandle {
    bound_wanted: Arc<AtomicBool>,
}

impl ConnectionHandle {
    /// Bounds the kernel's send buffer from the next write on.
    pub(crate) fn bound_send_buffer(&self) {
        self.bound_wanted.store(true, Ordering::Relaxed);
    }
}

/// No delay, and probes that find a vanished peer within a minute.
pub(super) fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    SockRef::from(tcp).set_tcp_keepalive(&probes)
}

/// The stream itself.
pub(super) struct Socket {
    tcp: TcpStream,
    handle: ConnectionHandle,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> (Self, ConnectionHandle) {
        let handle = ConnectionHandle::default();
        (Self { tcp, handle: handle.clone() }, handle)
    }

    fn bound_if_wanted(&self) {
        if self.handle.bound_wanted.load(Ordering::Relaxed) && self.handle.bound_wanted.swap(false, Ordering::Relaxed) {
            // A bound that cannot be set costs memory and nothing else.
            let _ = SockRef::from(&self.tcp).set_send_buffer_size(STREAM_SEND_BYTES);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.bound_if_wanted();
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bound_if_wanted();
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
