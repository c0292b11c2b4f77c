//! The CommitLog of one shard: its Raft log, its messages, and its only journal.

mod frame;

pub use frame::{FRAME_HEADER_BYTES, Frame, FrameKind, Location, Ticket, frame_bytes};
