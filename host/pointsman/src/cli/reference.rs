//! The reference pages of the command line and of the settings, written from the code itself.
//!
//! The tests compare; `BLESS=1 cargo test -p pointsman --bin pointsman reference` writes.

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use super::Cli;
use crate::settings::KEYS;

fn check(page: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(page);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "docs/reference/{page} is stale; BLESS=1 cargo test -p pointsman --bin pointsman reference");
}

#[test]
fn settings() {
    let mut text = String::from(
        "# Settings of a node\n\n\
         Written from the code; `pointsman config reference` prints the same.\n\n\
         A setting is given as `--set name=value`, as the environment variable `POINTSMAN_<NAME>`, or as a line\n\
         `name = value` of the TOML file that `--config` names; the first of these that has it wins. An unknown name or a\n\
         bad value refuses the start.\n\n\
         | name | default | takes | what it does |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        writeln!(text, "| `{}` | `{}` | {} | {} |", key.name, key.default(), key.range, key.meaning).expect("a string");
    }
    check("settings.md", &text);
}

#[test]
fn command_line() {
    let mut text = String::from(
        "# The command line\n\n\
         Written from the code; `--help` prints the same. Exit codes: 0 done, 1 refused (the problem on stderr), 2 wrong\n\
         usage. `--json` prints JSON instead of tables, and a problem as the server sent it.\n",
    );
    let mut root = Cli::command().term_width(100).disable_help_flag(true).disable_version_flag(true);
    root.build();
    describe(&mut root, "", &mut text);
    check("command-line.md", &text);
}

fn describe(command: &mut clap::Command, parents: &str, text: &mut String) {
    let name = format!("{parents}{}", command.get_name());
    let help = command.clone().bin_name(&name).render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    writeln!(text, "\n## {name}\n\n```text\n{}\n```", help.join("\n").trim_end()).expect("a string");
    for child in command.get_subcommands_mut().filter(|child| !child.is_hide_set()) {
        describe(child, &format!("{name} "), text);
    }
}
