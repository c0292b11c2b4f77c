//! A quiet tenant's publishes, alone and beside a tenant whose selector loops for ever and who publishes without pause.
//!
//! The noisy one's load comes from this thread, the quiet one's from threads of their own, all on the server's machine:
//! the quiet one is held up by the load generator as well as by the server.

use std::cell::RefCell;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::LocalSet;

use super::Options;
use super::connection::{Connection, request};
use super::figures::{Figure, Table};
use super::load::{JSON, body_text, topic};
use super::server::{Server, binary, command};

const NAME: &str = "neighbour";
const RATE_PER_S: u64 = 200;
const QUIET_CONNECTIONS: u64 = 4;
const NOISY_CONNECTIONS: usize = 32;
/// What the quiet tenant's p99 may become: this many times what it is alone, or the time below more.
const RATIO_MAX: f64 = 1.5;
const MORE_MS_MAX: f64 = 5.0;

/// A selector that loops for ever on the tag `poison`.
const SOURCE: &str = r#"//! Loops for ever.
use pointsman_plugin::{Context, Message, Plan, Route, Selector, export_selector};

struct Loops;

impl Selector for Loops {
    fn new(_config: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }
    fn plan(&self) -> Plan {
        Plan::new().tag()
    }
    fn select(&self, message: &Message<'_>, _context: &Context) -> Route {
        if message.tag() == Some("poison") {
            loop { std::hint::black_box(0); }
        }
        Route::queue(0)
    }
}

export_selector!(Loops);
"#;

/// Whom the quiet tenant has beside it.
struct Case {
    name: &'static str,
    /// The tags of its messages, in turn.
    tags: &'static [&'static str],
    selector: bool,
}

/// The first is the baseline: what the load alone does, without the plugin. A breaker opens on the second; the plugin of
/// the third is asked again and again, since it does judge something.
const CASES: [Case; 3] = [
    Case { name: "a tenant without a selector", tags: &["fine"], selector: false },
    Case { name: "a selector that loops on every message", tags: &["poison"], selector: true },
    Case { name: "a selector that loops on every other", tags: &["poison", "fine"], selector: true },
];

/// What one run gave.
#[derive(Clone, Default)]
struct Run {
    alone: Figure,
    beside: Figure,
    noisy: Figure,
    refused: u64,
    /// What stopped the noisy tenant's selector, in words.
    stopped: String,
}

impl Run {
    fn ratio(&self) -> f64 {
        self.beside.p99.as_secs_f64() / self.alone.p99.as_secs_f64()
    }

    fn more_ms(&self) -> f64 {
        (self.beside.p99.as_secs_f64() - self.alone.p99.as_secs_f64()) * 1e3
    }
}

/// Alone and beside on one server, one after the other; a fresh server for each run.
pub(crate) async fn measure(root: &Path, scratch: &Path, options: &Options, table: &mut Table) -> Result<(), String> {
    if !options.wants(NAME) {
        return Ok(());
    }
    let component = component(root, scratch, options)?;
    let mut text = String::new();
    for case in CASES {
        let mut runs = Vec::new();
        for run in 0..options.runs {
            let data = scratch.join(format!("neighbour-{run}"));
            let server = Server::start(root, &data, options).await?;
            let done = one(&server, &component, &case, options.length()).await?;
            let _ = writeln!(
                text,
                "{:40} p99 alone {:7.2} ms, beside {:7.2} ms, ratio {:5.2}, difference {:+7.2} ms",
                case.name,
                done.alone.p99.as_secs_f64() * 1e3,
                done.beside.p99.as_secs_f64() * 1e3,
                done.ratio(),
                done.more_ms()
            );
            runs.push(done);
            drop(server);
            std::fs::remove_dir_all(&data).map_err(|e| e.to_string())?;
        }
        // The run whose difference is the median; all its figures belong together.
        runs.sort_by(|a, b| a.more_ms().total_cmp(&b.more_ms()));
        let run = runs.get(runs.len() / 2).cloned().unwrap_or_default();
        let within = run.ratio() <= RATIO_MAX || run.more_ms() <= MORE_MS_MAX;
        let verdict = if within { "within" } else { "beyond" };
        let remark = format!(
            "p99 × {:.2}, {:+.2} ms: {verdict} the bound of × {RATIO_MAX} or +{MORE_MS_MAX} ms",
            run.ratio(),
            run.more_ms()
        );
        table.row(&format!("{NAME}: quiet tenant at {RATE_PER_S}/s, alone"), "messages", run.alone, "4 connections");
        table.row(&format!("{NAME}: beside {}", case.name), "messages", run.beside, &remark);
        let remark = format!("{NOISY_CONNECTIONS} connections; {} refused; {}", run.refused, run.stopped);
        table.row(&format!("{NAME}: that noisy tenant"), "messages", run.noisy, &remark);
    }
    table.appendix("Neighbour, run by run", &text);
    Ok(())
}

/// The component, built by the measured binary's own `plugin new` and `plugin build`.
fn component(root: &Path, scratch: &Path, options: &Options) -> Result<Vec<u8>, String> {
    let (binary, project) = (binary(root, options), scratch.join("loops"));
    let directory = project.display().to_string();
    command(&binary, &["plugin", "new", "loops", "--kind", "selector", "--dir", &directory])?;
    std::fs::write(project.join("src/lib.rs"), SOURCE).map_err(|e| e.to_string())?;
    let built = command(&binary, &["plugin", "build", "--json", "--dir", &directory])?;
    let built: Value = serde_json::from_slice(&built).map_err(|e| e.to_string())?;
    let path = PathBuf::from(built["path"].as_str().ok_or("plugin build names no path")?);
    std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
}

