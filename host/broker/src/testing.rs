//! Ports for tests: a shard on the real state machine with everything in memory, and judges that are closures.

pub mod fixture;
mod judges;
mod nodes;
mod outside;
mod shard;

pub use judges::{FakeJudges, FakePlugin};
pub use nodes::FakeNodes;
pub use outside::FakeOutside;
pub use shard::FakeShard;
