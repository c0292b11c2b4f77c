//! `pointsman explain` and `pointsman trace`: what happened to a message, and why.

use pointsman_api_types::explain::{Explained, TraceEvent};

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table, cell};

#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Id of the message.
    id: String,
    /// Name of the group.
    #[arg(long)]
    group: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Trace {
    /// Id of the message.
    id: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn explain(args: Explain) -> Result<(), Failure> {
    let tenant = args.connection.tenant()?;
    let found = block_on(async { Ok(tenant.explain(&args.id, &args.group).await?) })?;
    if args.connection.json { Ok(output::json(&found)?) } else { Ok(facts(&found).print()?) }
}

pub(crate) fn trace(args: Trace) -> Result<(), Failure> {
    let tenant = args.connection.tenant()?;
    let events = block_on(async { Ok(tenant.trace(&args.id).await?) })?;
    if args.connection.json {
        return Ok(output::json(&serde_json::json!({ "items": events }))?);
    }
    Ok(table(&events).print()?)
}

fn facts(found: &Explained) -> Table {
    let mut table = Table::new(["FACT", "VALUE"]);
    let mut row = |fact: &str, value: String| table.row([fact.to_owned(), value]);
    row("state", found.state.clone());
    row("topic", format!("{} {}/{}", found.topic, cell(found.queue), cell(found.offset)));
    row("routed by", found.routed.by.clone());
    for judged in &found.routed.judged {
        row("judged by", format!("{} generation {}", cell(judged.binding.as_ref()), judged.generation));
    }
    if let Some(dedup) = &found.dedup {
        row("dedup key", format!("{} ({})", dedup.key, dedup.by));
    }
    row("filter", cell(found.binding.as_ref()));
    row("plugin", format!("{} {}", cell(found.plugin.as_ref()), cell(found.digest.as_ref())));
    row("verdict", cell(found.verdict.as_ref()));
    row("attempt", cell(found.attempt));
    row("due at", cell(found.due_at));
    row("leased to", cell(found.client_id.as_ref()));
    for ended in &found.history {
        let reason = cell(ended.reason.as_ref());
        row(&format!("attempt {}", ended.attempt), format!("{} {reason} → {}", ended.outcome, ended.decision));
    }
    if let Some(reason) = &found.dead_reason {
        row("dead-lettered", format!("{} {reason}", cell(found.dead_at)));
    }
    table
}

fn table(events: &[TraceEvent]) -> Table {
    let mut table = Table::new(["AT", "EVENT", "GROUP", "ATTEMPT", "CLIENT", "DECISION", "REASON"]);
    for event in events {
        table.row([
            cell(event.at),
            event.event.clone(),
            cell(event.group.as_ref()),
            cell(event.attempt),
            cell(event.client_id.as_ref()),
            cell(event.decision.as_ref()),
            cell(event.reason.as_ref()),
        ]);
    }
    table
}
