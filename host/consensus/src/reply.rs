//! How an entry's outcome finds its way back.

use openraft::raft::responder::Responder;

use crate::raft_types::{LogId, Types};

/// Calls a function with the result, or with `None` if openraft drops the proposal without one (it stopped).
pub(crate) struct Reply<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T> Reply<T> {
    /// A reply that is called exactly once.
    pub(crate) fn new(call: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call(None);
        }
    }
}

impl<T: Send + 'static> Responder<Types, T> for Reply<T> {
    /// Committed is not enough: dedup and refusals are settled by `apply` (`DESIGN.md` §1.4).
    fn on_commit(&mut self, _log_id: LogId) {}

    fn on_complete(mut self, result: T) {
        if let Some(call) = self.0.take() {
            call(Some(result));
        }
    }
}
