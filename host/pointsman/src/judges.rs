//! The sandbox as the use cases see it: `plugin-host` behind `broker::ports`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_broker::error::Complaint;
use pointsman_broker::ports::{BoxFuture, Builtin, Inspection, Judge, JudgeSpec, JudgeStats, Judges, LogLine};
use pointsman_model::TenantId;
use pointsman_model::judge::{
    CheckAnswer, CheckResponse, Column, Context, DedupKey, Failure, Half, Plan, RetryAnswer, RetryQuestion, Target,
    Verdict,
};
use pointsman_plugin_host::{Bound, BreakerState, Digest, Error, InitError, PluginHost, Spec};

/// How long a batch waits for room among the plugin calls that wait.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often it looks.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// All plugins of a node.
pub(crate) struct SandboxJudges {
    host: Arc<PluginHost>,
}

impl SandboxJudges {
    /// Judges of this sandbox.
    pub(crate) fn new(host: Arc<PluginHost>) -> Self {
        Self { host }
    }

    /// Runs `init` with an empty config. It may refuse that in words, but must come to an end by itself.
    async fn smoke(&self, inspection: &pointsman_plugin_host::Inspection) -> Result<Option<String>, Complaint> {
        match self.host.smoke(TenantId(0), inspection.digest, inspection.kind).await {
            Ok(()) => Ok(None),
            Err(InitError::Host(reason)) => Ok(Some(format!("`init` was not tried: {reason}"))),
            Err(error) => Err(Complaint { code: "smoke".to_owned(), detail: format!("on the config {{}}, {error}") }),
        }
    }
}

impl Judges for SandboxJudges {
    fn fuel(&self, tenant: TenantId) -> u64 {
        self.host.fuel(tenant)
    }

    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspection, Vec<Complaint>>> {
        Box::pin(async move {
            let complaint = |code: &str, detail: String| vec![Complaint { code: code.to_owned(), detail }];
            let looked_at = bytes.clone();
            // Linear in an upload's size, yet milliseconds: not for a thread that serves calls.
            let found = tokio::task::spawn_blocking(move || pointsman_plugin_host::inspect(&looked_at))
                .await
                .map_err(|error| complaint("limit", error.to_string()))?;
            let mut found = found.map_err(|complaints| {
                let port =
                    |c: pointsman_plugin_host::Complaint| Complaint { code: c.code.to_owned(), detail: c.detail };
                complaints.into_iter().map(port).collect::<Vec<_>>()
            })?;
            let started = Instant::now();
            self.host.compile(found.digest, bytes).await.map_err(|error| complaint("compile", error.to_string()))?;
            let compile_ms = started.elapsed().as_millis();
            found.warnings.extend(self.smoke(&found).await.map_err(|refused| vec![refused])?);
            Ok(Inspection {
                kind: found.kind,
                digest: found.digest.0,
                imports: found.imports,
                warnings: found.warnings,
                compile_ms: u32::try_from(compile_ms).unwrap_or(u32::MAX),
            })
        })
    }

    fn builtins(&self) -> Vec<Builtin> {
        let port = |builtin: &pointsman_plugin_host::Builtin| Builtin {
            name: builtin.name.to_owned(),
            version: builtin.version.to_owned(),
            kind: builtin.kind,
            digest: builtin.digest.0,
            bytes: Bytes::from_static(builtin.bytes),
        };
        pointsman_plugin_host::builtins().iter().map(port).collect()
    }

    fn try_init(&self, spec: JudgeSpec) -> BoxFuture<'_, Result<Plan, String>> {
        Box::pin(async move {
            let digest = Digest(spec.digest);
            self.host.compile(digest, spec.bytes.clone()).await.map_err(|error| error.to_string())?;
            self.host.try_init(sandbox_spec(spec)).await.map_err(|error| error.to_string())
        })
    }

    fn bind(&self, spec: JudgeSpec) -> BoxFuture<'_, Result<Arc<dyn Judge>, String>> {
        Box::pin(async move {
            let name = spec.name.clone();
            let plan = self.try_init(spec.clone()).await?;
            let bound = self.host.bind(sandbox_spec(spec), plan).map_err(|error| error.to_string())?;
            let judge: Arc<dyn Judge> = Arc::new(SandboxJudge { host: Arc::clone(&self.host), bound, name });
            Ok(judge)
        })
    }
}

