//! `pointsman topic`: create, list, show, delete.

use pointsman_api_types::Decimal;
use pointsman_api_types::topic::{Durability, Queue, Topic, TopicInput};
use serde::Serialize;

use crate::commands::{Connection, Failure, block_on, taken};
use crate::output::{self, Table, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a topic; one of that name is refused.
    Create(Create),
    /// List the topics.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a topic and its queues.
    Get {
        /// Name of the topic.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a topic that no group and no binding uses.
    Delete {
        /// Name of the topic.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Name of the topic.
    name: String,
    /// Number of queues, 1 to 1,024; 4 if absent.
    #[arg(long, value_name = "N")]
    queues: Option<u16>,
    /// How long messages are kept; 7 days if absent.
    #[arg(long, value_name = "MS")]
    retention_ms: Option<u64>,
    /// How many bytes are kept; no bound if absent.
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<u64>,
    /// Largest message; 4 MiB if absent.
    #[arg(long, value_name = "BYTES")]
    max_message_bytes: Option<u32>,
    /// What an acknowledged publish stands for; quorum if absent.
    #[arg(long, value_parser = durability, value_name = "quorum|leader|none")]
    durability: Option<Durability>,
    #[command(flatten)]
    connection: Connection,
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "quorum" => Ok(Durability::Quorum),
        "leader" => Ok(Durability::Leader),
        "none" => Ok(Durability::None),
        _ => Err("it takes quorum, leader or none".to_owned()),
    }
}

/// What `topic get` prints.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    topic: Topic,
    queue_states: Vec<Queue>,
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(args),
        Command::List { connection } => list(&connection),
        Command::Get { name, connection } => get(&name, &connection),
        Command::Delete { name, connection } => {
            let tenant = connection.tenant()?;
            block_on(async { Ok(tenant.delete_topic(&name).await?) })?;
            match connection.json {
                true => Ok(output::json(&serde_json::json!({ "deleted": name }))?),
                false => Ok(output::line(&format!("deleted {name}"))?),
            }
        }
    }
}

fn create(args: Create) -> Result<(), Failure> {
    let input = TopicInput {
        queues: args.queues,
        retention_ms: args.retention_ms,
        retention_bytes: args.retention_bytes.map(Decimal),
        max_message_bytes: args.max_message_bytes,
        durability: args.durability,
        ..TopicInput::default()
    };
    let tenant = args.connection.tenant()?;
    let topic = block_on(async { tenant.create_topic(&args.name, &input).await.map_err(taken("topic", &args.name)) })?;
    if args.connection.json { Ok(output::json(&topic)?) } else { Ok(table([&topic]).print()?) }
}

fn list(connection: &Connection) -> Result<(), Failure> {
    let tenant = connection.tenant()?;
    let topics = block_on(async { Ok(tenant.topics().await?) })?;
    if connection.json {
        return Ok(output::json(&serde_json::json!({ "items": topics }))?);
    }
    Ok(table(&topics).print()?)
}

fn get(name: &str, connection: &Connection) -> Result<(), Failure> {
    let tenant = connection.tenant()?;
    let whole =
        block_on(async { Ok(Whole { topic: tenant.topic(name).await?, queue_states: tenant.queues(name).await? }) })?;
    if connection.json {
        return Ok(output::json(&whole)?);
    }
    table([&whole.topic]).print()?;
    output::line("")?;
    let mut queues = Table::new(["QUEUE", "EARLIEST", "LATEST", "MESSAGES"]);
    for queue in &whole.queue_states {
        let messages = queue.latest.0.saturating_sub(queue.earliest.0);
        queues.row([
            queue.queue.to_string(),
            queue.earliest.to_string(),
            queue.latest.to_string(),
            messages.to_string(),
        ]);
    }
    Ok(queues.print()?)
}

fn table<'a>(topics: impl IntoIterator<Item = &'a Topic>) -> Table {
    let mut table =
        Table::new(["NAME", "QUEUES", "RETENTION_MS", "RETENTION_BYTES", "MAX_MESSAGE_BYTES", "DURABILITY"]);
    for topic in topics {
        let durability = match topic.durability {
            Durability::Quorum => "quorum",
            Durability::Leader => "leader",
            Durability::None => "none",
        };
        table.row([
            topic.name.clone(),
            topic.queues.to_string(),
            topic.retention_ms.to_string(),
            cell(topic.retention_bytes),
            topic.max_message_bytes.to_string(),
            durability.to_owned(),
        ]);
    }
    table
}
