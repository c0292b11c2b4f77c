//! `pointsman transaction`: messages that become visible together, or never.

use pointsman_api_types::publish::MessageInput;
use pointsman_api_types::text::Text;
use pointsman_api_types::transaction::{Resolved, Transaction, TransactionInput};

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Prepare a transaction of text messages; nobody sees them until it is committed.
    Prepare {
        /// Topic of the messages, and the one whose check-back plugin is asked.
        topic: String,
        /// The messages.
        #[arg(required = true)]
        messages: Vec<String>,
        /// Who answers for it.
        #[arg(long, value_name = "GROUP")]
        producer_group: Option<String>,
        /// Its name: the same call again finds it.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make its messages visible, all at once.
    Commit(Verdict),
    /// Discard its messages.
    Rollback(Verdict),
    /// List transactions.
    List {
        /// Only those that this became of: prepared, committed, rolled-back or expired.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a transaction.
    Get {
        /// Id of the transaction.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// A verdict.
#[derive(Debug, clap::Args)]
pub(crate) struct Verdict {
    /// Id of the transaction.
    id: String,
    /// As an operator, also over the end of an expired one.
    #[arg(long = "override")]
    overrule: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Prepare { topic, messages, producer_group, idempotency_key, connection } => {
            let tenant = connection.tenant()?;
            let message = |text: &String| MessageInput {
                data_base64: Some(Text(encoded(text).into())),
                content_type: Some("text/plain; charset=utf-8".to_owned()),
                ..MessageInput::default()
            };
            let messages = messages.iter().map(message).collect();
            let input = TransactionInput { messages, producer_group, ..TransactionInput::default() };
            let prepared = block_on(async { Ok(tenant.prepare(&topic, &input, idempotency_key.as_deref()).await?) })?;
            if connection.json {
                return Ok(output::json(&prepared)?);
            }
            let mut table = Table::new(["TRANSACTION", "STATE"]);
            table.row([prepared.transaction, word(&prepared.state)]);
            Ok(table.print()?)
        }
        Command::Commit(Verdict { id, overrule, connection }) => {
            let tenant = connection.tenant()?;
            resolved(&block_on(async { Ok(tenant.commit(&id, overrule).await?) })?, &connection)
        }
        Command::Rollback(Verdict { id, overrule, connection }) => {
            let tenant = connection.tenant()?;
            resolved(&block_on(async { Ok(tenant.roll_back(&id, overrule).await?) })?, &connection)
        }
        Command::List { state, connection } => {
            let tenant = connection.tenant()?;
            let items = block_on(async { Ok(tenant.transactions(state.as_deref()).await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": items }))?);
            }
            Ok(table(&items).print()?)
        }
        Command::Get { id, connection } => {
            let tenant = connection.tenant()?;
            let transaction = block_on(async { Ok(tenant.transaction(&id).await?) })?;
            if connection.json { Ok(output::json(&transaction)?) } else { Ok(table([&transaction]).print()?) }
        }
    }
}

fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn resolved(resolved: &Resolved, connection: &Connection) -> Result<(), Failure> {
    if connection.json {
        return Ok(output::json(resolved)?);
    }
    let mut table = Table::new(["MESSAGE", "TOPIC", "QUEUE", "OFFSET"]);
    for part in &resolved.messages {
        table.row([part.id.clone(), part.topic.clone(), part.queue.to_string(), cell(part.offset)]);
    }
    Ok(table.print()?)
}

fn table<'a>(transactions: impl IntoIterator<Item = &'a Transaction>) -> Table {
    let mut table = Table::new(["TRANSACTION", "STATE", "TOPIC", "GROUP", "CHECKS", "NEXT_CHECK_AT"]);
    for transaction in transactions {
        table.row([
            transaction.transaction.clone(),
            word(&transaction.state),
            transaction.topic.clone(),
            transaction.producer_group.clone(),
            transaction.attempts.to_string(),
            cell(transaction.next_check_at),
        ]);
    }
    table
}

/// A state as the API writes it.
fn word(state: &pointsman_api_types::transaction::TransactionState) -> String {
    serde_json::to_value(state).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
