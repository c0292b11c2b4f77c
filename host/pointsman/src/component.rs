//! From a plugin project to a component: cargo for wasm32-unknown-unknown, then the encoder of the sandbox.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What plugins are compiled for.
const TARGET: &str = "wasm32-unknown-unknown";

/// A component that was built.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Built {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it decides.
    pub(crate) kind: String,
    /// Its size.
    pub(crate) size_bytes: u64,
    /// `sha256:…`.
    pub(crate) digest: String,
    /// What it imports.
    pub(crate) imports: Vec<String>,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{} holds no Cargo.toml; `pointsman plugin new` makes a project", .0.display())]
    NoProject(PathBuf),
    #[error("`{program}` cannot be run: {source}; install Rust from https://rustup.rs")]
    Program { program: &'static str, source: io::Error },
    #[error("the target {TARGET} is not installed and rustup could not add it; run `rustup target add {TARGET}`")]
    Target,
    #[error("cargo failed, see above")]
    Cargo,
    #[error("the project built no {TARGET} library; its Cargo.toml needs `crate-type = [\"cdylib\"]`")]
    NoModule,
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the module is no plugin: {0}")]
    Encode(String),
}

/// Builds the project in `directory`; what cargo says goes to stderr.
pub(crate) fn build(directory: &Path) -> Result<Built, Error> {
    let manifest = directory.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(Error::NoProject(directory.to_owned()));
    }
    ensure_target(directory)?;
    let (module, name) = compile(directory)?;
    let bytes = std::fs::read(&module).map_err(|source| Error::File { path: module.clone(), source })?;
    let component = pointsman_plugin_host::encode(&bytes).map_err(|error| Error::Encode(error.to_string()))?;
    let inspection = pointsman_plugin_host::inspect(&component).map_err(|complaints| {
        let details: Vec<_> = complaints.into_iter().map(|complaint| complaint.detail).collect();
        Error::Encode(details.join("; "))
    })?;
    let path = directory.join("target").join(format!("{name}.wasm"));
    std::fs::write(&path, &component).map_err(|source| Error::File { path: path.clone(), source })?;
    Ok(Built {
        path,
        kind: inspection.kind.to_string(),
        size_bytes: component.len() as u64,
        digest: inspection.digest.to_string(),
        imports: inspection.imports,
    })
}

/// Installs the Wasm target where it is missing, and says so.
fn ensure_target(directory: &Path) -> Result<(), Error> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(directory)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Error::Program { program: "rustc", source })?;
    let library = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && library.is_dir() {
        return Ok(());
    }
    eprintln!("the target {TARGET} is not installed: running `rustup target add {TARGET}`");
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(directory)
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if added { Ok(()) } else { Err(Error::Target) }
}

/// Runs cargo; answers the module's path and the package's name.
fn compile(directory: &Path) -> Result<(PathBuf, String), Error> {
    let unrunnable = |source| Error::Program { program: "cargo", source };
    let mut cargo = Command::new("cargo")
        .args(["build", "--release", "--lib", "--target", TARGET, "--target-dir", "target"])
        .args(["--message-format", "json-render-diagnostics"])
        // Flags for the host's own target do not fit this one.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(directory)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(unrunnable)?;
    let mut module = None;
    if let Some(stdout) = cargo.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            module = artifact(&line.map_err(unrunnable)?, directory).or(module);
        }
    }
    if !cargo.wait().map_err(unrunnable)?.success() {
        return Err(Error::Cargo);
    }
    module.ok_or(Error::NoModule)
}

/// The module that a line of cargo's JSON speaks of, if it is the project's own.
fn artifact(line: &str, directory: &Path) -> Option<(PathBuf, String)> {
    #[derive(serde::Deserialize)]
    struct Message {
        reason: String,
        #[serde(default)]
        manifest_path: PathBuf,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    let own = message.manifest_path.canonicalize().ok()? == directory.join("Cargo.toml").canonicalize().ok()?;
    if message.reason != "compiler-artifact" || !own {
        return None;
    }
    let module =
        message.filenames.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?;
    let manifest: toml::Table = std::fs::read_to_string(&message.manifest_path).ok()?.parse().ok()?;
    let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
    Some((module, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_projects_own_artifact_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("Cargo.toml"), "[package]\nname = \"big-orders\"\n").expect("written");
        let manifest = directory.path().join("Cargo.toml");
        let line = |reason: &str, manifest: &Path| {
            serde_json::json!({"reason": reason, "manifest_path": manifest, "filenames": ["/t/libx.rlib", "/t/x.wasm"]})
                .to_string()
        };
        let own = Some((PathBuf::from("/t/x.wasm"), "big-orders".to_owned()));
        assert_eq!(artifact(&line("compiler-artifact", &manifest), directory.path()), own);
        assert_eq!(artifact(&line("build-script-executed", &manifest), directory.path()), None);
        assert_eq!(artifact(&line("compiler-artifact", Path::new("/elsewhere/Cargo.toml")), directory.path()), None);
        assert_eq!(artifact("not json", directory.path()), None);
    }
}
