//! A relay between nodes that cuts connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes bytes on between dialers and one node, and now and then cuts a connection after any byte.
pub(super) async fn relay(listener: TcpListener, to: SocketAddr, seed: u64, calm: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tasks = JoinSet::new();
    while let Ok((from, _)) = listener.accept().await {
        let limit =
            if random.random_ratio(1, 3) { random.random_range(0..4_000) } else { random.random_range(0..20_000_000) };
        let calm = Arc::clone(&calm);
        tasks.spawn(async move {
            let Ok(to) = TcpStream::connect(to).await else { return };
            let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
            // Whichever ends first takes the other with it.
            tokio::select! {
                () = pass(from_read, to_write, limit, &calm) => {}
                () = pass(to_read, from_write, limit, &calm) => {}
            }
        });
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut limit: usize,
    calm: &AtomicBool,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 64 << 10];
    loop {
        let room = if calm.load(Ordering::Relaxed) { buffer.len() } else { limit.min(buffer.len()) };
        if room == 0 {
            return;
        }
        let Ok(count @ 1..) = from.read(&mut buffer[..room]).await else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        limit = limit.saturating_sub(count);
    }
}
