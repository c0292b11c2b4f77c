//! `pointsman plugin test`: a component on sample messages, in the broker's own sandbox, without a broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::judge::{Failure as Stopped, Kind, OnFailure, Plan, Verdict};
use pointsman_model::{BindingId, Generation, TenantId, limits};
use pointsman_plugin_host::{Bound, HostConfig, PluginHost, Spec, inspect};
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
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
    let report = block_on(judge_all(path, component, Bytes::from(config), &samples, args.queues))?;
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
    queues: u16,
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
        judge(&host, &warm, &plan, first, queues)?;
    }
    let mut results = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        let bound = bind()?;
        let (verdict, stopped) = judge(&host, &bound, &plan, sample, queues)?;
        let logs = bound.logs().into_iter().map(|line| line.text).collect();
        // The first call of a binding is judged again in a fresh instance; the second is what the others cost.
        let (before, started) = (bound.stats().fuel, std::time::Instant::now());
        if !stopped {
            judge(&host, &bound, &plan, sample, queues)?;
        }
        let microseconds = started.elapsed().as_nanos() as f64 / 1_000.0;
        let fuel = bound.stats().fuel - if stopped { 0 } else { before };
        results.push(Tried { index, message: sample.describe(), verdict, stopped, fuel, microseconds, logs });
    }
    let fields = plan.fields.iter().map(sample::field_name).collect();
    Ok(Report {
        component: path,
        kind: inspection.kind.to_string(),
        digest: inspection.digest.to_string(),
        fields,
        results,
    })
}

/// What the plugin says of one message, and whether it was stopped.
fn judge(
    host: &PluginHost,
    bound: &Arc<Bound>,
    plan: &Plan,
    sample: &Sample,
    queues: u16,
) -> Result<(String, bool), Failure> {
    let columns = sample::columns(std::slice::from_ref(sample), plan);
    let failed = |error: pointsman_plugin_host::Error| Failure::Refused(error.to_string());
    if bound.spec().kind == Kind::Filter {
        let verdicts = host.filter_now(bound, columns, 1).map_err(failed)?;
        Ok(describe(verdicts.first(), |accepts| if *accepts { "accept" } else { "refuse" }.to_owned()))
    } else {
        let verdicts = host.select_now(bound, &sample::context(queues), columns, 1).map_err(failed)?;
        Ok(describe(verdicts.first(), |targets| sample::targets(plan, targets)))
    }
}

fn describe<T>(verdict: Option<&Verdict<T>>, answer: impl Fn(&T) -> String) -> (String, bool) {
    match verdict {
        Some(Verdict::Answer(value)) => (answer(value), false),
        Some(Verdict::Failed(reason)) => (format!("failed: {reason}"), false),
        Some(Verdict::Stopped(failure)) => (format!("stopped: {}", reason(*failure)), true),
        None => ("no verdict".to_owned(), true),
    }
}

fn reason(failure: Stopped) -> &'static str {
    match failure {
        Stopped::Trap => "it trapped",
        Stopped::Fuel => "it ran out of fuel",
        Stopped::Timeout => "it ran past its time",
        Stopped::Memory => "it asked for too much memory",
        Stopped::Output => "its answer has the wrong shape",
        Stopped::Impure => "asked again, it said something else",
        Stopped::BadHint => "its hint would have skipped a message that it accepts",
    }
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
