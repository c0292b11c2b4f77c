//! openraft over the CommitLog.
