//! Sends a checkpoint to a replica that needs entries which are purged here.

use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;

use super::wire::{Answer, Ask, CheckpointId, Place, WireVote};
use super::{Client, nonsense};
use crate::Error;
use crate::core::Core;
use crate::raft_types::{Types, Vote};
use crate::snapshot::Checkpoint;
use crate::transport::Lane;

/// Bytes of one piece.
const PIECE_BYTES: usize = 1 << 20;
/// How long the answer to one piece may take.
const PIECE_WITHIN: Duration = Duration::from_secs(10);

/// Sends the file from where the other side has it, and has it installed.
pub(super) async fn send(
    client: &Client,
    core: &Arc<Core>,
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<Types, Checkpoint>,
    install_within: Duration,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let failed = |error: &Error| StreamingError::from(RPCError::<Types>::Unreachable(Unreachable::new(error)));
    let (Checkpoint::File { index, .. }, Some(last)) = (&snapshot.snapshot, snapshot.meta.last_log_id) else {
        return Err(failed(&Error::Malformed("checkpoint: it is of no entry")));
    };
    let (index, background) = (*index, core.background);
    let opener = Arc::clone(core);
    let opened = background.run(move || opener.checkpoints.outgoing(index)).await;
    let file = done(opened).map_err(|error| failed(&error))?;
    let file = Arc::new(file);
    let of = CheckpointId { at: Place::from(last), bytes: file.bytes, fingerprint: file.fingerprint };
    let mut have = had(client.ask(Lane::Bulk, Ask::CheckpointBegin(of), None, PIECE_WITHIN).await?, of)?;
    while have < of.bytes {
        let reader = Arc::clone(&file);
        let read = background.run(move || reader.piece(have, PIECE_BYTES)).await;
        let piece = done(read).map_err(|error| failed(&error))?;
        let sent = have + piece.len() as u64;
        let ask = Ask::CheckpointPiece { of, offset: have };
        let now = had(client.ask(Lane::Bulk, ask, Some(piece), PIECE_WITHIN).await?, of)?;
        if now != sent {
            tracing::info!(checkpoint.index = index.0, have = now, "the other side has another part of the checkpoint");
        }
        have = now;
    }
    let ask = Ask::CheckpointInstall { of, vote: WireVote::from(&vote) };
    match client.ask(Lane::Bulk, ask, None, install_within).await? {
        Answer::Installed(vote) => Ok(SnapshotResponse::new(vote.into())),
        _ => Err(nonsense(&Error::Malformed("answer to a checkpoint")).into()),
    }
}

/// What work off the reactor came to.
fn done<T>(work: Option<Result<T, pointsman_storage::Error>>) -> Result<T, Error> {
    work.map_or(Err(Error::Malformed("checkpoint: its reader panicked")), |done| done.map_err(Error::from))
}

#[expect(clippy::result_large_err, reason = "the error is openraft's")]
fn had(answer: Answer, of: CheckpointId) -> Result<u64, StreamingError<Types>> {
    match answer {
        Answer::Have(bytes) if bytes <= of.bytes => Ok(bytes),
        _ => Err(NetworkError::new(&Error::Malformed("answer to a piece of a checkpoint")).into()),
    }
}
