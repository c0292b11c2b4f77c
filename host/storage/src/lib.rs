//! Files: CommitLog, ConsumeQueues, derived state, recovery.
