//! `pointsman binding`: list, show, delete, and what a plugin did.

use pointsman_api_types::binding::{Binding, BindingStats, Breaker, LogLine};

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table, cell, printable};

/// Longest log line and config that a table shows.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the bindings; the filter of a group is named group:topic.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a binding.
    Get {
        /// Name of the binding.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a binding.
    Delete {
        /// Name of the binding.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what a binding's plugin did, and its log.
    Stats {
        /// Name of the binding.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { connection } => {
            let tenant = connection.tenant()?;
            let bindings = block_on(async { Ok(tenant.bindings().await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": bindings }))?);
            }
            Ok(table(&bindings).print()?)
        }
        Command::Get { name, connection } => {
            let tenant = connection.tenant()?;
            let binding = block_on(async { Ok(tenant.binding(&name).await?) })?;
            if connection.json { Ok(output::json(&binding)?) } else { Ok(table([&binding]).print()?) }
        }
        Command::Delete { name, connection } => {
            let tenant = connection.tenant()?;
            block_on(async { Ok(tenant.delete_binding(&name).await?) })?;
            match connection.json {
                true => Ok(output::json(&serde_json::json!({ "deleted": name }))?),
                false => Ok(output::line(&format!("deleted {name}"))?),
            }
        }
        Command::Stats { name, connection } => {
            let tenant = connection.tenant()?;
            let (stats, logs) =
                block_on(async { Ok((tenant.binding_stats(&name).await?, tenant.binding_logs(&name).await?)) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "stats": stats, "logs": logs }))?);
            }
            print_stats(&stats, &logs)
        }
    }
}

/// Bindings as a table.
pub(crate) fn table<'a>(bindings: impl IntoIterator<Item = &'a Binding>) -> Table {
    let mut table = Table::new(["NAME", "SLOT", "TOPIC", "GROUP", "PLUGIN", "VERSION", "ON_FAILURE", "CONFIG"]);
    for binding in bindings {
        table.row([
            binding.name.clone(),
            word(&binding.slot),
            cell(binding.topic.as_ref()),
            cell(binding.group.as_ref()),
            binding.plugin.clone(),
            binding.version.clone(),
            word(&binding.on_failure),
            printable(binding.config.get(), TEXT_CHARS_MAX),
        ]);
    }
    table
}

/// The contract's word for an enum.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "?".to_owned(),
    }
}

fn print_stats(stats: &BindingStats, logs: &[LogLine]) -> Result<(), Failure> {
    let mut table = Table::new(["WHAT", "VALUE"]);
    let failures = &stats.failures;
    for (what, value) in [
        ("calls", stats.calls.to_string()),
        ("messages", stats.messages.to_string()),
        ("ns a message", stats.ns_per_message.to_string()),
        ("fuel", stats.fuel.to_string()),
        ("breaker", if stats.breaker == Breaker::Open { "open" } else { "closed" }.to_owned()),
        ("trap", failures.trap.to_string()),
        ("out of fuel", failures.fuel.to_string()),
        ("timeout", failures.timeout.to_string()),
        ("memory", failures.memory.to_string()),
        ("bad output", failures.output.to_string()),
        ("impure", failures.impure.to_string()),
        ("bad hint", failures.bad_hint.to_string()),
    ] {
        table.row([what.to_owned(), value]);
    }
    table.print()?;
    for line in logs {
        output::line(&format!("{} {} {}", line.at, word(&line.level), printable(&line.text, TEXT_CHARS_MAX)))?;
    }
    Ok(())
}