async fn one(server: &Server, component: &[u8], case: &Case, length: Duration) -> Result<Run, String> {
    topic(server, false).await?;
    let mut connection = Connection::open(&server.address).await?;
    let noisy = |path: &str| format!("/v1/tenants/noisy{path}");
    connection.must(&request("PUT", &noisy(""), &[JSON], b"{}")).await?;
    connection.must(&request("PUT", &noisy("/topics/loud"), &[JSON], b"{}")).await?;
    if case.selector {
        let headers = [("Content-Type", "application/wasm"), ("Pm-Timeout-Ms", "60000")];
        connection.must(&request("PUT", &noisy("/plugins/loops/versions/1.0.0"), &headers, component)).await?;
        let binding = br#"{"slot":"selector","topic":"loud","plugin":"loops","version":"1.0.0","on_failure":"hash"}"#;
        connection.must(&request("PUT", &noisy("/bindings/loud-selector"), &[JSON], binding)).await?;
    }
    let alone = quiet(&server.address, length).await?;
    let noise = Rc::new(RefCell::new(Noise::default()));
    let local = LocalSet::new();
    let mut publishers = Vec::new();
    for first in 0..NOISY_CONNECTIONS {
        let connection = Connection::open(&server.address).await?;
        publishers.push(local.spawn_local(publish_without_pause(connection, case.tags, first, Rc::clone(&noise))));
    }
    let start = Instant::now();
    let beside = local.run_until(quiet(&server.address, length)).await?;
    let elapsed = start.elapsed();
    let Noise { latencies, refused, .. } = std::mem::take(&mut *noise.borrow_mut());
    noise.borrow_mut().over = true;
    for publisher in publishers {
        local.run_until(publisher).await.map_err(|e| e.to_string())??;
    }
    let stopped = if case.selector {
        stopped(connection.must(&request("GET", &noisy("/bindings/loud-selector/stats"), &[], b"")).await?)?
    } else {
        "no plugin".to_owned()
    };
    Ok(Run { alone, beside, noisy: Figure::of(latencies, 1, elapsed), refused, stopped })
}

/// What the noisy tenant came to.
#[derive(Default)]
struct Noise {
    latencies: Vec<Duration>,
    refused: u64,
    over: bool,
}

/// One call after the other; a refusal is answered by the next call at once.
async fn publish_without_pause(
    mut connection: Connection,
    tags: &'static [&'static str],
    first: usize,
    noise: Rc<RefCell<Noise>>,
) -> Result<(), String> {
    let body = body_text();
    let request = |tag: &&str| {
        let headers = [("Content-Type", "text/plain"), ("Pm-Tag", *tag)];
        request("POST", "/v1/tenants/noisy/topics/loud/messages", &headers, body.as_bytes())
    };
    let requests: Vec<_> = tags.iter().map(request).collect();
    for request in requests.iter().cycle().skip(first) {
        if noise.borrow().over {
            break;
        }
        let before = Instant::now();
        let answer = connection.call(request).await?;
        match answer.status {
            201 => noise.borrow_mut().latencies.push(before.elapsed()),
            429 | 503 => noise.borrow_mut().refused += 1,
            status => return Err(format!("{status}: {}", String::from_utf8_lossy(answer.body))),
        }
    }
    Ok(())
}

/// Publishes at fixed times for that long; latencies count from the time a publish was due.
async fn quiet(address: &str, length: Duration) -> Result<Figure, String> {
    let total = RATE_PER_S * length.as_secs();
    let start = Instant::now() + Duration::from_millis(10);
    let mut publishers = Vec::new();
    for first in 0..QUIET_CONNECTIONS {
        let address = address.to_owned();
        publishers.push(tokio::task::spawn_blocking(move || publish(&address, first, total, start)));
    }
    let mut latencies = Vec::new();
    for publisher in publishers {
        latencies.extend(publisher.await.map_err(|e| e.to_string())??);
    }
    Ok(Figure::of(latencies, 1, start.elapsed()))
}

/// Publishes every fourth message at its time. A thread of its own: the timers of a runtime are a millisecond coarse.
fn publish(address: &str, first: u64, total: u64, start: Instant) -> Result<Vec<Duration>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut connection = runtime.block_on(Connection::open(address))?;
    let path = "/v1/tenants/default/topics/bench/messages";
    let request = request("POST", path, &[("Content-Type", "text/plain")], body_text().as_bytes());
    let mut latencies = Vec::new();
    for number in (first..total).step_by(QUIET_CONNECTIONS as usize) {
        let due = start + Duration::from_micros(number * 1_000_000 / RATE_PER_S);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        runtime.block_on(connection.must(&request))?;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

/// Says what stopped the selector. A selector that never had to be stopped measures nothing.
fn stopped(answer: &[u8]) -> Result<String, String> {
    let stats: Value = serde_json::from_slice(answer).map_err(|e| e.to_string())?;
    let count = |class: &str| stats["failures"][class].as_str().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    let (fuel, timeout) = (count("fuel"), count("timeout"));
    if fuel + timeout == 0 {
        return Err(format!("the selector was never stopped: {stats}"));
    }
    Ok(format!("stopped {fuel} times by fuel, {timeout} by time; breaker {}", stats["breaker"].as_str().unwrap_or("?")))
}
