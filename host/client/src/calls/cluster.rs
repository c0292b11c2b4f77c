//! The cluster: nodes, shards, who leads.

use pointsman_api_types::cluster::{Cluster, ClusterShard, TransferInput};

use crate::{Client, Error, Request};

impl Client {
    /// Nodes and shards, as the node that is asked sees them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.send(Request::get("/v1/cluster")).await?.json()
    }

    /// Hands a shard over to another node, and waits until that one leads.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfer_shard(&self, shard: u16, node: u32) -> Result<ClusterShard, Error> {
        let request = Request::post(format!("/v1/cluster/shards/{shard}/transfer")).json(&TransferInput { node });
        self.send(request).await?.json()
    }
}
