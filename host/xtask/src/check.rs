//! Runs the checks: formatter, clippy, rustdoc, and [`crate::tidy`].

use std::path::Path;
use std::process::Command;

use crate::tidy;

/// A check's name, the arguments of cargo, and what is set in its environment.
type Step = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

/// Runs every check and reports all that fail.
pub(crate) fn verify(root: &Path) -> Result<(), String> {
    let mut failed = Vec::new();
    let complaints = tidy::check(root)?;
    for complaint in &complaints {
        eprintln!("tidy: {complaint}");
    }
    if !complaints.is_empty() {
        failed.push(format!("tidy ({})", complaints.len()));
    }
    let steps: [Step; 4] = [
        ("format", &["fmt", "--all", "--check"], &[]),
        ("format of the plugins", &["fmt", "--all", "--check", "--manifest-path", "plugins/Cargo.toml"], &[]),
        ("clippy", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[]),
        (
            "rustdoc",
            &["doc", "--workspace", "--no-deps", "--document-private-items"],
            &[("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links")],
        ),
    ];
    for (name, arguments, environment) in steps {
        eprintln!("verify: {name}");
        if !cargo(root, arguments, environment)? {
            failed.push(name.to_owned());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// Formats, and lets clippy mend what it can.
pub(crate) fn fix(root: &Path) -> Result<(), String> {
    for arguments in [
        &["fmt", "--all"][..],
        &["fmt", "--all", "--manifest-path", "plugins/Cargo.toml"],
        &["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"],
    ] {
        if !cargo(root, arguments, &[])? {
            return Err(format!("cargo {} failed", arguments.join(" ")));
        }
    }
    Ok(())
}

/// A crash workload takes as long as so many runs of the simulated cluster.
const RUNS_PER_WORKLOAD: u32 = 16;

/// Runs the simulated cluster of `consensus` with so many seeds, and the crash simulations of `storage` and `consensus`
/// with as many workloads as take about as long.
pub(crate) fn simulate(root: &Path, seeds: u32) -> Result<(), String> {
    let workloads = (seeds / RUNS_PER_WORKLOAD).to_string();
    let seeds = seeds.to_string();
    let packages = ["test", "--release", "-p", "pointsman-storage", "-p", "pointsman-consensus", "--lib"];
    let arguments = [&packages[..], &["--", "crash", "cluster"]].concat();
    if cargo(root, &arguments, &[("POINTSMAN_SIM_SEEDS", &seeds), ("POINTSMAN_CRASH_SEEDS", &workloads)])? {
        Ok(())
    } else {
        Err("a simulation failed".into())
    }
}

fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<bool, String> {
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root)
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    Ok(status.success())
}
