//! A node of the cluster, as the metadata shard knows it.

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How often it was replaced by an empty one: the life that it is in.
    pub incarnation: u32,
    /// Where other nodes reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub address: String,
    /// Changed by each write to it.
    pub revision: u64,
}
