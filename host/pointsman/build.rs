//! Lists the sources of the plugin SDK, so that the binary can write them into a user's project, and names the commit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let sdk = manifest.join("../../plugin-sdk").canonicalize()?;
    println!("cargo::rerun-if-changed={}", sdk.display());

    let git = manifest.join("../../.git/HEAD");
    if git.exists() {
        println!("cargo::rerun-if-changed={}", git.display());
    }
    println!("cargo::rustc-env=POINTSMAN_COMMIT={}", commit(&manifest).unwrap_or_else(|| "unknown".to_owned()));

    let mut files = Vec::new();
    for part in ["Cargo.toml", "src", "wit"] {
        collect(&sdk.join(part), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let Ok(relative) = file.strip_prefix(&sdk) else { continue };
        // Writing to a `String` does not fail.
        let _ = writeln!(list, "    ({:?}, include_str!({:?})),", relative.to_string_lossy(), file.to_string_lossy());
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(out.join("sdk_files.rs"), list)
}

/// The commit of the checkout, if there is one and git is there.
fn commit(directory: &Path) -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(directory).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let wanted = path.is_dir() || path.extension().is_some_and(|extension| extension == "rs" || extension == "wit");
        if wanted {
            collect(&path, files)?;
        }
    }
    Ok(())
}
