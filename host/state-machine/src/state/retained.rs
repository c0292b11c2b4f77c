//! What retention has taken, and what it must leave.

use pointsman_model::{GroupId, LogIndex, LogPosition, TenantId};
use serde::{Deserialize, Serialize};

/// How far the log may be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Segments that start below this position may go; 0 is none.
    pub base: u64,
    /// The last entry in them.
    pub upto: Option<u64>,
    /// When a trim was applied last, ms.
    pub at: u64,
    /// Rows of theirs are left.
    pub left: bool,
}

impl Released {
    /// First position that is kept.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        LogPosition(self.base)
    }

    /// The last entry that nothing needs any more.
    #[must_use]
    pub fn upto(&self) -> Option<LogIndex> {
        self.upto.map(LogIndex)
    }
}

/// Which row refers to a record that must stay readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwedBy {
    /// A parked message: index and ordinal of its id.
    Parked(u64, u16),
    /// A dead letter: group, and index and ordinal of the message's record.
    DeadLetter(u32, u64, u16),
}

impl OwedBy {
    /// What the key of its row tells it from others by.
    pub(crate) fn kind(self) -> (u8, u32) {
        match self {
            Self::Parked(..) => (1, 0),
            Self::DeadLetter(group, ..) => (2, group),
        }
    }

    /// The group that it is a dead letter of.
    #[must_use]
    pub fn group(self) -> Option<GroupId> {
        match self {
            Self::Parked(..) => None,
            Self::DeadLetter(group, ..) => Some(GroupId(group)),
        }
    }
}

/// A record that must stay readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Where it starts.
    pub position: LogPosition,
    /// Its bytes.
    pub length: u32,
    /// Whose it is.
    pub tenant: TenantId,
    /// What refers to it.
    pub by: OwedBy,
}
