//! The tasks of a node's peer port: owned by it, and gone with it.

use std::future::Future;

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the tasks of the peer port run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Serving {
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl Serving {
    /// Runs a task until it ends or all are killed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let kill = self.kill.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                () = task => {}
            }
        };
        self.tasks.spawn(task).abort_handle()
    }

    /// Drops every task and waits until all are gone.
    pub(crate) async fn kill(&self) {
        self.kill.cancel();
        self.wait().await;
    }

    /// Waits until every task has ended by itself.
    pub(crate) async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
