//! Transactions: what `apply` keeps of one beside its parked messages.

use pointsman_model::{LogIndex, Ordinal, TenantId};
use serde::{Deserialize, Serialize};

use super::{Moved, Parked};
use crate::command::{CheckTable, Delay, Place, ResolvedBy};

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its first record, whose place is its id.
    pub place: Place,
    /// The topic that it was prepared at.
    pub topic: u32,
    /// All topics it needs, that one among them, ascending.
    pub topics: Vec<u32>,
    /// Who answers for it.
    pub producer_group: String,
    /// The producer's name for it.
    pub key: Option<String>,
    /// What was prepared under that name.
    pub fingerprint: u128,
    /// When it is asked about.
    pub check: CheckTable,
    /// Records of its unit, from the first on.
    pub records: u16,
    /// How many of them it holds; a duplicate is held by another.
    pub parts: u16,
    /// Delays of its records, by how far behind the first they lie; they run from the commit.
    pub delays: Vec<(u16, Delay)>,
    /// When it was prepared, ms.
    pub prepared_at: u64,
    /// What became of it.
    pub state: TransactionState,
    /// When it came into that state, ms.
    pub since: u64,
    /// Checks so far.
    pub attempt: u16,
    /// While prepared: when the next check is due, or after the last one the end.
    pub due: u64,
    /// Who ended it.
    pub resolved_by: Option<ResolvedBy>,
}

impl Transaction {
    /// Index and ordinal of its first record.
    #[must_use]
    pub fn id(&self) -> (u64, u16) {
        (self.place.index, self.place.ordinal)
    }

    /// The places of its records.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let Place { term, index, ordinal } = self.place;
        (0..self.records).map(move |i| Place { term, index, ordinal: ordinal.saturating_add(i) })
    }

    /// How long the part of this ordinal waits after the commit.
    #[must_use]
    pub fn delay(&self, ordinal: u16) -> Option<Delay> {
        let behind = ordinal.checked_sub(self.place.ordinal)?;
        self.delays.iter().find(|(of, _)| *of == behind).map(|(_, delay)| *delay)
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TransactionState {
    /// Nobody has ended it.
    Prepared,
    /// Its messages are visible.
    Committed,
    /// Its messages are gone.
    RolledBack,
    /// Nobody answered for it: its messages are discarded.
    Expired,
}

impl TransactionState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Prepared, Self::Committed, Self::RolledBack, Self::Expired];

    /// As the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Committed => "committed",
            Self::RolledBack => "rolled-back",
            Self::Expired => "expired",
        }
    }
}

/// Transactions of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionCounts {
    /// In each state, of those that are remembered; in the order of [`TransactionState::ALL`].
    pub by_state: [u64; 4],
    /// Messages of expired transactions, ever.
    pub discarded: u64,
    /// Checks, ever.
    pub checks: u64,
}

impl TransactionCounts {
    /// How many are in a state.
    #[must_use]
    pub fn of(&self, state: TransactionState) -> u64 {
        self.by_state[state as usize]
    }
}

/// A transaction about which something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTransaction {
    /// Whose it is.
    pub tenant: TenantId,
    /// The transaction.
    pub transaction: Transaction,
}

/// A message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is not visible.
    Parked(Parked),
    /// It is visible; with the index and ordinal that its id has.
    Moved(LogIndex, Ordinal, Moved),
}
