//! A handler that does what the request says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use pointsman_model::{NodeId, ShardId, limits};
use tokio::sync::{Notify, mpsc};

use super::CLUSTER;
use crate::body::Body;
use crate::handler::{BoxFuture, ForwardAnswer, Forwarded, Handler, Hello, Service};

/// What it was asked and how far it came.
pub(in crate::tests) struct TestHandler {
    pub(in crate::tests) hello: Mutex<Hello>,
    pub(in crate::tests) refuses: Mutex<Option<String>>,
    pub(in crate::tests) asked: Mutex<Vec<(NodeId, Service, ShardId)>>,
    /// Requests that wait until they are dropped.
    pub(in crate::tests) hanging: Arc<AtomicUsize>,
    /// Bytes of bodies given out or taken in.
    pub(in crate::tests) moved: Arc<AtomicUsize>,
    /// Streams being served.
    pub(in crate::tests) streams: Arc<AtomicUsize>,
    /// Lets the one go on that waits for it.
    pub(in crate::tests) gate: Arc<Notify>,
}

/// Counts itself for as long as it lives.
pub(in crate::tests) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(in crate::tests) fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TestHandler {
    pub(in crate::tests) fn new(node: NodeId) -> Arc<Self> {
        let hello = Hello {
            cluster: Some(CLUSTER),
            node,
            incarnation: 5,
            feature_level: 1,
            wall_ms: 12_345,
            note: Bytes::from_static(b"note"),
        };
        Arc::new(Self {
            hello: Mutex::new(hello),
            refuses: Mutex::default(),
            asked: Mutex::default(),
            hanging: Arc::default(),
            moved: Arc::default(),
            streams: Arc::default(),
            gate: Arc::default(),
        })
    }

    pub(in crate::tests) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    pub(in crate::tests) fn moved(&self) -> usize {
        self.moved.load(Ordering::SeqCst)
    }
}

/// A body without end that counts what it gave.
pub(in crate::tests) fn endless(moved: Arc<AtomicUsize>, piece_bytes: usize) -> Body {
    let piece = Bytes::from(vec![7; piece_bytes]);
    Body::new(stream::repeat_with(move || {
        moved.fetch_add(piece.len(), Ordering::SeqCst);
        Ok(piece.clone())
    }))
}

impl Handler for TestHandler {
    fn hello(&self) -> Hello {
        self.hello.lock().clone()
    }

    fn admit(&self, _: &Hello) -> Result<(), String> {
        self.refuses.lock().clone().map_or(Ok(()), Err)
    }

    fn call(
        &self,
        from: NodeId,
        service: Service,
        shard: ShardId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>> {
        self.asked.lock().push((from, service, shard));
        let hanging = Arc::clone(&self.hanging);
        Box::pin(async move {
            match &request[..] {
                b"refuse" => Err("not today".to_owned()),
                b"panic" => panic!("as asked"),
                b"too long" => Ok(vec![Bytes::from(vec![0; limits::PEER_FRAME_BYTES_MAX + 1])]),
                b"hang" => {
                    let _counted = Counted::new(&hanging);
                    std::future::pending().await
                }
                _ => Ok(vec![request]),
            }
        })
    }

    fn append_stream(
        &self,
        _: NodeId,
        shard: ShardId,
        mut requests: mpsc::Receiver<Bytes>,
        answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()> {
        let counted = Counted::new(&self.streams);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            let _counted = counted;
            while let Some(request) = requests.recv().await {
                match &request[..] {
                    b"stop" => return,
                    b"wait" => gate.notified().await,
                    _ => {}
                }
                let answer =
                    vec![Bytes::copy_from_slice(&shard.0.to_le_bytes()), request.slice(..request.len().min(8))];
                if answers.send(answer).await.is_err() {
                    return;
                }
            }
        })
    }

    fn forward(&self, _: NodeId, request: Forwarded) -> BoxFuture<'static, ForwardAnswer> {
        let (hanging, moved) = (Arc::clone(&self.hanging), Arc::clone(&self.moved));
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            let Forwarded { head, mut body } = request;
            let body = match &head[..] {
                // Gives back what it gets, as it gets it.
                b"echo" => body,
                b"nothing" => Body::empty(),
                b"panic" => panic!("as asked"),
                b"hang" => {
                    let _counted = Counted::new(&hanging);
                    std::future::pending().await
                }
                // Reads the body once the gate opens, and says how long it was.
                b"count" => {
                    gate.notified().await;
                    let mut broken = 0;
                    while let Some(piece) = body.next().await {
                        match piece {
                            Ok(piece) => drop(moved.fetch_add(piece.len(), Ordering::SeqCst)),
                            Err(_) => broken = 1,
                        }
                    }
                    let count = moved.load(Ordering::SeqCst) as u64 + broken;
                    Body::from(Bytes::copy_from_slice(&count.to_le_bytes()))
                }
                b"endless" => {
                    let counted = Counted::new(&hanging);
                    let endless = endless(moved, 10_000);
                    Body::new(stream::unfold((endless, counted), |(mut body, counted)| async move {
                        body.next().await.map(|piece| (piece, (body, counted)))
                    }))
                }
                other => panic!("asked for {other:?}"),
            };
            ForwardAnswer { head: Bytes::from_static(b"done"), body }
        })
    }
}
