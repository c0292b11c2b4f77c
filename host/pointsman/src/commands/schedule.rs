//! `pointsman schedule`: messages that are published again and again.

use pointsman_api_types::publish::MessageInput;
use pointsman_api_types::schedule::ScheduleInput;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::commands::{Connection, Failure, block_on, json_argument};
use crate::output::{self, Table};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create or replace a schedule.
    Put {
        /// Name of the schedule.
        name: String,
        /// Five fields: minute, hour, day of the month, month, day of the week.
        #[arg(long, value_name = "FIELDS")]
        cron: String,
        /// Time zone that they are meant in, as Europe/Berlin; UTC if absent.
        #[arg(long, value_name = "ZONE")]
        timezone: Option<String>,
        /// Topic to publish to.
        #[arg(long, value_name = "TOPIC")]
        topic: String,
        /// Payload: JSON, or @FILE with JSON.
        #[arg(long, value_name = "JSON")]
        data: String,
        /// Tag of the message.
        #[arg(long, value_name = "TAG")]
        tag: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the schedules.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a schedule.
    Show {
        /// Name of the schedule.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a schedule; what it published stays.
    Delete {
        /// Name of the schedule.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Put { name, cron, timezone, topic, data, tag, connection } => {
            let tenant = connection.tenant()?;
            let data: Box<RawValue> = json_argument("data", &data)?;
            let message = MessageInput { data: Some(&data), tag, ..MessageInput::default() };
            let input = ScheduleInput { name: None, cron, timezone, topic, message, next_at: None, last_at: None };
            let schedule = block_on(async { Ok(tenant.put_schedule(&name, &input).await?) })?;
            show(&schedule, &connection)
        }
        Command::List { connection } => {
            let tenant = connection.tenant()?;
            let items = block_on(async { Ok(tenant.schedules().await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": items }))?);
            }
            Ok(table(&items).print()?)
        }
        Command::Show { name, connection } => {
            let tenant = connection.tenant()?;
            let schedule = block_on(async { Ok(tenant.schedule(&name).await?) })?;
            show(&schedule, &connection)
        }
        Command::Delete { name, connection } => {
            let tenant = connection.tenant()?;
            block_on(async { Ok(tenant.delete_schedule(&name).await?) })
        }
    }
}

fn show(schedule: &Value, connection: &Connection) -> Result<(), Failure> {
    if connection.json { Ok(output::json(schedule)?) } else { Ok(table([schedule]).print()?) }
}

fn table<'a>(schedules: impl IntoIterator<Item = &'a Value>) -> Table {
    let mut table = Table::new(["NAME", "CRON", "TIMEZONE", "TOPIC", "NEXT_AT", "LAST_AT"]);
    for schedule in schedules {
        let cell = |field: &str| schedule[field].as_str().unwrap_or("-").to_owned();
        table.row(["name", "cron", "timezone", "topic", "next_at", "last_at"].map(cell));
    }
    table
}
