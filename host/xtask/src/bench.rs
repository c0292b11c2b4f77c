//! `xtask bench`: the release binary under load, each figure beside its baseline in the same run. Run it in release
//! itself (`cargo run --release -p xtask -- bench`), or the load costs more than the server.
//!
//! The load comes from this process: one thread, raw sockets, requests built once. Server and load share the machine,
//! so what is printed is what a box with that many cores does in all. Every figure is the median of `--runs` runs.

mod baseline;
mod cluster;
mod connection;
mod dedup;
mod figures;
mod latency;
mod lease;
mod load;
mod neighbour;
mod ordering;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use figures::Table;

/// How to measure.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    /// Runs of each figure; the median is printed.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Where data directories and baseline files are made; a real disk, not tmpfs.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only the figures whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Messages of the figure `dedup-million`.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Replace the table in docs/benchmarks.md.
    #[arg(long)]
    write: bool,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Extra `--set key=value` for the server.
    #[arg(long)]
    set: Vec<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Builds, measures, prints.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    if options.binary.is_none() {
        cargo(root, &["build", "--release", "-p", "pointsman"])?;
    }
    let parent = options.dir.clone().unwrap_or_else(|| root.join("target"));
    let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(parent).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut table = Table::default();
    baseline::measure(scratch.path(), options, &mut table)?;
    runtime.block_on(async {
        load::measure(root, scratch.path(), options, &mut table).await?;
        cluster::measure(root, scratch.path(), options, &mut table).await?;
        lease::measure(root, scratch.path(), options, &mut table).await?;
        dedup::measure(root, scratch.path(), options, &mut table).await?;
        ordering::measure(root, scratch.path(), options, &mut table).await?;
        latency::measure(root, scratch.path(), options, &mut table).await?;
        neighbour::measure(root, scratch.path(), options, &mut table).await
    })?;
    if options.wants("decision") {
        decision(root, &mut table)?;
    }
    let text = table.markdown(options);
    println!("{text}");
    if options.write { write(root, &text) } else { Ok(()) }
}

/// Nanoseconds a filter decision beside native Rust, from the plugin host's own example.
fn decision(root: &Path, table: &mut Table) -> Result<(), String> {
    let output = Command::new("cargo")
        .args(["run", "--release", "--quiet", "-p", "pointsman-plugin-host", "--example", "decision"])
        .current_dir(root)
        .output()
        .map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(format!("decision: {}", String::from_utf8_lossy(&output.stderr)));
    }
    table.appendix("Nanoseconds a decision", &String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new("cargo").args(arguments).current_dir(root).status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", arguments.join(" "))) }
}

/// Replaces what lies between the two markers of the page.
fn write(root: &Path, text: &str) -> Result<(), String> {
    const BEGIN: &str = "<!-- figures: written by `xtask bench --write` -->\n";
    const END: &str = "<!-- end of figures -->";
    let page = root.join("docs/benchmarks.md");
    let old = std::fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    let (head, rest) = old.split_once(BEGIN).ok_or("docs/benchmarks.md has lost its first marker")?;
    let (_, tail) = rest.split_once(END).ok_or("docs/benchmarks.md has lost its last marker")?;
    std::fs::write(&page, format!("{head}{BEGIN}{text}{END}{tail}")).map_err(|e| e.to_string())
}
