//! `pointsman dlq`: the dead letters of a group.

use pointsman_api_types::dlq::{DeadLetter, RedriveInput, RedriveTo, Redriven};
use pointsman_api_types::group::Filter;

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the dead letters of a group.
    List {
        /// Name of the group.
        group: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a dead letter with its history.
    Get {
        /// Name of the group.
        group: String,
        /// Id of the message.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Forget a dead letter.
    Delete {
        /// Name of the group.
        group: String,
        /// Id of the message.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Send dead letters to their group or topic again.
    Redrive(Redrive),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    /// Name of the group.
    group: String,
    /// Ids of the messages; all dead letters if absent.
    ids: Vec<String>,
    /// Only messages of these tags, as `a || b`.
    #[arg(long, value_name = "EXPRESSION")]
    tags: Option<String>,
    /// As new messages to their topic, for all its groups, instead of to the group.
    #[arg(long)]
    to_topic: bool,
    /// Say what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { group, connection } => {
            let tenant = connection.tenant()?;
            let items = block_on(async { Ok(tenant.dead_letters(&group).await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": items }))?);
            }
            Ok(table(&items).print()?)
        }
        Command::Get { group, id, connection } => {
            let tenant = connection.tenant()?;
            let dead = block_on(async { Ok(tenant.dead_letter(&group, &id).await?) })?;
            if connection.json { Ok(output::json(&dead)?) } else { Ok(history(&dead).print()?) }
        }
        Command::Delete { group, id, connection } => {
            let tenant = connection.tenant()?;
            block_on(async { Ok(tenant.delete_dead_letter(&group, &id).await?) })
        }
        Command::Redrive(args) => redrive(args),
    }
}

fn redrive(args: Redrive) -> Result<(), Failure> {
    let input = RedriveInput {
        ids: (!args.ids.is_empty()).then_some(args.ids),
        filter: args.tags.map(|tags| Filter { tags: Some(tags), ..Filter::default() }),
        to: Some(if args.to_topic { RedriveTo::Topic } else { RedriveTo::Group }),
        rate_per_s: None,
    };
    let tenant = args.connection.tenant()?;
    let done = block_on(async { Ok(tenant.redrive(&args.group, &input, args.dry_run).await?) })?;
    if args.connection.json { Ok(output::json(&done)?) } else { Ok(outcomes(&done)?.print()?) }
}

fn outcomes(done: &Redriven) -> Result<Table, Failure> {
    let mut table = Table::new(["ID", "STATUS"]);
    for result in &done.results {
        let status = serde_json::to_value(result.status).map_err(|error| Failure::Usage(error.to_string()))?;
        table.row([result.id.clone(), status.as_str().unwrap_or_default().to_owned()]);
    }
    Ok(table)
}

fn table<'a>(letters: impl IntoIterator<Item = &'a DeadLetter>) -> Table {
    let mut table = Table::new(["ID", "TOPIC", "OFFSET", "ATTEMPTS", "DEAD_AT", "REASON"]);
    for dead in letters {
        table.row([
            dead.id.clone(),
            dead.origin.topic.clone(),
            format!("{}/{}", dead.origin.queue, dead.origin.offset),
            dead.attempts.to_string(),
            dead.dead_at.to_string(),
            dead.reason.clone(),
        ]);
    }
    table
}

fn history(dead: &DeadLetter) -> Table {
    let mut table = Table::new(["ATTEMPT", "DELIVERED_AT", "ENDED_AT", "OUTCOME", "CLIENT", "REASON", "DECISION"]);
    for ended in &dead.history {
        table.row([
            ended.attempt.to_string(),
            cell(ended.delivered_at),
            ended.ended_at.to_string(),
            ended.outcome.clone(),
            cell(ended.client_id.as_ref()),
            cell(ended.reason.as_ref()),
            format!("{} ({})", ended.decision, ended.decided_by),
        ]);
    }
    table
}
