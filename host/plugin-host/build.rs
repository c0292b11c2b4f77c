//! Builds `plugins/` for wasm32 and turns each module into a component, so that the broker can embed them.
//!
//! The plugins are a cargo workspace of their own, built by a nested cargo in a target directory of its own
//! (`<target>/plugins`), so neither waits for the other's lock. Where the Wasm target is not installed, it is
//! added by rustup and a warning says so.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";
/// Crates whose components are embedded; `build.rs` writes `$OUT_DIR/<name>.wasm` for each.
const PLUGINS: [&str; 17] = [
    "tags",
    "hash",
    "key-window",
    "fingerprint",
    "backoff",
    "webhook",
    "by-event",
    "route-by-repository",
    "once-per-order",
    "give-up-on-fatal",
    "ask-ledger",
    "misbehave-filter",
    "misbehave-selector",
    "misbehave-dedup",
    "misbehave-retry",
    "misbehave-check-back",
    "toolchain-filter",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    for watched in ["plugins", "plugin-sdk", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    ensure_target()?;
    let target_dir = target_dir(&out_dir).join("plugins");
    build(&root, &target_dir)?;
    for name in PLUGINS {
        let module = target_dir.join(TARGET).join("release").join(format!("{}.wasm", name.replace('-', "_")));
        let module = fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;
        let component = wit_component::ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .and_then(|mut encoder| encoder.encode())
            .map_err(|error| format!("{name} is no plugin: {error:?}"))?;
        fs::write(out_dir.join(format!("{name}.wasm")), component)?;
    }
    Ok(())
}

/// The outer target directory: the one above `OUT_DIR` that cargo marked. Cargo does not tell build scripts.
fn target_dir(out_dir: &Path) -> PathBuf {
    let marked = out_dir.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked.unwrap_or(out_dir).to_owned()
}

fn build(root: &Path, target_dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.current_dir(root.join("plugins"));
    cargo.args(["build", "--release", "--locked", "--workspace", "--target", TARGET, "--target-dir"]).arg(target_dir);
    // What cargo tells this script about the outer build must not steer the inner one.
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let keep = ["CARGO_HOME", "CARGO_MAKEFLAGS", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUSTUP_AUTO_INSTALL"];
        let network = ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
        let outer = name.starts_with("CARGO") || name.starts_with("RUST") || name.starts_with("CLIPPY");
        if outer && !keep.contains(&name) && !network.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    for name in ["TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS", "OUT_DIR"] {
        cargo.env_remove(name);
    }
    // The same bytes, hence the same digest, wherever the repository and cargo's home are.
    let mut flags = vec![format!("--remap-path-prefix={}=/pointsman", root.display())];
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(home) = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))) {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(format!("building plugins/ failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// Adds the Wasm target to the toolchain in use where it is missing.
fn ensure_target() -> Result<(), Box<dyn Error>> {
    let rustc = env::var("RUSTC")?;
    let print = |args: &[&str]| -> Result<String, Box<dyn Error>> {
        let output = Command::new(&rustc).args(args).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let installed = |libraries: &str| !libraries.is_empty() && Path::new(libraries).is_dir();
    if installed(&print(&["--print", "target-libdir", "--target", TARGET])?) {
        return Ok(());
    }
    let sysroot = print(&["--print", "sysroot"])?;
    let from_sysroot = || Path::new(&sysroot).file_name().map(|name| name.to_string_lossy().into_owned());
    let toolchain = env::var("RUSTUP_TOOLCHAIN").ok().or_else(from_sysroot).unwrap_or_default();
    println!("cargo::warning=adding the target {TARGET} to the toolchain {toolchain}: plugins are built with it");
    let added = Command::new("rustup").args(["target", "add", TARGET, "--toolchain", &toolchain]).output();
    match added {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("`rustup target add {TARGET} --toolchain {toolchain}` failed:\n{words}").into())
        }
        Err(error) => Err(format!(
            "the toolchain in {sysroot} has no target {TARGET}, which Pointsman's plugins need, and rustup cannot be run \
             ({error}). Install the target the way this toolchain was installed, or install rustup (https://rustup.rs)"
        )
        .into()),
    }
}
