//! Judges that are closures. The bytes of a fake component are its name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_model::TenantId;
use pointsman_model::judge::{
    CheckAnswer, CheckResponse, Column, Context, DedupKey, Failure, Field, Half, Kind, Plan, RetryAnswer,
    RetryQuestion, Target, Verdict,
};

use crate::error::Complaint;
use crate::ports::{BoxFuture, Builtin, Inspection, Judge, JudgeSpec, JudgeStats, Judges, LogLine};

type Select = Arc<dyn Fn(usize, &[Column]) -> Verdict<Vec<Target>> + Send + Sync>;
type Accept = Arc<dyn Fn(usize, &[Column]) -> Verdict<bool> + Send + Sync>;
type Init = Arc<dyn Fn(&[u8]) -> Result<Plan, String> + Send + Sync>;

/// A plugin made of closures.
#[derive(Clone)]
pub struct FakePlugin {
    init: Init,
    judgement: Judgement,
}

type Key = Arc<dyn Fn(usize, &[Column]) -> Verdict<Option<DedupKey>> + Send + Sync>;
type Decide = Arc<dyn Fn(&RetryQuestion) -> Verdict<RetryAnswer> + Send + Sync>;
type Check = Arc<dyn Fn(&Half, u16) -> Verdict<CheckAnswer> + Send + Sync>;
type Answer = Arc<dyn Fn(&Half, &CheckResponse) -> Verdict<CheckAnswer> + Send + Sync>;

/// What a plugin of each kind does.
#[derive(Clone)]
enum Judgement {
    Selector(Select),
    Filter(Accept),
    Dedup(Key),
    Retry(Decide),
    CheckBack(Check, Answer),
}

impl FakePlugin {
    /// A selector that sees these fields.
    pub fn selector(
        plan: Plan,
        select: impl Fn(usize, &[Column]) -> Verdict<Vec<Target>> + Send + Sync + 'static,
    ) -> Self {
        Self::new(plan, Judgement::Selector(Arc::new(select)))
    }

    /// A filter that sees these fields.
    pub fn filter(plan: Plan, accept: impl Fn(usize, &[Column]) -> Verdict<bool> + Send + Sync + 'static) -> Self {
        Self::new(plan, Judgement::Filter(Arc::new(accept)))
    }

    /// A dedup that sees these fields.
    pub fn dedup(
        plan: Plan,
        key: impl Fn(usize, &[Column]) -> Verdict<Option<DedupKey>> + Send + Sync + 'static,
    ) -> Self {
        Self::new(plan, Judgement::Dedup(Arc::new(key)))
    }

    /// A retry policy.
    pub fn retry(decide: impl Fn(&RetryQuestion) -> Verdict<RetryAnswer> + Send + Sync + 'static) -> Self {
        Self::new(Plan::default(), Judgement::Retry(Arc::new(decide)))
    }

    /// A check-back: what it says of a transaction at first, and of a response.
    pub fn check_back(
        check: impl Fn(&Half, u16) -> Verdict<CheckAnswer> + Send + Sync + 'static,
        answer: impl Fn(&Half, &CheckResponse) -> Verdict<CheckAnswer> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Plan::default(), Judgement::CheckBack(Arc::new(check), Arc::new(answer)))
    }

    fn new(plan: Plan, judgement: Judgement) -> Self {
        Self { init: Arc::new(move |_| Ok(plan.clone())), judgement }
    }

    fn kind(&self) -> Kind {
        match self.judgement {
            Judgement::Selector(_) => Kind::Selector,
            Judgement::Filter(_) => Kind::Filter,
            Judgement::Dedup(_) => Kind::Dedup,
            Judgement::Retry(_) => Kind::Retry,
            Judgement::CheckBack(..) => Kind::CheckBack,
        }
    }

    /// The same with another `init`.
    #[must_use]
    pub fn with_init(self, init: impl Fn(&[u8]) -> Result<Plan, String> + Send + Sync + 'static) -> Self {
        Self { init: Arc::new(init), ..self }
    }
}

