//! From a directory to the parts of a shard that agree with each other.
//!
//! The log is the only truth, so it is opened first and everything else is measured against it. State that is ahead of
//! the log, or of an entry the log does not have, would make openraft purge the log; it is deleted and comes again
//! from the base checkpoint and the log, before openraft sees any of it.

use std::path::Path;
use std::sync::Arc;

use pointsman_model::{LogIndex, Term, Timestamp};
use pointsman_state_machine::Machine;
use pointsman_storage::checkpoint::Checkpoints;
use pointsman_storage::identity::Owner;
use pointsman_storage::log::{CommitLog, Damage, LogConfig, RecoveryReport};
use pointsman_storage::queues::QueueIndex;
use pointsman_storage::state::{StateConfig, StateStore, StateTree};
use pointsman_storage::vote::VoteFile;

use crate::Error;
use crate::config::ShardConfig;
use crate::core::{Core, Parts};
use crate::derived::expected_sidecars;
use crate::progress::Progress;

/// What opening a shard found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut; 0 after a clean stop.
    pub torn_bytes: u64,
    /// Damage below the watermark. If there is any, the shard only reads.
    pub damages: Vec<Damage>,
    /// Segments of the log.
    pub segments: usize,
    /// Why the state was deleted and made again, if it was.
    pub state_rebuilt: Option<&'static str>,
    /// Sidecars that were missing or damaged and were made again.
    pub sidecars_rebuilt: usize,
    /// The entry the state was found at; the log gives the rest.
    pub applied: Option<LogIndex>,
    /// The last entry of the log.
    pub last: Option<LogIndex>,
}

/// Recovers a shard. Blocks.
///
/// # Errors
/// I/O; files that are damaged beyond what recovery may repair, foreign, or newer than this release.
pub(crate) fn recover(config: &ShardConfig) -> Result<(Arc<Core>, Recovery), Error> {
    match recover_once(config) {
        Err(error @ Error::StateLost { .. }) if config.cluster.is_some() => {
            tracing::error!(shard.id = config.shard.0, %error, "this replica starts over: everything comes from the others");
            start_over(config)?;
            recover_once(config)
        }
        recovered => recovered,
    }
}

/// Removes everything but the vote: the others have a checkpoint and what comes after it.
///
/// # Errors
/// I/O. It may be tried again.
fn start_over(config: &ShardConfig) -> Result<(), Error> {
    let (disk, dir) = (&*config.disk, &config.dir);
    StateTree::destroy(&dir.join("state"))?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Directory { operation: "clear", path, source }
    };
    for part in ["checkpoint", "sidecar", "log"] {
        let part = dir.join(part);
        // Segments from the newest on: what is left is the start of a log.
        for name in disk.list(&part).map_err(failed(&part))?.iter().rev() {
            let path = part.join(name);
            disk.unlink(&path).map_err(failed(&path))?;
            disk.sync_dir(&part).map_err(failed(&part))?;
        }
    }
    let base = dir.join("base");
    if disk.info(&base).is_ok() {
        disk.unlink(&base).map_err(failed(&base))?;
    }
    disk.sync_dir(dir).map_err(failed(dir))
}

fn recover_once(config: &ShardConfig) -> Result<(Arc<Core>, Recovery), Error> {
    let (disk, dir) = (&config.disk, &config.dir);
    let io = |operation: &'static str| move |source| Error::Directory { operation, path: dir.clone(), source };
    disk.create_dir(dir).map_err(io("create"))?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent).map_err(io("sync the parent of"))?;
    }
    let owner = Owner { cluster: config.identity.cluster, shard: config.shard };
    let vote = VoteFile::open(&**disk, dir, owner)?;
    let log_config = LogConfig {
        segment_bytes: config.segment_bytes,
        zero_ahead: config.zero_ahead,
        replicated: config.cluster.is_some(),
        ..LogConfig::new(dir.clone(), owner.cluster, config.shard)
    };
    let (log, report) = CommitLog::open(Arc::clone(disk), log_config)?;
    let checkpoints = Checkpoints::open(Arc::clone(disk), owner, &dir.join("checkpoint"))?;
    if config.cluster.is_some() && report.damages.is_empty() {
        // A checkpoint past the end of the log is a way round entries that the others still have, and that this replica
        // would never get again. If they have not, their checkpoint comes again.
        let end = log.flushed();
        checkpoints.retain(|index| Some(index) <= end)?;
    }
    let (state, state_rebuilt) = open_state(config, &log)?;
    let found = Found { log, vote, state, checkpoints };
    let (core, mut recovery) = assemble(found, config, owner, &report)?;
    recovery.state_rebuilt = state_rebuilt;
    if config.cluster.is_some()
        && let Some(why) = doubt(&core, &report, state_rebuilt)
    {
        core.gate.shut(why);
    }
    Ok((core, recovery))
}

/// Why the log of a replica may be shorter than what it acknowledged, if it may.
fn doubt(core: &Core, report: &RecoveryReport, state_rebuilt: Option<&'static str>) -> Option<&'static str> {
    let followed = core.vote.lock().load().is_some_and(|vote| vote.committed);
    let is_empty = core.log.last().is_none() && core.log.purged().is_none();
    if report.torn_bytes > 0 {
        Some("a torn tail was cut")
    } else if report.successor_gone {
        Some("the last segment of its log is gone")
    } else if state_rebuilt == Some(AHEAD) {
        Some("its state was ahead of its log")
    } else if is_empty && followed {
        Some("its log is gone")
    } else {
        None
    }
}

/// What lies in the directory, opened.
pub(crate) struct Found {
    pub(crate) log: CommitLog,
    pub(crate) vote: VoteFile,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) checkpoints: Checkpoints,
}

