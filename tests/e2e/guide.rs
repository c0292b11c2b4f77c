//! The guides are programs: every `sh` block of `docs/guides/first-plugin.md` runs here, in order, in one shell.

use std::path::Path;
use std::process::Command;

use crate::server::{BINARY, free_address};

#[test]
fn the_first_plugin() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/first-plugin.md");
    let text = std::fs::read_to_string(guide).expect("the guide");
    let address = free_address();
    let mut script = String::from("set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null' EXIT\n");
    for block in text.split("```sh\n").skip(1) {
        let commands = block.split("```").next().expect("a block ends");
        // `!` alone does not stop a shell that stops at errors.
        let commands = commands
            .replace("\n! ", "\nrefuse ")
            .replace("pointsman serve", &format!("pointsman serve --listen {address}"));
        script.push_str(commands.strip_prefix("! ").map_or(commands.clone(), |rest| format!("refuse {rest}")).as_str());
    }
    script.insert_str(0, "refuse() { if \"$@\"; then echo \"should have failed: $*\"; exit 1; fi; }\n");
    let scratch = tempfile::tempdir().expect("temporary directory");
    let bin = scratch.path().join("bin");
    std::fs::create_dir(&bin).expect("bin");
    std::os::unix::fs::symlink(BINARY, bin.join("pointsman")).expect("link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    let output = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .current_dir(scratch.path())
        .env("PATH", path)
        .env("POINTSMAN_URL", format!("http://{address}"))
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("bash");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "--- stdout\n{out}\n--- stderr\n{err}");
    assert_eq!(
        text.matches("```sh\n").count(),
        9,
        "a block was added or lost: look whether the test still runs all of them"
    );
}
