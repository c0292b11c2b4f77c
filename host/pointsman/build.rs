//! Names the commit that the binary is built from.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    // A checkout changes HEAD. A commit on top of it does not: whoever builds a release builds it afresh.
    let head = manifest.join("../../.git/HEAD");
    if head.exists() {
        println!("cargo::rerun-if-changed={}", head.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=BUILD_COMMIT={}", commit(&manifest).unwrap_or_else(|| "unknown".to_owned()));
}

/// The commit of the checkout, if there is one and git is there.
fn commit(directory: &Path) -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(directory).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