fn sandbox_spec(spec: JudgeSpec) -> Spec {
    Spec {
        tenant: spec.tenant,
        binding: spec.binding.unwrap_or_default(),
        generation: spec.generation,
        digest: Digest(spec.digest),
        kind: spec.kind,
        config: spec.config,
        limits: spec.limits,
        on_failure: spec.on_failure,
    }
}

/// A bound plugin in the sandbox.
struct SandboxJudge {
    host: Arc<PluginHost>,
    bound: Arc<Bound>,
    name: String,
}

impl SandboxJudge {
    /// Makes a call, again and again for a while where there is no room among the calls that wait.
    async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let since = Instant::now();
        loop {
            match call().await {
                Err(Error::Busy) if since.elapsed() < BUSY_WAIT_MAX => tokio::time::sleep(BUSY_PAUSE).await,
                result => return result,
            }
        }
    }

    /// What stands for the verdicts of a batch that was not judged: the failure policy meets it.
    fn unjudged<T: Clone>(&self, error: &Error, n: u32) -> Vec<Verdict<T>> {
        tracing::warn!(binding.name = self.name, %error, messages = n, "a batch was not judged");
        vec![Verdict::Stopped(class(error)); n as usize]
    }

    /// The same of a question about one message.
    fn unanswered<T>(&self, error: &Error) -> Verdict<T> {
        tracing::warn!(binding.name = self.name, %error, "a question was not answered");
        Verdict::Stopped(class(error))
    }
}

/// The class under which a call that was never made is counted.
fn class(error: &Error) -> Failure {
    if matches!(error, Error::Busy) { Failure::Timeout } else { Failure::Output }
}

impl Judge for SandboxJudge {
    fn plan(&self) -> &Plan {
        self.bound.plan()
    }

    fn filter(&self, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<bool>>> {
        Box::pin(async move {
            let call = || self.host.filter(&self.bound, columns.clone(), n as usize);
            self.patiently(call).await.unwrap_or_else(|error| self.unjudged(&error, n))
        })
    }

    fn select(&self, context: Context, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<Vec<Target>>>> {
        Box::pin(async move {
            let call = || self.host.select(&self.bound, &context, columns.clone(), n as usize);
            self.patiently(call).await.unwrap_or_else(|error| self.unjudged(&error, n))
        })
    }

    fn dedup(&self, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<Option<DedupKey>>>> {
        Box::pin(async move {
            let call = || self.host.dedup(&self.bound, columns.clone(), n as usize);
            self.patiently(call).await.unwrap_or_else(|error| self.unjudged(&error, n))
        })
    }

    fn retry(&self, question: RetryQuestion) -> BoxFuture<'_, Verdict<RetryAnswer>> {
        Box::pin(async move {
            let call = || self.host.retry(&self.bound, question.clone());
            self.patiently(call).await.unwrap_or_else(|error| self.unanswered(&error))
        })
    }

    fn check_back(&self, half: Half, attempt: u16) -> BoxFuture<'_, Verdict<CheckAnswer>> {
        Box::pin(async move {
            let call = || self.host.check_back(&self.bound, half.clone(), attempt);
            self.patiently(call).await.unwrap_or_else(|error| self.unanswered(&error))
        })
    }

    fn check_answer(&self, half: Half, response: CheckResponse) -> BoxFuture<'_, Verdict<CheckAnswer>> {
        Box::pin(async move {
            let call = || self.host.check_answer(&self.bound, half.clone(), response.clone());
            self.patiently(call).await.unwrap_or_else(|error| self.unanswered(&error))
        })
    }

    fn record_bad_hint(&self) {
        self.bound.record_bad_hint();
    }

    fn stats(&self) -> JudgeStats {
        let stats = self.bound.stats();
        JudgeStats {
            calls: stats.calls,
            messages: stats.messages,
            failures: stats.failures,
            breaker_open: stats.breaker != BreakerState::Closed,
            fuel: stats.fuel,
            ns_per_message: stats.ns_per_message,
        }
    }

    fn logs(&self) -> Vec<LogLine> {
        let port = |line: pointsman_plugin_host::LogLine| LogLine {
            at: line.at,
            level: port_level(line.level),
            text: line.text,
        };
        self.bound.logs().into_iter().map(port).collect()
    }
}

/// WIT counts from 0 error to 3 debug, the port from 0 trace to 4 error.
fn port_level(level: u8) -> u8 {
    4_u8.saturating_sub(level)
}

#[cfg(test)]
mod tests;
