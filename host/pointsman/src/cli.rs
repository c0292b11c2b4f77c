//! The command line: the tree of commands, and what a process says when it ends.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{self, Failure};
use crate::output::printable;

/// Longest line that an error makes.
const ERROR_CHARS_MAX: usize = 2_000;

/// The hidden command that compiles a plugin from stdin to stdout.
pub(crate) const COMPILE_CHILD: &str = "compile-child";

/// A message broker whose every judgement is a sandboxed WebAssembly plugin.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Serve(commands::serve::Args),
    /// Show the main job on a node of its own, in a temporary directory.
    Demo(commands::demo::Args),
    /// Create, list, show or delete topics.
    #[command(subcommand)]
    Topic(commands::topic::Command),
    /// Create, list or show consumer groups; offsets, lag, seek, pause.
    #[command(subcommand)]
    Group(commands::group::Command),
    /// Create, list or delete tenants; show or change what they may use.
    #[command(subcommand)]
    Tenant(commands::tenant::Command),
    /// Create, list or revoke tokens.
    #[command(subcommand)]
    Token(commands::token::Command),
    /// Show nodes and shards, or hand a shard over to another node.
    #[command(subcommand)]
    Cluster(commands::cluster::Command),
    /// Show who you are to the server.
    Whoami(commands::token::Whoami),
    /// Show who changed what, the newest first.
    Audit(commands::token::Audit),
    /// Publish one message, or many.
    Publish(commands::publish::Args),
    /// Ask what became of a publish, by its idempotency key.
    Published(commands::published::Args),
    /// Create, list, show or delete schedules: messages that are published again and again.
    #[command(subcommand)]
    Schedule(commands::schedule::Command),
    /// List, show, cancel or change messages that wait for their time.
    #[command(subcommand)]
    Scheduled(commands::scheduled::Command),
    /// List, show, delete or redrive the dead letters of a group.
    #[command(subcommand)]
    Dlq(commands::dlq::Command),
    /// Explain why a group did or did not get a message.
    Explain(commands::explain::Explain),
    /// List what happened to a message.
    Trace(commands::explain::Trace),
    /// Prepare, commit, roll back, list or show transactions.
    #[command(subcommand)]
    Transaction(commands::transaction::Command),
    /// Lease messages of a group, print them, ack them.
    Consume(commands::consume::Args),
    /// Show a topic's messages as they come.
    Tail(commands::tail::Args),
    /// Make, build, try, upload, list or show plugins.
    #[command(subcommand)]
    Plugin(commands::plugin::Command),
    /// Attach a plugin to a topic or a group.
    Bind(commands::bind::Args),
    /// List, show or delete bindings, or show what they did.
    #[command(subcommand)]
    Binding(commands::binding::Command),
    /// Show the settings of a node.
    #[command(subcommand)]
    Config(commands::config::Command),
    /// Show the version of this program, and of a server with --url.
    Version(commands::version::Args),
    /// Compile a plugin for the node that started this process.
    #[command(name = COMPILE_CHILD, hide = true)]
    CompileChild,
}

/// Reads the command line, does it, and says how it ended: 0 done, 1 refused, 2 wrong usage.
pub(crate) fn main() -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    let result = match Cli::parse().command {
        Command::Serve(args) => commands::serve::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Topic(command) => commands::topic::run(command),
        Command::Group(command) => commands::group::run(command),
        Command::Tenant(command) => commands::tenant::run(command),
        Command::Token(command) => commands::token::run(command),
        Command::Whoami(args) => commands::token::whoami(&args),
        Command::Audit(args) => commands::token::audit(&args),
        Command::Cluster(command) => commands::cluster::run(command),
        Command::Publish(args) => commands::publish::run(args),
        Command::Published(args) => commands::published::run(&args),
        Command::Schedule(command) => commands::schedule::run(command),
        Command::Scheduled(command) => commands::scheduled::run(command),
        Command::Dlq(command) => commands::dlq::run(command),
        Command::Explain(args) => commands::explain::explain(args),
        Command::Trace(args) => commands::explain::trace(args),
        Command::Transaction(command) => commands::transaction::run(command),
        Command::Consume(args) => commands::consume::run(args),
        Command::Tail(args) => commands::tail::run(args),
        Command::Plugin(command) => commands::plugin::run(command),
        Command::Bind(args) => commands::bind::run(args),
        Command::Binding(command) => commands::binding::run(command),
        Command::Config(command) => commands::config::run(&command),
        Command::Version(args) => commands::version::run(args),
        Command::CompileChild => return pointsman_plugin_host::compile_child_main(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, json),
    }
}

fn report(failure: &Failure, json: bool) -> ExitCode {
    match failure {
        // Whoever read our output has enough of it.
        Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Failure::Client(error) => match error.problem().map(serde_json::to_string) {
            Some(Ok(problem)) if json => eprintln!("{problem}"),
            _ => eprintln!("pointsman: {}", one_line(error)),
        },
        _ => eprintln!("pointsman: {}", one_line(failure)),
    }
    ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
}

/// The text in one line, without what could move a terminal's cursor.
fn one_line(text: &dyn std::fmt::Display) -> String {
    let words: Vec<String> = text.to_string().split_whitespace().map(str::to_owned).collect();
    printable(&words.join(" "), ERROR_CHARS_MAX)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "`{}` has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "`{}` of `{}` has no help",
                    argument.get_id(),
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn examples_of_use_are_accepted() {
        for line in [
            "serve --data-dir /d --listen 127.0.0.1:0 --set a=b --set c=d",
            "demo --keep --json",
            "topic create orders --queues 8 --json --url http://127.0.0.1:1",
            "group create billing --topic orders --tags paid||refunded",
            "publish orders hello --tag paid --key a --key b --property amount=5",
            "publish orders later --delay-level 3",
            "publish orders once --idempotency-key 7f3a",
            "published orders 7f3a",
            "scheduled change m1 --deliver-at 2026-11-21T10:18:27Z",
            "transaction prepare orders half --producer-group shop --idempotency-key 1042",
            "transaction commit t1 --override",
            "consume billing --max 5 --wait-ms 100 --no-ack",
            "tail orders --from earliest --until-tail",
            "plugin new mine --kind filter --dir /tmp/mine",
            "bind b --topic orders --plugin mine --version 1.0.0 --keyed",
            "binding stats b",
            "config reference",
            "version",
        ] {
            let words = std::iter::once("pointsman").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(one_line(&"a\n  b\u{1b}[2J\t c"), "a b [2J c");
    }

    #[test]
    fn wrong_usage_is_2() {
        for line in ["", "nonsense", "serve", "topic create", "plugin new x --kind nonsense"] {
            let words = std::iter::once("pointsman").chain(line.split(' ').filter(|word| !word.is_empty()));
            let error = Cli::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
