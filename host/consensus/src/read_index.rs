//! How fresh a read must be: the index that the leader had when a quorum last confirmed it.
//!
//! Whoever asks while a question is under way waits for the next one: an answer counts only for those who asked before
//! the question left. So however many ask, there is one question after the other.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::raft::linearizable_read::Linearizer;
use parking_lot::Mutex;
use pointsman_model::LogIndex;
use tokio::sync::oneshot;

use crate::config::LEASE;
use crate::core::Core;
use crate::network::Network;
use crate::network::wire::{Answer, Ask};
use crate::raft_types::Types;
use crate::shard::Raft;
use crate::transport::Lane;

/// How long the leader may take to answer; it asks a quorum first.
const ASK_WITHIN: Duration = LEASE;

/// Asks for all who wait.
pub(crate) struct ReadIndex {
    core: Arc<Core>,
    raft: Raft,
    network: Network,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    callers: Vec<oneshot::Sender<Option<LogIndex>>>,
    /// A task asks; it looks here again before it ends.
    asking: bool,
}

/// The index of a leader that a quorum confirms now.
pub(crate) async fn confirmed(raft: &Raft) -> Option<u64> {
    let linearizer: Linearizer<Types> = raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
    Some(linearizer.read_log_id().index())
}

impl ReadIndex {
    pub(crate) fn new(core: Arc<Core>, raft: Raft, network: Network) -> Arc<Self> {
        Arc::new(Self { core, raft, network, waiting: Mutex::default() })
    }

    /// An index that covers everything acknowledged before this call; `None` if no leader said so.
    pub(crate) async fn ask(self: &Arc<Self>) -> Option<LogIndex> {
        let (tell, told) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock();
            waiting.callers.push(tell);
            !std::mem::replace(&mut waiting.asking, true)
        };
        if is_first {
            tokio::spawn(Arc::clone(self).ask_for_all());
        }
        told.await.ok().flatten()
    }

    async fn ask_for_all(self: Arc<Self>) {
        loop {
            let callers = {
                let mut waiting = self.waiting.lock();
                waiting.callers.retain(|caller| !caller.is_closed());
                if waiting.callers.is_empty() {
                    waiting.asking = false;
                    return;
                }
                std::mem::take(&mut waiting.callers)
            };
            let index = self.ask_leader().await.map(LogIndex);
            for caller in callers {
                // Whoever went away needs no answer.
                let _ = caller.send(index);
            }
        }
    }

    async fn ask_leader(&self) -> Option<u64> {
        let leader = self.core.leadership.known_leader()?;
        if leader == self.core.id {
            return confirmed(&self.raft).await;
        }
        let client = self.network.calls(leader);
        tokio::select! {
            answer = client.ask(Lane::Control, Ask::ReadIndex, None, ASK_WITHIN) => match answer {
                Ok(Answer::ReadAt(index)) => index,
                _ => None,
            },
            // One that was stopped would be waited for in vain.
            () = self.core.leadership.wait_for_other_than(leader) => None,
        }
    }
}
