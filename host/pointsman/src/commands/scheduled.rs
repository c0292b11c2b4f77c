//! `pointsman scheduled`: messages that wait for their time.

use pointsman_api_types::Time;
use pointsman_api_types::message::Message;
use pointsman_api_types::scheduled::ScheduledInput;

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the messages of a topic that wait, the earliest first.
    List {
        /// Topic they wait in.
        topic: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a message that waits.
    Show {
        /// Id of the message.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Cancel a message that waits: it is never delivered.
    Cancel {
        /// Id of the message.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Deliver a message that waits at another time.
    Change {
        /// Id of the message.
        id: String,
        #[command(flatten)]
        when: When,
        #[command(flatten)]
        connection: Connection,
    },
}

/// When a message is delivered: one of three.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct When {
    /// Deliver so much later; 0 is at once.
    #[arg(long, value_name = "MS")]
    pub(crate) delay_ms: Option<u64>,
    /// Deliver later, by level: 1 s, 5 s, 10 s, 30 s, 1 m to 10 m, 20 m, 30 m, 1 h, 2 h.
    #[arg(long, value_name = "1-18")]
    pub(crate) delay_level: Option<u8>,
    /// Deliver at a time, as 2026-11-21T10:18:27Z; in the past is at once.
    #[arg(long, value_name = "TIME")]
    pub(crate) deliver_at: Option<Time>,
}

impl When {
    fn input(self) -> Result<ScheduledInput, Failure> {
        let Self { delay_ms, delay_level, deliver_at } = self;
        if delay_ms.is_none() && delay_level.is_none() && deliver_at.is_none() {
            return Err(Failure::Usage("one of --delay-ms, --delay-level and --deliver-at is needed".to_owned()));
        }
        Ok(ScheduledInput { delay_ms, delay_level, deliver_at })
    }
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { topic, connection } => {
            let tenant = connection.tenant()?;
            let items = block_on(async { Ok(tenant.scheduled(&topic).await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": items }))?);
            }
            Ok(table(&items).print()?)
        }
        Command::Show { id, connection } => {
            let tenant = connection.tenant()?;
            let message = block_on(async { Ok(tenant.scheduled_message(&id).await?) })?;
            show(&message, &connection)
        }
        Command::Cancel { id, connection } => {
            let tenant = connection.tenant()?;
            block_on(async { Ok(tenant.cancel_scheduled(&id).await?) })
        }
        Command::Change { id, when, connection } => {
            let (tenant, input) = (connection.tenant()?, when.input()?);
            let message = block_on(async { Ok(tenant.change_scheduled(&id, &input).await?) })?;
            show(&message, &connection)
        }
    }
}

fn show(message: &Message, connection: &Connection) -> Result<(), Failure> {
    if connection.json { Ok(output::json(message)?) } else { Ok(table([message]).print()?) }
}

fn table<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Table {
    let mut table = Table::new(["ID", "TOPIC", "DELIVER_AT", "TAG"]);
    for message in messages {
        let tag = cell(message.tag.as_ref());
        table.row([message.id.clone(), message.topic.clone(), cell(message.deliver_at), tag]);
    }
    table
}