/// The plugin host of tests. It has a built-in `tags`, whose expression is words between `||`.
#[derive(Default)]
pub struct FakeJudges {
    plugins: Mutex<HashMap<Bytes, FakePlugin>>,
    /// Sizes of all calls so far.
    pub calls: Arc<Mutex<Vec<u32>>>,
    /// Hints that were found bad.
    pub bad_hints: Arc<AtomicU64>,
    /// Judges bound so far.
    pub bound: AtomicU64,
    /// Why no judge can be bound, if so.
    pub broken: Mutex<Option<String>>,
    /// Fuel burnt by each tenant's plugins.
    pub fuel: Mutex<HashMap<TenantId, u64>>,
}

impl FakeJudges {
    /// A tenant's plugins burn so much more.
    pub fn burn(&self, tenant: TenantId, fuel: u64) {
        *self.fuel.lock().entry(tenant).or_default() += fuel;
    }

    /// Makes a component; its bytes are `name`.
    pub fn add(&self, name: &'static str, plugin: FakePlugin) -> Bytes {
        let bytes = Bytes::from_static(name.as_bytes());
        self.plugins.lock().insert(bytes.clone(), plugin);
        bytes
    }

    fn plugin(&self, spec: &JudgeSpec) -> Result<(FakePlugin, Plan), String> {
        let config = String::from_utf8_lossy(&spec.config);
        let plugin = match &spec.bytes[..] {
            TAGS => tags(&config)?,
            bytes => self.plugins.lock().get(bytes).cloned().ok_or("no such plugin")?,
        };
        let plan = (plugin.init)(&spec.config)?;
        Ok((plugin, plan))
    }
}

const TAGS: &[u8] = b"tags";

/// A digest as good as any for a test.
fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    for (at, byte) in bytes.iter().enumerate() {
        digest[at % 32] ^= byte.rotate_left(at as u32 / 32);
    }
    digest
}

/// The built-in filter by tag.
fn tags(config: &str) -> Result<FakePlugin, String> {
    let config: serde_json::Value = serde_json::from_str(config).map_err(|error| error.to_string())?;
    let expression = config["expression"].as_str().ok_or("no expression")?;
    let words: Vec<String> = expression.split("||").map(|word| word.trim().to_owned()).collect();
    if words.iter().any(String::is_empty) {
        return Err("an operand is missing at 0".into());
    }
    let any = words.iter().any(|word| word == "*");
    let plan = Plan { fields: vec![Field::Tag], tags: (!any).then(|| words.clone()), destinations: Vec::new() };
    Ok(FakePlugin::filter(plan, move |i, columns| {
        let tag = columns[0].get(i);
        Verdict::Answer(any || tag.is_some_and(|tag| words.iter().any(|word| word.as_bytes() == tag)))
    }))
}

impl Judges for FakeJudges {
    fn fuel(&self, tenant: TenantId) -> u64 {
        self.fuel.lock().get(&tenant).copied().unwrap_or_default()
    }

    fn inspect(&self, bytes: Bytes) -> BoxFuture<'_, Result<Inspection, Vec<Complaint>>> {
        let found = self.plugins.lock().get(&bytes).cloned();
        Box::pin(async move {
            let plugin = found
                .ok_or_else(|| vec![Complaint { code: "not-a-component".into(), detail: "not a component".into() }])?;
            Ok(Inspection {
                kind: plugin.kind(),
                digest: digest(&bytes),
                imports: Vec::new(),
                warnings: Vec::new(),
                compile_ms: 1,
            })
        })
    }

    fn builtins(&self) -> Vec<Builtin> {
        vec![Builtin {
            name: "tags".into(),
            version: "0.1.0".into(),
            kind: Kind::Filter,
            digest: digest(TAGS),
            bytes: Bytes::from_static(TAGS),
        }]
    }

    fn try_init(&self, spec: JudgeSpec) -> BoxFuture<'_, Result<Plan, String>> {
        let plan = self.plugin(&spec).map(|(_, plan)| plan);
        Box::pin(async move { plan })
    }

    fn bind(&self, spec: JudgeSpec) -> BoxFuture<'_, Result<Arc<dyn Judge>, String>> {
        self.bound.fetch_add(1, Ordering::SeqCst);
        let broken = self.broken.lock().clone();
        let plugin = broken.map_or_else(|| self.plugin(&spec), Err);
        let (calls, bad_hints) = (Arc::clone(&self.calls), Arc::clone(&self.bad_hints));
        Box::pin(async move {
            let (plugin, plan) = plugin?;
            Ok(Arc::new(FakeJudge { plugin, plan, calls, bad_hints }) as Arc<dyn Judge>)
        })
    }
}

