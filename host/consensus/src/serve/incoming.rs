//! A checkpoint as it arrives, piece by piece.

use std::sync::Arc;

use bytes::Bytes;
use openraft::alias::SnapshotOf;
use pointsman_model::LogIndex;
use pointsman_storage::checkpoint::Incoming;

use crate::Error;
use crate::core::Core;
use crate::network::wire::CheckpointId;
use crate::raft_types::{LogId, Types};
use crate::snapshot::Checkpoint;

/// The one checkpoint that is being received, if any.
#[derive(Debug, Default)]
pub(crate) struct Receiver(Option<(CheckpointId, Incoming)>);

impl Core {
    /// A checkpoint is about to come. Answers how much of it is there, if it is the one that was under way.
    pub(crate) fn checkpoint_begin(&self, of: CheckpointId) -> Result<u64, Error> {
        let mut receiver = self.receiver.lock();
        if let Some((_, incoming)) = receiver.0.as_ref().filter(|(known, _)| *known == of) {
            return Ok(incoming.have());
        }
        let incoming = self.checkpoints.incoming(LogIndex(LogId::from(of.at).index), of.bytes)?;
        receiver.0 = Some((of, incoming));
        Ok(0)
    }

    /// Takes a piece. Answers how much is there now.
    pub(crate) fn checkpoint_piece(&self, of: CheckpointId, offset: u64, piece: &Bytes) -> Result<u64, Error> {
        let mut receiver = self.receiver.lock();
        let under_way = receiver.0.as_mut().filter(|(known, _)| *known == of);
        let (_, incoming) = under_way.ok_or(Error::Malformed("checkpoint: another one is under way"))?;
        let written = incoming.write(offset, piece).map(|()| incoming.have());
        if written.is_err() {
            receiver.0 = None;
        }
        Ok(written?)
    }

    /// Verifies what came, and makes it a checkpoint of this replica.
    pub(crate) fn checkpoint_whole(self: &Arc<Self>, of: CheckpointId) -> Result<SnapshotOf<Types, Checkpoint>, Error> {
        let under_way = {
            let mut receiver = self.receiver.lock();
            if receiver.0.as_ref().is_some_and(|(known, _)| *known == of) { receiver.0.take() } else { None }
        };
        let (_, incoming) = under_way.ok_or(Error::Malformed("checkpoint: another one is under way"))?;
        let checkpoint = self.checkpoints.receive(incoming)?;
        if checkpoint.fingerprint != of.fingerprint {
            return Err(Error::Malformed("checkpoint: it is not the one that was announced"));
        }
        let snapshot = self.snapshot_from(&checkpoint)?;
        if snapshot.meta.last_log_id != Some(of.at.into()) {
            return Err(Error::Malformed("checkpoint: it is of another entry"));
        }
        Ok(snapshot)
    }
}
