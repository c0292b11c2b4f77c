//! Where work goes that would block the reactor: a checkpoint's build, the sealing of a segment, the last flush.

use futures_util::future::BoxFuture;

/// How blocking work is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// On tokio's threads for blocking work.
    #[default]
    Threads,
    /// At once and in place: for a simulation, whose order must not depend on threads.
    Inline,
}

impl Background {
    /// Runs it and forgets it.
    pub(crate) fn spawn(self, work: impl FnOnce() + Send + 'static) {
        match self {
            Self::Threads => drop(tokio::task::spawn_blocking(work)),
            Self::Inline => work(),
        }
    }

    /// Runs it to its end; `None` if it panicked.
    pub(crate) fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, Option<T>> {
        match self {
            Self::Threads => Box::pin(async move { tokio::task::spawn_blocking(work).await.ok() }),
            Self::Inline => Box::pin(async move { Some(work()) }),
        }
    }
}
