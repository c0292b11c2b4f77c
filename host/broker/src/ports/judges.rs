//! The plugin host, as the use cases see it, and the outside world, as plugins may ask for it.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::judge::{
    CallLimits, CheckAnswer, CheckResponse, Column, Context, DedupKey, Half, Kind, OnFailure, OutsideRequest, Plan,
    RetryAnswer, RetryQuestion, Target, Verdict,
};
use pointsman_model::{BindingId, Generation, TenantId, Timestamp};

use super::BoxFuture;
use crate::error::Complaint;

/// The plugin host, as the use cases see it.
pub trait Judges: Send + Sync + 'static {
    /// Checks a component, compiles it off the request path and smoke-calls it.
    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspection, Vec<Complaint>>>;

    /// The plugins that come with the broker.
    fn builtins(&self) -> Vec<Builtin>;

    /// Runs `init` in a fresh instance, as a binding's PUT does. `Err` holds the plugin's words.
    fn try_init(&self, spec: JudgeSpec) -> BoxFuture<'_, Result<Plan, String>>;

    /// Makes a judge; compiles the component if this node has not yet. `Err` says why it cannot run here.
    fn bind(&self, spec: JudgeSpec) -> BoxFuture<'_, Result<Arc<dyn Judge>, String>>;

    /// Fuel that a tenant's plugins burnt on this node since its start.
    fn fuel(&self, tenant: TenantId) -> u64;
}

/// A component that passed its inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Kind of plugin.
    pub kind: Kind,
    /// sha256.
    pub digest: [u8; 32],
    /// Imports by name.
    pub imports: Vec<String>,
    /// What it remarked.
    pub warnings: Vec<String>,
    /// How long the compilation took.
    pub compile_ms: u32,
}

/// A plugin that comes with the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Its name, without `builtin/`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: Kind,
    /// sha256.
    pub digest: [u8; 32],
    /// The component.
    pub bytes: Bytes,
}

/// Which plugin, how configured, how bounded.
#[derive(Clone, Debug)]
pub struct JudgeSpec {
    /// Whose it is; instances are never shared between tenants.
    pub tenant: TenantId,
    /// The binding, or `None` for a stream's own filter.
    pub binding: Option<BindingId>,
    /// Its generation.
    pub generation: Generation,
    /// Name for logs and metrics.
    pub name: String,
    /// Kind of plugin.
    pub kind: Kind,
    /// sha256 of the component.
    pub digest: [u8; 32],
    /// The component.
    pub bytes: Bytes,
    /// Config handed to `init`.
    pub config: Bytes,
    /// Limits of a call.
    pub limits: CallLimits,
    /// What the binding does with a message that could not be judged.
    pub on_failure: OnFailure,
}

/// A bound plugin. Asked for another kind's judgement it answers [`pointsman_model::judge::Failure::Output`].
pub trait Judge: Send + Sync + 'static {
    /// What `init` asked for.
    fn plan(&self) -> &Plan;
    /// Judges `n` messages; `columns` in the order of the plan. One verdict a message.
    fn filter(&self, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<bool>>>;
    /// Places `n` messages. One verdict a message; no target is "unroutable".
    fn select(&self, context: Context, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<Vec<Target>>>>;
    /// Names the dedup keys of `n` messages. One verdict a message; `None` is "no key".
    fn dedup(&self, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<Option<DedupKey>>>>;
    /// Says what becomes of a message whose attempt ended badly.
    fn retry(&self, question: RetryQuestion) -> BoxFuture<'_, Verdict<RetryAnswer>>;
    /// Checks a transaction for the `attempt`th time, from 1.
    fn check_back(&self, half: Half, attempt: u16) -> BoxFuture<'_, Verdict<CheckAnswer>>;
    /// Hands over what came of the request that [`CheckAnswer::Ask`] named.
    fn check_answer(&self, half: Half, response: CheckResponse) -> BoxFuture<'_, Verdict<CheckAnswer>>;
    /// Counts a hint that would have skipped a message the plugin accepts.
    fn record_bad_hint(&self);
    /// What it did so far.
    fn stats(&self) -> JudgeStats;
    /// Its last log lines, the oldest first.
    fn logs(&self) -> Vec<LogLine>;
}

/// The world outside, as check-back plugins may reach it.
pub trait Outside: Send + Sync + 'static {
    /// Makes a request, if one of `allow` (`host:port`, or `host` for its scheme's own port) names its host. What goes
    /// wrong is part of the answer.
    fn ask(&self, request: OutsideRequest, allow: Vec<String>) -> BoxFuture<'_, CheckResponse>;
}

/// What a binding's plugin did since this node bound it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JudgeStats {
    /// Calls.
    pub calls: u64,
    /// Messages judged.
    pub messages: u64,
    /// Failures, in the order of [`pointsman_model::judge::Failure::ALL`].
    pub failures: [u64; 7],
    /// The breaker is open: calls are refused until it closes.
    pub breaker_open: bool,
    /// Fuel burned.
    pub fuel: u64,
    /// Time in the sandbox a message, ns.
    pub ns_per_message: u64,
}

/// A line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When, on this node's clock.
    pub at: Timestamp,
    /// 0 trace … 4 error.
    pub level: u8,
    /// The text, cut to its limit.
    pub text: String,
}
