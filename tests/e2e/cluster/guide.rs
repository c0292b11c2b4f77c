//! `docs/guides/cluster.md` is a program: every `sh` block runs here, in order, in one shell.

use std::path::Path;
use std::process::Command;

use super::nodes::free_port;
use crate::server::BINARY;

/// Ports in the guide.
const PORTS: [&str; 6] = ["7170", "7171", "7270", "7271", "7370", "7371"];
const BLOCKS: usize = 12;

#[test]
fn the_guide_of_the_cluster() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/cluster.md");
    let mut text = std::fs::read_to_string(guide).expect("the guide");
    for port in PORTS {
        let address = free_port();
        let free = address.rsplit(':').next().expect("a port");
        assert!(text.contains(port), "port {port} is not in the guide");
        text = text.replace(port, free);
    }
    let mut script = String::from("set -euo pipefail\ntrap 'kill -9 $(jobs -p) 2> /dev/null' EXIT\n");
    script += "refuse() { if \"$@\"; then echo \"should have failed: $*\"; exit 1; fi; }\n";
    let blocks: Vec<&str> =
        text.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("an end")).collect();
    for (number, block) in blocks.iter().enumerate() {
        script += &format!("echo; echo '# block {number}'\n");
        // `!` alone does not stop a shell that stops at errors.
        script += &format!("\n{block}").replace("\n! ", "\nrefuse ");
    }
    let scratch = tempfile::tempdir().expect("temporary directory");
    let bin = scratch.path().join("bin");
    std::fs::create_dir(&bin).expect("bin");
    std::os::unix::fs::symlink(BINARY, bin.join("pointsman")).expect("link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(scratch.path())
        .env("PATH", path)
        .output()
        .expect("bash");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "--- stdout\n{out}\n--- stderr\n{err}");
    assert_eq!(blocks.len(), BLOCKS, "a block was added or lost: look whether the test still runs all of them");
    assert_eq!(out.matches("\"duplicate\":true").count(), 2, "a key counts at every node: {out}");
    assert!(out.contains("\"state\":\"down\""), "{out}");
}
