//! The running hash of outcomes: what replicas compare to find one that differs.
//!
//! hash(n) = xxh3(hash(n − 1) ‖ index ‖ outcomes), all little-endian. Words meant for people stay out, so that a
//! release may reword them.

use pointsman_model::{LogIndex, hash};

use crate::outcome::{Blocker, LetterFate, Outcome, Refusal, Settlement};

/// The hash after an entry.
pub(super) fn next(before: u64, index: LogIndex, outcomes: &[Outcome]) -> u64 {
    let mut bytes = Vec::with_capacity(16 + outcomes.len() * 24);
    bytes.extend_from_slice(&before.to_le_bytes());
    bytes.extend_from_slice(&index.0.to_le_bytes());
    for outcome in outcomes {
        write(outcome, &mut bytes);
    }
    hash::hash(&bytes)
}

fn write(outcome: &Outcome, out: &mut Vec<u8>) {
    match outcome {
        Outcome::Published(at) => {
            out.push(1);
            out.extend_from_slice(&at.topic.0.to_le_bytes());
            out.extend_from_slice(&at.queue.0.to_le_bytes());
            out.extend_from_slice(&at.offset.0.to_le_bytes());
            out.extend_from_slice(&at.stored_at.0.to_le_bytes());
        }
        Outcome::Settled(settlements) => {
            out.push(2);
            out.extend_from_slice(&(settlements.len() as u32).to_le_bytes());
            out.extend(settlements.iter().map(settlement));
        }
        Outcome::Skipped => out.push(3),
        Outcome::Configured { created, unchanged, revision, id } => {
            out.extend_from_slice(&[4, u8::from(*created), u8::from(*unchanged)]);
            out.extend_from_slice(&revision.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        Outcome::Deleted => out.push(5),
        Outcome::ChunkStored => out.push(6),
        Outcome::Duplicate(before) => {
            out.push(8);
            out.extend_from_slice(&before.place.index.to_le_bytes());
            out.extend_from_slice(&before.place.ordinal.to_le_bytes());
            out.extend_from_slice(&before.at.map_or(u64::MAX, |(_, offset)| offset.0).to_le_bytes());
        }
        Outcome::Parked(at) => {
            out.push(22);
            out.extend_from_slice(&at.topic.0.to_le_bytes());
            out.extend_from_slice(&at.queue.0.to_le_bytes());
            out.extend_from_slice(&at.deliver_at.map_or(u64::MAX, |due| due.0).to_le_bytes());
        }
        Outcome::ScheduleRan { next } => {
            out.push(41);
            out.extend_from_slice(&next.map_or(u64::MAX, |next| next.0).to_le_bytes());
        }
        Outcome::TimerChanged { deliver_at } => {
            out.push(30);
            out.extend_from_slice(&deliver_at.map_or(u64::MAX, |due| due.0).to_le_bytes());
        }
        Outcome::Granted(granted) => {
            out.push(32);
            out.extend_from_slice(&(granted.len() as u32).to_le_bytes());
            out.extend(granted.iter().map(|granted| u8::from(*granted)));
        }
        Outcome::Resolved { place, state, repeated } => {
            out.extend_from_slice(&[40, *state as u8, u8::from(*repeated)]);
            out.extend_from_slice(&place.index.to_le_bytes());
            out.extend_from_slice(&place.ordinal.to_le_bytes());
        }
        Outcome::Checked => out.push(41),
        Outcome::Trimmed(trimmed) => {
            out.push(43);
            out.extend_from_slice(&trimmed.queues.to_le_bytes());
            out.push(trimmed.blocked.as_ref().map_or(0, blocker));
            out.push(u8::from(trimmed.left));
        }
        Outcome::Carried(rows) => {
            out.push(44);
            out.extend_from_slice(&rows.to_le_bytes());
        }
        Outcome::Refused(refusal) => {
            out.push(7);
            write_refusal(refusal, out);
        }
        Outcome::DeadLetters(fates) => {
            out.push(8);
            out.extend_from_slice(&(fates.len() as u32).to_le_bytes());
            out.extend(fates.iter().map(letter_fate));
        }
    }
}

fn settlement(settlement: &Settlement) -> u8 {
    match settlement {
        Settlement::Settled => 1,
        Settlement::AlreadySettled => 2,
        Settlement::Expired => 3,
        Settlement::Unknown => 4,
        Settlement::RetrySetFull => 5,
        Settlement::DeadLettered => 6,
    }
}

fn blocker(blocker: &Blocker) -> u8 {
    match blocker {
        Blocker::NotThere => 1,
        Blocker::Queue(..) => 2,
        Blocker::Retrying(_) => 3,
        Blocker::Owed(_) => 4,
    }
}

fn letter_fate(fate: &LetterFate) -> u8 {
    match fate {
        LetterFate::Redriven => 1,
        LetterFate::AlreadyRedriven => 2,
        LetterFate::Forgotten => 3,
        LetterFate::NotFound => 4,
        LetterFate::NotSubscribed => 5,
        LetterFate::RetrySetFull => 6,
    }
}

fn write_refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    let (tag, number): (u8, u64) = match refusal {
        Refusal::Stale(generation) => (1, generation.0.into()),
        Refusal::Malformed(_) => (2, 0),
        Refusal::TenantNotFound => (3, 0),
        Refusal::TopicNotFound(_) => (4, 0),
        Refusal::GroupNotFound => (5, 0),
        Refusal::BindingNotFound => (6, 0),
        Refusal::PluginNotFound(_) => (7, 0),
        Refusal::QueueNotFound(queue) => (8, queue.0.into()),
        Refusal::FewerQueues(queues) => (9, (*queues).into()),
        Refusal::AlreadyExists(_) => (10, 0),
        Refusal::InUse(names) => (11, names.len() as u64),
        Refusal::PreconditionFailed => (12, 0),
        Refusal::WrongSlot => (13, 0),
        Refusal::PluginIncomplete => (14, 0),
        Refusal::UnitRefused => (15, 0),
        Refusal::SourceClosed => (30, 0),
        Refusal::AlreadyDelivered => (31, 0),
        Refusal::NotScheduled => (32, 0),
        Refusal::ScheduleNotFound => (33, 0),
        Refusal::TooManySchedules => (34, 0),
        Refusal::TransactionNotFound => (40, 0),
        Refusal::TransactionResolved(state) => (41, *state as u64),
        Refusal::TransactionExists { place, .. } => (42, place.index),
        Refusal::NameTaken => (43, 0),
        Refusal::NotDue => (44, 0),
        Refusal::TenantIdTaken(id) => (16, id.0.into()),
        Refusal::IdempotencyMismatch => (17, 0),
        Refusal::TooManyKeys => (18, 0),
        Refusal::TokenNotFound => (40, 0),
        Refusal::QuotaExceeded(_, limit) => (41, *limit),
    };
    out.push(tag);
    out.extend_from_slice(&number.to_le_bytes());
}