struct FakeJudge {
    plugin: FakePlugin,
    plan: Plan,
    calls: Arc<Mutex<Vec<u32>>>,
    bad_hints: Arc<AtomicU64>,
}

impl FakeJudge {
    /// Counts a call. A plugin runs on another thread: the answer never comes at once.
    async fn called(&self, n: u32) {
        self.calls.lock().push(n);
        tokio::task::yield_now().await;
    }
}

impl Judge for FakeJudge {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn filter(&self, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<bool>>> {
        Box::pin(async move {
            self.called(n).await;
            let of = |i| match &self.plugin.judgement {
                Judgement::Filter(accept) => accept(i, &columns),
                _ => Verdict::Stopped(Failure::Output),
            };
            (0..n as usize).map(of).collect()
        })
    }

    fn select(&self, _: Context, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<Vec<Target>>>> {
        Box::pin(async move {
            self.called(n).await;
            let of = |i| match &self.plugin.judgement {
                Judgement::Selector(select) => select(i, &columns),
                _ => Verdict::Stopped(Failure::Output),
            };
            (0..n as usize).map(of).collect()
        })
    }

    fn dedup(&self, n: u32, columns: Vec<Column>) -> BoxFuture<'_, Vec<Verdict<Option<DedupKey>>>> {
        Box::pin(async move {
            self.called(n).await;
            let of = |i| match &self.plugin.judgement {
                Judgement::Dedup(key) => key(i, &columns),
                _ => Verdict::Stopped(Failure::Output),
            };
            (0..n as usize).map(of).collect()
        })
    }

    fn retry(&self, question: RetryQuestion) -> BoxFuture<'_, Verdict<RetryAnswer>> {
        Box::pin(async move {
            self.called(1).await;
            match &self.plugin.judgement {
                Judgement::Retry(decide) => decide(&question),
                _ => Verdict::Stopped(Failure::Output),
            }
        })
    }

    fn check_back(&self, half: Half, attempt: u16) -> BoxFuture<'_, Verdict<CheckAnswer>> {
        Box::pin(async move {
            self.called(1).await;
            match &self.plugin.judgement {
                Judgement::CheckBack(check, _) => check(&half, attempt),
                _ => Verdict::Stopped(Failure::Output),
            }
        })
    }

    fn check_answer(&self, half: Half, response: CheckResponse) -> BoxFuture<'_, Verdict<CheckAnswer>> {
        Box::pin(async move {
            self.called(1).await;
            match &self.plugin.judgement {
                Judgement::CheckBack(_, answer) => answer(&half, &response),
                _ => Verdict::Stopped(Failure::Output),
            }
        })
    }

    fn record_bad_hint(&self) {
        self.bad_hints.fetch_add(1, Ordering::SeqCst);
    }

    fn stats(&self) -> JudgeStats {
        let calls = self.calls.lock();
        JudgeStats {
            calls: calls.len() as u64,
            messages: calls.iter().map(|n| u64::from(*n)).sum(),
            ..JudgeStats::default()
        }
    }

    fn logs(&self) -> Vec<LogLine> {
        Vec::new()
    }
}