/// Brings state and derived files to where the log allows, and puts the parts together.
///
/// # Errors
/// As [`recover`].
pub(crate) fn assemble(
    found: Found,
    config: &ShardConfig,
    owner: Owner,
    report: &RecoveryReport,
) -> Result<(Arc<Core>, Recovery), Error> {
    let Found { log, vote, state, checkpoints } = found;
    restore_base(&*state, &checkpoints)?;
    let progress = state.applied().map(|applied| Progress::decode(applied.index, &applied.meta)).transpose()?;
    let applied = progress.as_ref().map(|progress| progress.index);
    if let Some(purged) = log.purged()
        && applied.is_none_or(|applied| applied < purged.index)
    {
        return Err(Error::StateLost { applied, purged: purged.index });
    }
    let machine = Machine::load(&crate::core::Rows(&*state), config.shard)?;
    let released = machine.state().released;
    let expected = expected_sidecars(&log, applied, released.base());
    let (queues, missing) = QueueIndex::open(Arc::clone(&config.disk), owner, &config.dir.join("sidecar"), &expected)?;
    // What may go: what is gone, what a trim released, and all of a log that a checkpoint was installed past the end of.
    let whole = report.damages.is_empty();
    let past_the_end = applied.filter(|applied| whole && log.last().is_none_or(|(_, last, _)| last < *applied));
    let purged = log.purged().map(|base| base.index);
    let (shard, id, background) = (config.shard, config.raft_node_id(), config.background);
    let parts = Parts { shard, id, log, vote, state, queues, checkpoints, machine, progress, strict: true, background };
    let core = Core::new(parts);
    [past_the_end, purged, released.upto()].into_iter().flatten().for_each(|index| core.allow_purge(index));
    core.find_last_checkpoint()?;
    if config.cluster.is_some() {
        core.doubts.listen();
    }
    match core.derive_missing(&missing) {
        Err(error) if !report.damages.is_empty() => {
            tracing::error!(shard.id = config.shard.0, error = %error, "what lies behind the damage is not served");
        }
        Err(Error::Storage(error)) if core.doubts.report_error(&error).is_some() => {}
        derived => derived?,
    }
    let recovery = Recovery {
        torn_bytes: report.torn_bytes,
        damages: report.damages.clone(),
        segments: report.segments,
        state_rebuilt: None,
        sidecars_rebuilt: missing.len(),
        applied,
        last: report.last.map(|(_, index, _): (Term, LogIndex, Timestamp)| index),
    };
    Ok((core, recovery))
}

/// Opens the state, or an empty one where what is there does not fit the log.
fn open_state(config: &ShardConfig, log: &CommitLog) -> Result<(Arc<dyn StateStore>, Option<&'static str>), Error> {
    let dir = config.dir.join("state");
    let open = || {
        let log = log.clone();
        StateTree::open(&dir, StateConfig::new(Arc::new(move || log.flushed())))
    };
    let why = match open() {
        Ok(state) => match misfit(&state, log)? {
            None => return Ok((Arc::new(state), None)),
            Some(why) => why,
        },
        Err(pointsman_storage::Error::StateDamaged { .. }) => "it is damaged",
        Err(error) => return Err(error.into()),
    };
    tracing::warn!(shard.id = config.shard.0, why, "the state is deleted and made again");
    StateTree::destroy(&dir)?;
    Ok((Arc::new(open()?), Some(why)))
}

/// The state is of an entry that the log does not reach.
const AHEAD: &str = "it is ahead of the log";

/// Why a state cannot be of this log, if so.
///
/// # Errors
/// What reading the log says.
pub(crate) fn misfit(state: &dyn StateStore, log: &CommitLog) -> Result<Option<&'static str>, Error> {
    let Some(applied) = state.applied() else {
        return Ok(None);
    };
    // A damaged log ends where it can be read; what lies behind comes again.
    if log.damages().is_empty() && log.flushed().is_none_or(|flushed| flushed < applied.index) {
        return Ok(Some(AHEAD));
    }
    let Ok(progress) = Progress::decode(applied.index, &applied.meta) else {
        return Ok(Some("it does not say what it is the state of"));
    };
    match log.term_at(applied.index) {
        Ok(term) if term != progress.term => Ok(Some("it is the state of an entry that the log does not have")),
        Ok(_) => Ok(None),
        // Purged or damaged: the log cannot contradict.
        Err(pointsman_storage::Error::NotInLog { .. } | pointsman_storage::Error::Damaged { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes over the newest checkpoint if the state is behind it.
fn restore_base(state: &dyn StateStore, checkpoints: &Checkpoints) -> Result<(), Error> {
    let applied = state.applied().map(|applied| applied.index);
    if checkpoints.list()?.last().copied() <= applied {
        return Ok(());
    }
    let Some(newest) = checkpoints.newest_at_or_below(LogIndex(u64::MAX))? else {
        return Ok(());
    };
    let index = newest.meta.index;
    if state.applied().is_none_or(|applied| applied.index < index) {
        let progress = Progress::decode(index, &newest.meta.extra)?;
        state.replace(&progress.applied()?, &mut checkpoints.import(index)?)?;
    }
    Ok(())
}
