//! Leases and how they end.

use pointsman_model::Timestamp;

use super::StoredMessage;

/// One lease call, defaults filled in where `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Messages at most.
    pub max_messages: Option<u32>,
    /// Body bytes at most; the first message is always given.
    pub max_bytes: Option<u32>,
    /// How long to wait for a first message.
    pub wait_ms: u64,
    /// Lease time; the group's if absent.
    pub lease_ms: Option<u64>,
    /// Who asks.
    pub client_id: Option<String>,
    /// Replays a lost answer while one of its leases runs.
    pub idempotency_key: Option<String>,
}

/// A lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What settles it.
    pub receipt: String,
    /// When it runs out.
    pub expires_at: Timestamp,
    /// Which delivery this is, from 1.
    pub attempt: u16,
    /// The message.
    pub message: StoredMessage,
}

/// One item of a settle call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleRequest {
    /// As given out.
    pub receipt: String,
    /// The consumer's word.
    pub op: SettleOp,
    /// Nack, release: when again.
    pub delay_ms: Option<u64>,
    /// Extend: for how long from now on.
    pub lease_ms: Option<u64>,
    /// Nack, dead-letter: why.
    pub reason: Option<String>,
}

/// A consumer's word about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleOp {
    /// Done.
    Ack,
    /// Not done; counts as an attempt.
    Nack,
    /// More time.
    Extend,
    /// Give back; the attempt does not count.
    Release,
    /// Not done, and no more attempts.
    DeadLetter,
}

/// What became of a settle item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleResult {
    /// As given.
    pub receipt: String,
    /// What became of it.
    pub status: SettleStatus,
    /// After an extension.
    pub expires_at: Option<Timestamp>,
}

/// The status words of a settle answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleStatus {
    /// Ended now.
    Settled,
    /// Runs on.
    Extended,
    /// Had ended before by its consumer's word; no failure.
    AlreadySettled,
    /// Had run out.
    LeaseExpired,
    /// Not a receipt of this group.
    Invalid,
}
