//! What CI and contributors call: `cargo xtask verify`, `fix`, `bench`, `sim`.

mod bench;
mod check;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check format, lints, documents, crate edges and the house rules. Never writes.
    Verify,
    /// Format the code and apply what clippy can mend by itself.
    Fix,
    /// Build the release binary and measure it beside its baselines.
    Bench(bench::Options),
    /// Run the simulated cluster and the crash simulations alone, with more seeds than the tests do.
    Sim {
        /// How many seeds of the cluster; one workload of the crash simulations for every 16.
        #[arg(long, default_value_t = 1_000)]
        seeds: u32,
    },
}

fn main() -> ExitCode {
    let root = root();
    let done = match Arguments::parse().task {
        Task::Verify => check::verify(&root),
        Task::Fix => check::fix(&root),
        Task::Bench(options) => bench::run(&root, &options),
        Task::Sim { seeds } => check::simulate(&root, seeds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository: two folders above this crate.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}
