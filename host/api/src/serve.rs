//! Our own accept loop: HTTP/1.1 and h2c on one port.
//!
//! Why not `axum::serve`: it has no header timeout, waits for open streams without end at shutdown and sleeps a second
//! after any accept error. Why not hyper-util's `auto` builder: a client that connects and sends nothing stays for
//! ever. So [`sniff`] tells the protocols apart under a timeout, and hyper's own builders get every knob.

mod sniff;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pointsman_model::limits;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub(crate) use socket::ConnectionHandle;

/// Connections the kernel keeps for us until we accept them.
const BACKLOG: u32 = 1_024;
/// Most unsent bytes of one h2 stream.
const H2_SEND_BYTES: usize = 64 << 10;
/// Streams of one h2 connection.
const H2_STREAMS: u32 = 128;
/// How long to wait when there are no file descriptors left.
const NO_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(100);

/// What can go wrong with a listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Bounds of the accept loop.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Open connections.
    pub connections_max: usize,
    /// Time a client has for its protocol preface, for a request's headers, and between two requests.
    pub header_timeout: Duration,
    /// Time open requests have after the shutdown began.
    pub grace: Duration,
    /// Counters.
    pub stats: Arc<ServerStats>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            header_timeout: Duration::from_millis(limits::REQUEST_HEADER_MS_MAX),
            grace: Duration::from_secs(9),
            stats: Arc::default(),
        }
    }
}

/// What the accept loop counts.
#[derive(Debug, Default)]
pub struct ServerStats {
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Failed accepts.
    pub accept_errors: AtomicU64,
}

/// A listener as [`serve`] wants it.
///
/// # Errors
/// [`Error::Bind`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    socket
        .and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        })
        .map_err(|source| Error::Bind { address, source })
}

/// What connections share.
struct Server {
    router: Router,
    config: ServeConfig,
    draining: CancellationToken,
    kill: CancellationToken,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

/// Serves until `shutdown` is cancelled; then takes no more connections, lets open requests end within the grace, and
/// drops what is left.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, shutdown: CancellationToken, config: ServeConfig) {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_header_size(limits::REQUEST_HEADER_BYTES_MAX)
        .max_headers(limits::REQUEST_HEADERS_MAX);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(H2_STREAMS)
        .max_header_list_size(limits::REQUEST_HEADER_BYTES_MAX as u32)
        .max_send_buf_size(H2_SEND_BYTES);
    let connections = Arc::new(Semaphore::new(config.connections_max));
    let grace = config.grace;
    let server =
        Arc::new(Server { router, config, draining: shutdown.clone(), kill: CancellationToken::new(), http1, http2 });
    let tasks = TaskTracker::new();
    let loops = TaskTracker::new();
    for listener in listeners {
        loops.spawn(accept_loop(listener, Arc::clone(&server), Arc::clone(&connections), tasks.clone()));
    }
    loops.close();
    loops.wait().await;
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections dropped at the end of the grace");
        server.kill.cancel();
        tasks.wait().await;
    }
}

async fn accept_loop(listener: TcpListener, server: Arc<Server>, connections: Arc<Semaphore>, tasks: TaskTracker) {
    let mut out_of_descriptors = false;
    loop {
        let next = async {
            let permit = Arc::clone(&connections).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = server.draining.cancelled() => return,
        };
        // The semaphore is never closed.
        let Ok(permit) = permit else { return };
        match accepted {
            Ok((tcp, _)) => {
                out_of_descriptors = false;
                server.config.stats.accepted.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(connection(tcp, Arc::clone(&server), permit));
            }
            Err(error) => {
                server.config.stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                if is_out_of_descriptors(&error) {
                    if !std::mem::replace(&mut out_of_descriptors, true) {
                        tracing::error!(%error, "no connection can be accepted");
                    }
                    tokio::time::sleep(NO_DESCRIPTORS_PAUSE).await;
                }
            }
        }
    }
}

/// EMFILE or ENFILE.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Counts a connection while it is open.
struct Counted(Arc<ServerStats>);

impl Counted {
    fn new(stats: &Arc<ServerStats>) -> Self {
        stats.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(stats))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(tcp: TcpStream, server: Arc<Server>, permit: OwnedSemaphorePermit) {
    let _counted = (Counted::new(&server.config.stats), permit);
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(server.config.header_timeout, sniff::protocol(&tcp)) => sniffed,
        () = server.draining.cancelled() => return,
    };
    let Ok(Ok(protocol)) = sniffed else { return };
    if let Err(error) = socket::prepare(&tcp) {
        tracing::debug!(%error, "socket options");
    }
    let (socket, handle) = socket::Socket::new(tcp);
    let io = TokioIo::new(socket);
    let router = server.router.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(handle.clone());
        router.clone().call(request)
    });
    // Errors of a connection (resets, timeouts, bad bytes) are the client's; hyper has answered what can be answered.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            let mut told = false;
            loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended.map_err(|e| tracing::debug!(error = %e, "connection")).unwrap_or(()),
                    () = server.draining.cancelled(), if !told => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    () = server.kill.cancelled() => break,
                }
            }
        }};
    }
    match protocol {
        sniff::Protocol::Http1 => drive!(server.http1.serve_connection(io, service)),
        sniff::Protocol::Http2 => drive!(server.http2.serve_connection(io, service)),
    }
}

#[cfg(test)]
mod tests;
