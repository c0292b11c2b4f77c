//! The house rules that no compiler holds: crate edges, `//!` first, file lengths, where `unsafe` may stand, what lies
//! at the root, and links between documents.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 500;
/// Most files over 300 lines. A ratchet: lower it when you can, never raise it.
const LONG_FILES_MAX: usize = 40;
/// What may lie at the root beside dot-files and the licence. `DESIGN`, Shape.
const ROOT: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "host",
    "plugin-sdk",
    "plugins",
    "wit",
    "tests",
    "docs",
    "target",
];
/// The only files that may hold `unsafe`.
const UNSAFE: &[&str] = &["host/storage/src/mmap.rs", "host/plugin-host/src/code_cache.rs"];
/// Which of our crates each of our crates may depend on, tests aside.
const EDGES: &[(&str, &[&str])] = &[
    ("pointsman-model", &[]),
    ("pointsman-storage", &["model"]),
    ("pointsman-state-machine", &["model"]),
    ("pointsman-broker", &["model", "state-machine"]),
    ("pointsman-consensus", &["model", "storage", "state-machine", "broker"]),
    ("pointsman-peer", &["model"]),
    ("pointsman-plugin-host", &["model"]),
    ("pointsman-api-types", &[]),
    ("pointsman-api", &["model", "broker", "state-machine", "api-types"]),
    ("pointsman-client", &["api-types"]),
    (
        "pointsman",
        &[
            "model",
            "storage",
            "state-machine",
            "broker",
            "consensus",
            "peer",
            "plugin-host",
            "api-types",
            "api",
            "client",
        ],
    ),
    ("xtask", &[]),
    ("pointsman-plugin", &[]),
];
/// Third-party crates that only these crates may link.
const FENCED: &[(&str, &[&str])] = &[
    ("wasmtime", &["pointsman-plugin-host"]),
    ("openraft", &["pointsman-consensus"]),
    ("axum", &["pointsman-api"]),
    ("lsm-tree", &["pointsman-storage"]),
];

/// Everything that breaks a house rule.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut complaints = Vec::new();
    check_root(root, &mut complaints)?;
    check_edges(root, &mut complaints)?;
    let files = tracked(root)?;
    check_sources(root, &files, &mut complaints)?;
    check_links(root, &files, &mut complaints)?;
    Ok(complaints)
}

fn check_root(root: &Path, complaints: &mut Vec<String>) -> Result<(), String> {
    for entry in fs::read_dir(root).map_err(|e| e.to_string())? {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !ROOT.contains(&name.as_str()) {
            complaints.push(format!("`{name}` does not belong at the root"));
        }
    }
    Ok(())
}

fn check_edges(root: &Path, complaints: &mut Vec<String>) -> Result<(), String> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|e| e.to_string())?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == name) else {
            complaints.push(format!("crate `{name}` is not in the table of edges"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let to = dependency["name"].as_str().unwrap_or_default();
            if let Some(ours) = to.strip_prefix("pointsman-")
                && !allowed.contains(&ours)
            {
                complaints.push(format!("`{name}` must not know `{to}`"));
            }
            if let Some((_, users)) = FENCED.iter().find(|(fenced, _)| *fenced == to)
                && !users.contains(&name)
            {
                complaints.push(format!("`{name}` must not link `{to}`"));
            }
        }
    }
    Ok(())
}

fn check_sources(root: &Path, files: &[PathBuf], complaints: &mut Vec<String>) -> Result<(), String> {
    let mut long = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs")) {
        let text = fs::read_to_string(root.join(file)).map_err(|e| format!("{}: {e}", file.display()))?;
        let shown = file.display().to_string();
        if !text.starts_with("//!") {
            complaints.push(format!("{shown} does not open with `//!`"));
        }
        if shown.ends_with("/mod.rs") {
            complaints.push(format!("{shown}: use `foo.rs` beside `foo/`"));
        }
        let lines = text.lines().count();
        long += usize::from(lines > 300);
        if lines > FILE_LINES_MAX {
            complaints.push(format!("{shown} has {lines} lines, more than {FILE_LINES_MAX}"));
        }
        let says_unsafe = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        if says_unsafe && !UNSAFE.contains(&shown.as_str()) && shown.starts_with("host/") && !shown.ends_with("tidy.rs")
        {
            complaints.push(format!("{shown} holds `unsafe`"));
        }
    }
    if long > LONG_FILES_MAX {
        complaints.push(format!("{long} files have more than 300 lines, the ratchet stands at {LONG_FILES_MAX}"));
    }
    Ok(())
}

fn check_links(root: &Path, files: &[PathBuf], complaints: &mut Vec<String>) -> Result<(), String> {
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(root.join(file)).map_err(|e| format!("{}: {e}", file.display()))?;
        let folder = root.join(file).parent().map(Path::to_path_buf).unwrap_or_default();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !folder.join(target).exists() {
                complaints.push(format!("{}: broken link to `{target}`", file.display()));
            }
        }
    }
    Ok(())
}

/// Files that git tracks, or would if they were added.
fn tracked(root: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .filter(|file| root.join(file).exists())
        .collect())
}
