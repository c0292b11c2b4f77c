//! Transactions: what their first record says, their verdicts, and that they were asked about.

use serde::{Deserialize, Serialize};

use super::Judged;

/// What a transaction is, beside its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionMeta<'a> {
    /// Who answers for it, where no plugin does.
    pub producer_group: &'a str,
    /// The producer's name for it: preparing it again finds it.
    #[serde(borrow)]
    pub key: Option<&'a str>,
    /// xxh3-128 of what was prepared: the same key for something else is a mistake.
    pub fingerprint: u128,
    /// The topic that it was prepared at, whose check-back plugin is asked.
    pub topic: u32,
    /// When it is asked about.
    pub check: CheckTable,
    /// Delays of its records, by how far behind the first they lie; they run from the commit.
    pub delays: Vec<(u16, Delay)>,
}

/// When a transaction without a verdict is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckTable {
    /// From the prepare to the first check.
    pub after_ms: u64,
    /// From a check to the next, and from the last to the end.
    pub interval_ms: u64,
    /// How many checks.
    pub max: u16,
    /// Who is asked.
    pub via: CheckVia,
}

/// Who is asked what became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckVia {
    /// The check-back plugin of its topic.
    Plugin,
    /// A producer of its group.
    Producer,
}

/// How long a message waits after its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// So many ms.
    For(u64),
    /// Until a time, ms.
    Until(u64),
}

/// Head of a `transaction-resolve` record. A commit is the first record of a unit: the visible copies of all parts that
/// have no delay follow it. Header: the topic and its generation where a plugin gave the verdict, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionResolve {
    /// The transaction: index and ordinal of its first record.
    pub transaction: (u64, u16),
    /// What becomes of it.
    pub verdict: TransactionVerdict,
    /// Who says so.
    pub by: ResolvedBy,
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionVerdict {
    /// Its messages become visible.
    Commit,
    /// Its messages never become visible.
    Rollback,
    /// Nobody answered for it in time.
    Expire,
}

/// Who ended a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResolvedBy {
    /// Its producer.
    Producer,
    /// The check-back plugin.
    Plugin(Judged),
    /// The last check went unanswered.
    Timetable,
    /// An operator, over the end of an expired one too.
    Operator,
}

/// Head of a `transaction-checked` record: someone is asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionChecked {
    /// The transaction: index and ordinal of its first record.
    pub transaction: (u64, u16),
    /// Which check, from 1: the next one, or the last one again with another wait.
    pub attempt: u16,
    /// From the entry's stamp to what comes next.
    pub wait_ms: u64,
}
