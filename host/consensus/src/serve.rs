//! What other nodes ask of this one.

use bytes::Bytes;
use pointsman_broker::ports::BoxFuture;
use pointsman_model::{NodeId, ShardId};
use tokio::sync::mpsc;

use crate::transport::{Lane, Serve};
use crate::{Node, questions};

impl Serve for Node {
    fn serve_call(
        &self,
        _from: NodeId,
        _lane: Lane,
        shard: ShardId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, String>> {
        let core = self.shard(shard).map(|shard| &shard.core);
        if let Some(answer) = core.and_then(|core| questions::serve(core, &request)) {
            return answer;
        }
        Box::pin(async move { Err(format!("shard {shard} is not served yet")) })
    }

    fn serve_append_stream(
        &self,
        _from: NodeId,
        _shard: ShardId,
        _requests: mpsc::Receiver<Bytes>,
        _answers: mpsc::Sender<Vec<Bytes>>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
