//! A way between replicas in memory, whose links can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{NodeId, ShardId};
use tokio::sync::{mpsc, watch};

use crate::Shard;
use crate::transport::{AppendStream, Lane, Transport, TransportError};

/// Frames under way on one stream.
const QUEUE: usize = 16;

/// All links, and who is at their ends.
pub(in crate::tests) struct Mesh {
    ends: Mutex<BTreeMap<NodeId, Weak<Shard>>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    changed: watch::Sender<()>,
}

impl Mesh {
    pub(in crate::tests) fn new() -> Arc<Self> {
        Arc::new(Self { ends: Mutex::default(), cut: Mutex::default(), changed: watch::Sender::new(()) })
    }

    pub(in crate::tests) fn join(&self, node: NodeId, shard: &Arc<Shard>) {
        self.ends.lock().insert(node, Arc::downgrade(shard));
    }

    pub(in crate::tests) fn leave(&self, node: NodeId) {
        self.ends.lock().remove(&node);
        self.changed.send_replace(());
    }

    /// Frames from one to the other are lost, or come through again.
    pub(in crate::tests) fn cut(&self, from: NodeId, to: NodeId, cut: bool) {
        let mut links = self.cut.lock();
        if cut {
            links.insert((from, to))
        } else {
            links.remove(&(from, to))
        };
        self.changed.send_replace(());
    }

    /// Cuts a node off from all others, or takes it back.
    pub(in crate::tests) fn isolate(&self, node: NodeId, cut: bool) {
        let others: Vec<NodeId> = self.ends.lock().keys().copied().filter(|other| *other != node).collect();
        for other in others {
            self.cut(node, other, cut);
            self.cut(other, node, cut);
        }
    }

    fn reaches(&self, from: NodeId, to: NodeId) -> Option<Arc<Shard>> {
        if self.cut.lock().contains(&(from, to)) {
            return None;
        }
        self.ends.lock().get(&to).and_then(Weak::upgrade)
    }

    /// Waits until a link is cut, in either direction.
    async fn wait_cut(&self, from: NodeId, to: NodeId) {
        let mut changed = self.changed.subscribe();
        while self.reaches(from, to).is_some() && self.reaches(to, from).is_some() {
            let _ = changed.changed().await;
        }
    }
}

/// One node's way to the others.
pub(in crate::tests) struct Side {
    pub(in crate::tests) mesh: Arc<Mesh>,
    pub(in crate::tests) node: NodeId,
}

impl Transport for Side {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        _shard: ShardId,
        request: Vec<Bytes>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (mesh, from) = (Arc::clone(&self.mesh), self.node);
        Box::pin(async move {
            let shard = mesh.reaches(from, to).ok_or(TransportError::Unreachable(to))?;
            let served = shard.serve_call(from, lane, request.concat().into());
            drop(shard);
            let answer = tokio::time::timeout(within, served).await;
            // The answer has to come back, too.
            if mesh.reaches(to, from).is_none() {
                return Err(TransportError::Unanswered(to));
            }
            match answer {
                Ok(Ok(answer)) => Ok(answer.concat().into()),
                Ok(Err(reason)) => Err(TransportError::Refused { node: to, reason }),
                Err(_) => Err(TransportError::Unanswered(to)),
            }
        })
    }

    fn append_stream(&self, to: NodeId, _shard: ShardId) -> BoxFuture<'static, Result<AppendStream, TransportError>> {
        let (mesh, from) = (Arc::clone(&self.mesh), self.node);
        Box::pin(async move {
            let shard = mesh.reaches(from, to).ok_or(TransportError::Unreachable(to))?;
            let (requests, mut sent) = mpsc::channel::<Vec<Bytes>>(QUEUE);
            let (deliver, received) = mpsc::channel::<Bytes>(QUEUE);
            let (answer, mut answered) = mpsc::channel::<Vec<Bytes>>(QUEUE);
            let (give, answers) = mpsc::channel::<Bytes>(QUEUE);
            let served = shard.serve_append_stream(from, received, answer);
            drop(shard);
            tokio::spawn(async move {
                let there = async {
                    while let Some(frame) = sent.recv().await {
                        // What leaves after the cut does not arrive, also before the stream has noticed.
                        let cut = mesh.reaches(from, to).is_none();
                        if cut || deliver.send(frame.concat().into()).await.is_err() {
                            break;
                        }
                    }
                    drop(deliver);
                };
                let back = async {
                    while let Some(frame) = answered.recv().await {
                        if mesh.reaches(to, from).is_none() || give.send(frame.concat().into()).await.is_err() {
                            break;
                        }
                    }
                };
                tokio::select! {
                    () = async { tokio::join!(there, served, back); } => {}
                    () = mesh.wait_cut(from, to) => {}
                }
            });
            Ok(AppendStream { requests, answers })
        })
    }
}
