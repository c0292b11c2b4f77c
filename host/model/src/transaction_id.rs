//! The opaque id of a transaction: `t`, and then what the id of its first message has behind its letter.

use std::fmt;

use crate::MessageId;

/// A transaction, named by the place of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub MessageId);

impl TransactionId {
    /// Reads an id as [`fmt::Display`] writes it; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        MessageId::parse_as('t', text).map(Self)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as('t', f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogIndex, Ordinal, ShardId, Term};

    #[test]
    fn a_transaction_is_no_message() {
        let first = MessageId { shard: ShardId(1), term: Term(2), index: LogIndex(3), ordinal: Ordinal(4) };
        let text = TransactionId(first).to_string();
        assert_eq!(TransactionId::parse(&text), Some(TransactionId(first)));
        assert_eq!((&text[..1], &text[1..]), ("t", &first.to_string()[1..]));
        assert_eq!((MessageId::parse(&text), TransactionId::parse(&first.to_string())), (None, None));
        assert_eq!(TransactionId::parse("t"), None);
    }
}
