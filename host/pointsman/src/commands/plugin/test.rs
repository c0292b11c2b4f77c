//! `pointsman plugin test`: a component on sample messages, in the broker's own sandbox, without a broker.

mod trying;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use pointsman_model::judge::{CheckResponse, Kind, OnFailure, Plan};
use pointsman_model::{BindingId, Generation, TenantId, limits};
use pointsman_plugin_host::{HostConfig, PluginHost, Spec, inspect};
use serde::Serialize;

use crate::commands::{Failure, block_on, json_argument, read_file};
use crate::output::{self, Table, printable};
use crate::sample::{self, Sample};

/// Longest answer, and longest log line, that a table shows.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The component; what `plugin build` made of the project in --dir if absent.
    component: Option<PathBuf>,
    /// Directory of the project.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Config of the plugin: JSON, or @FILE; `{}` if absent.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// Messages to try it on: a JSON array or one message object a line, as the API takes them; built-in ones if absent.
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
    /// Queues of the topic that a selector sees.
    #[arg(long, value_name = "N", default_value_t = limits::QUEUES_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    queues: u16,
    /// Which attempt a retry policy is asked about, and which check a check-back makes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    attempt: u16,
    /// The consumer's words that a retry policy sees; without them the lease ran out.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Status of the response that a check-back gets to its requests; without it they are shown and not answered.
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(100..=599))]
    response_status: Option<u16>,
    /// Body of that response.
    #[arg(long, value_name = "TEXT", requires = "response_status", default_value = "")]
    response_body: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is told to the plugin beside the message.
struct Circumstances {
    queues: u16,
    attempt: u16,
    reason: Option<String>,
    response: Option<CheckResponse>,
}

impl From<&Args> for Circumstances {
    fn from(args: &Args) -> Self {
        let response = |status| CheckResponse::Answered {
            status,
            headers: Vec::new(),
            body: Bytes::from(args.response_body.clone()),
        };
        Self {
            queues: args.queues,
            attempt: args.attempt,
            reason: args.reason.clone(),
            response: args.response_status.map(response),
        }
    }
}

/// What the plugin said of one message, and what that cost.
#[derive(Debug, Serialize)]
struct Tried {
    index: usize,
    message: String,
    verdict: String,
    stopped: bool,
    fuel: u64,
    microseconds: f64,
    logs: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    component: PathBuf,
    kind: String,
    digest: String,
    fields: Vec<String>,
    results: Vec<Tried>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let path = match &args.component {
        Some(path) => path.clone(),
        None => built(&args.dir)?,
    };
    let component = Bytes::from(read_file(&path)?);
    let config = match &args.config {
        Some(text) => json_argument("config", text)?.get().to_owned(),
        None => "{}".to_owned(),
    };
    let samples = match &args.messages {
        Some(path) => sample::parse(&read_file(path)?)
            .map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))?,
        None => sample::built_in(),
    };
    let report = block_on(judge_all(path, component, Bytes::from(config), &samples, &args.into()))?;
    if args.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    match report.results.iter().filter(|tried| tried.stopped).count() {
        0 => Ok(()),
        stopped => Err(Failure::Refused(format!("the plugin was stopped on {stopped} of {} messages", samples.len()))),
    }
}

/// The component of the project in a directory.
fn built(directory: &Path) -> Result<PathBuf, Failure> {
    let path = directory.join("Cargo.toml");
    let text = String::from_utf8_lossy(&read_file(&path)?).into_owned();
    let manifest: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| Failure::Refused(format!("{}: {}", path.display(), error.message())))?;
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let name = name.ok_or_else(|| Failure::Refused(format!("{}: no package name", path.display())))?;
    let component = directory.join("target").join(format!("{name}.wasm"));
    match component.is_file() {
        true => Ok(component),
        false => {
            Err(Failure::Refused(format!("{} is not there; `pointsman plugin build` makes it", component.display())))
        }
    }
}

async fn judge_all(
    path: PathBuf,
    component: Bytes,
    config: Bytes,
    samples: &[Sample],
    circumstances: &Circumstances,
) -> Result<Report, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    let inspection = inspect(&component).map_err(|complaints| {
        let details: Vec<_> = complaints.into_iter().map(|complaint| complaint.detail).collect();
        Failure::Refused(format!("{} is no plugin: {}", path.display(), details.join("; ")))
    })?;
    let host = PluginHost::new(HostConfig::default()).map_err(|error| refused(&error))?;
    host.compile(inspection.digest, component).await.map_err(|error| refused(&error))?;
    let spec = Spec {
        tenant: TenantId(1),
        binding: BindingId(1),
        generation: Generation(1),
        digest: inspection.digest,
        kind: inspection.kind,
        config,
        limits: pointsman_model::judge::CallLimits::default(),
        on_failure: OnFailure::allowed(inspection.kind).first().copied().unwrap_or(OnFailure::Refuse),
    };
    let plan =
        host.try_init_now(&spec).map_err(|error| refused(&format_args!("the plugin refuses the config: {error}")))?;
    let bind = || host.bind(spec.clone(), plan.clone()).map_err(|error| refused(&error));
    // Keeps the program and its instance alive, and pays for their making.
    let warm = bind()?;
    if let Some(first) = samples.first() {
        circumstances.judge(&host, &warm, first)?;
    }
    let mut results = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        let bound = bind()?;
        let (verdict, stopped) = circumstances.judge(&host, &bound, sample)?;
        let logs = bound.logs().into_iter().map(|line| line.text).collect();
        // The first call of a binding is judged again in a fresh instance; the second is what the others cost.
        let (before, started) = (bound.stats().fuel, std::time::Instant::now());
        if !stopped {
            circumstances.judge(&host, &bound, sample)?;
        }
        let microseconds = started.elapsed().as_nanos() as f64 / 1_000.0;
        let fuel = bound.stats().fuel - if stopped { 0 } else { before };
        results.push(Tried { index, message: sample.describe(), verdict, stopped, fuel, microseconds, logs });
    }
    let fields = fields(inspection.kind, &plan);
    Ok(Report {
        component: path,
        kind: inspection.kind.to_string(),
        digest: inspection.digest.to_string(),
        fields,
        results,
    })
}

/// What the plugin sees.
fn fields(kind: Kind, plan: &Plan) -> Vec<String> {
    let whole = match kind {
        Kind::Retry => Some("the attempt"),
        Kind::CheckBack => Some("the transaction"),
        _ => None,
    };
    whole.map(str::to_owned).into_iter().chain(plan.fields.iter().map(sample::field_name)).collect()
}

fn print(report: &Report) -> Result<(), Failure> {
    output::line(&format!("{} {}, {}", report.kind, report.component.display(), report.digest))?;
    let fields = if report.fields.is_empty() { "nothing".to_owned() } else { report.fields.join(", ") };
    output::line(&format!("it reads {fields}"))?;
    let mut table = Table::new(["#", "MESSAGE", "VERDICT", "FUEL", "US"]);
    for tried in &report.results {
        table.row([
            tried.index.to_string(),
            tried.message.clone(),
            printable(&tried.verdict, TEXT_CHARS_MAX),
            tried.fuel.to_string(),
            format!("{:.1}", tried.microseconds),
        ]);
    }
    table.print()?;
    for tried in &report.results {
        for line in &tried.logs {
            output::line(&format!("log of {}: {}", tried.index, printable(line, TEXT_CHARS_MAX)))?;
        }
    }
    Ok(())
}
