//! The table of `docs/mission.md` is a program: every call runs here as it stands there, and every proof it names exists.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{BINARY, Server};

/// One row: what was asked, the call, the proofs.
struct Row {
    asked: String,
    call: String,
    proofs: Vec<String>,
}

#[test]
fn every_line_of_the_mission_is_shown() {
    let rows = rows();
    let server = Server::start_with(&["time_scale=0.001"]);
    let mut script = String::from("set -uo pipefail\n");
    for (at, row) in rows.iter().enumerate() {
        script += &format!(
            "echo '# {}'\n{{ {}; }} || {{ echo 'failed: {at}'; exit 1; }}\necho\n",
            row.asked.replace('\'', ""),
            row.call
        );
    }
    let scratch = tempfile::tempdir().expect("temporary directory");
    std::os::unix::fs::symlink(BINARY, scratch.path().join("pointsman")).expect("link");
    let path = format!("{}:{}", scratch.path().display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(scratch.path())
        .env("PATH", path)
        .env("U", server.url())
        .env("T", format!("{}/v1/tenants/shop", server.url()))
        .output()
        .expect("bash");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "--- stdout\n{out}\n--- stderr\n{err}");
}

#[test]
fn every_proof_of_the_mission_exists() {
    for row in rows() {
        assert!(!row.proofs.is_empty(), "no proof of: {}", row.asked);
        let [file, names @ ..] = &row.proofs[..] else { unreachable!("not empty") };
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(!names.is_empty(), "no test of {file} is named for: {}", row.asked);
        for name in names {
            assert!(text.contains(&format!("fn {name}(")), "{file} has no test {name}");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of the table.
fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/mission.md")).expect("the page");
    // A bar within a cell is escaped, as tables of Markdown want it.
    let lines = text.lines().filter(|line| line.starts_with("| ")).map(|line| line.replace("\\|", "\u{1}"));
    let rows: Vec<Row> = lines
        .skip(1)
        .map(|line| {
            let cells: Vec<String> =
                line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
            let [asked, call, proof] = &cells[..] else { panic!("three cells: {line}") };
            Row { asked: asked.clone(), call: spans(call).join(" && "), proofs: spans(proof) }
        })
        .collect();
    assert!(rows.len() >= 25, "{} rows: some were lost", rows.len());
    rows
}

/// The code spans of a cell.
fn spans(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
