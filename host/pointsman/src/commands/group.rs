//! `pointsman group`: create, list, show; where a group stands, seek, pause.

use pointsman_api_types::group::{Filter, Group, GroupInput, GroupTopic, Ordering};
use pointsman_api_types::progress::{SeekInput, SeekTo};
use pointsman_api_types::{Decimal, Time};

use crate::commands::{Connection, Failure, block_on, json_argument, taken};
use crate::output::{self, Table};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a consumer group; one of that name is refused.
    Create(Create),
    /// List the groups.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a group.
    Get {
        /// Name of the group.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show where a group stands in each queue.
    Offsets {
        /// Name of the group.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what a group has before it.
    Lag {
        /// Name of the group.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Let a group go on elsewhere; ends its leases there and resets attempts.
    Seek(Seek),
    /// Stop the leases of a group.
    Pause {
        /// Name of the group.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Let the leases of a group go on.
    Resume {
        /// Name of the group.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Seek {
    /// Name of the group.
    name: String,
    #[command(flatten)]
    to: To,
    /// Only in this topic; may be repeated.
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only in this queue; may be repeated.
    #[arg(long, value_name = "QUEUE")]
    queue: Vec<u16>,
    /// Say what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Where to: one of five.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct To {
    /// To the first message kept.
    #[arg(long)]
    earliest: bool,
    /// Behind the last message.
    #[arg(long)]
    latest: bool,
    /// To the first message stored at or after a time, as 2026-11-21T10:18:27Z.
    #[arg(long, value_name = "TIME")]
    time: Option<Time>,
    /// To an offset.
    #[arg(long, value_name = "OFFSET")]
    offset: Option<u64>,
    /// To a message, in its queue.
    #[arg(long, value_name = "ID")]
    message: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Name of the group.
    name: String,
    /// Topic that the group reads; may be repeated.
    #[arg(long, required = true, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only messages of these tags, as `a || b`; for each topic.
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "plugin")]
    tags: Option<String>,
    /// Only messages that this filter accepts; for each topic.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Version of the filter; the newest if absent.
    #[arg(long = "plugin-version", value_name = "SEMVER", requires = "plugin")]
    plugin_version: Option<String>,
    /// Config of the filter: JSON, or @FILE.
    #[arg(long, value_name = "JSON", requires = "plugin")]
    config: Option<String>,
    /// Where the group starts: latest, earliest or a time; latest if absent.
    #[arg(long, value_name = "WHERE")]
    start: Option<String>,
    /// What keeps its order; nothing if absent.
    #[arg(long, value_enum, value_name = "WHAT")]
    ordering: Option<OrderingArgument>,
    /// Default lease time; 30 s if absent.
    #[arg(long, value_name = "MS")]
    lease_ms: Option<u64>,
    /// Deliveries are 1 + this; 16 if absent.
    #[arg(long, value_name = "N")]
    max_retries: Option<u16>,
    /// Most leases at once; 1,000 if absent.
    #[arg(long, value_name = "N")]
    max_inflight: Option<u32>,
    #[command(flatten)]
    connection: Connection,
}

/// What keeps its order.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OrderingArgument {
    /// Any order.
    None,
    /// One message of an ordering key at a time.
    Key,
    /// One run of a queue at a time.
    Queue,
}

impl From<OrderingArgument> for Ordering {
    fn from(argument: OrderingArgument) -> Self {
        match argument {
            OrderingArgument::None => Self::None,
            OrderingArgument::Key => Self::Key,
            OrderingArgument::Queue => Self::Queue,
        }
    }
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(args),
        Command::List { connection } => {
            let tenant = connection.tenant()?;
            let groups = block_on(async { Ok(tenant.groups().await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": groups }))?);
            }
            Ok(table(&groups).print()?)
        }
        Command::Get { name, connection } => {
            let tenant = connection.tenant()?;
            let group = block_on(async { Ok(tenant.group(&name).await?) })?;
            if connection.json { Ok(output::json(&group)?) } else { Ok(table([&group]).print()?) }
        }
        Command::Offsets { name, connection } => {
            let tenant = connection.tenant()?;
            let offsets = block_on(async { Ok(tenant.group_offsets(&name).await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": offsets }))?);
            }
            let mut table = Table::new(["TOPIC", "QUEUE", "COMMITTED", "EARLIEST", "LATEST"]);
            for at in offsets {
                let numbers = [at.committed, at.earliest, at.latest].map(|offset| offset.to_string());
                let [committed, earliest, latest] = numbers;
                table.row([at.topic, at.queue.to_string(), committed, earliest, latest]);
            }
            Ok(table.print()?)
        }
        Command::Lag { name, connection } => {
            let tenant = connection.tenant()?;
            let lag = block_on(async { Ok(tenant.lag(&name).await?) })?;
            if connection.json {
                return Ok(output::json(&lag)?);
            }
            let mut table = Table::new(["TOPIC", "QUEUE", "MESSAGES", "AGE_MS", "INFLIGHT", "RETRYING"]);
            for at in lag.items {
                let numbers = [at.age_ms, at.inflight, at.retrying].map(|number| number.to_string());
                let [age, inflight, retrying] = numbers;
                table.row([at.topic, at.queue.to_string(), at.messages.to_string(), age, inflight, retrying]);
            }
            Ok(table.print()?)
        }
        Command::Seek(args) => seek(args),
        Command::Pause { name, connection } => pause(&name, true, &connection),
        Command::Resume { name, connection } => pause(&name, false, &connection),
    }
}

fn pause(name: &str, paused: bool, connection: &Connection) -> Result<(), Failure> {
    let tenant = connection.tenant()?;
    let now = block_on(async { Ok(tenant.pause(name, paused).await?) })?;
    if connection.json { Ok(output::json(&now)?) } else { Ok(()) }
}

fn seek(args: Seek) -> Result<(), Failure> {
    let To { earliest, latest, time, offset, message } = args.to;
    let to = SeekTo {
        earliest: earliest.then_some(true),
        latest: latest.then_some(true),
        time,
        offset: offset.map(Decimal),
        message_id: message,
    };
    let input = SeekInput {
        to,
        topics: (!args.topic.is_empty()).then_some(args.topic),
        queues: (!args.queue.is_empty()).then_some(args.queue),
    };
    let tenant = args.connection.tenant()?;
    let sought = block_on(async { Ok(tenant.seek(&args.name, &input, args.dry_run).await?) })?;
    if args.connection.json {
        return Ok(output::json(&sought)?);
    }
    let mut table = Table::new(["TOPIC", "QUEUE", "FROM", "TO"]);
    for moved in sought.items {
        table.row([moved.topic, moved.queue.to_string(), moved.from.to_string(), moved.to.to_string()]);
    }
    Ok(table.print()?)
}

fn create(args: Create) -> Result<(), Failure> {
    let config = args.config.as_deref().map(|text| json_argument("config", text)).transpose()?;
    let filter = (args.tags.is_some() || args.plugin.is_some()).then_some(Filter {
        tags: args.tags,
        sql: None,
        plugin: args.plugin,
        version: args.plugin_version,
        config,
    });
    let input = GroupInput {
        topics: args.topic.into_iter().map(|topic| GroupTopic { topic, filter: filter.clone() }).collect(),
        start: args.start,
        ordering: args.ordering.map(Ordering::from),
        lease_ms: args.lease_ms,
        max_retries: args.max_retries,
        max_inflight: args.max_inflight,
        ..GroupInput::default()
    };
    let tenant = args.connection.tenant()?;
    let group = block_on(async { tenant.create_group(&args.name, &input).await.map_err(taken("group", &args.name)) })?;
    if args.connection.json { Ok(output::json(&group)?) } else { Ok(table([&group]).print()?) }
}

fn table<'a>(groups: impl IntoIterator<Item = &'a Group>) -> Table {
    let mut table =
        Table::new(["NAME", "TOPIC", "FILTER", "ORDERING", "START", "LEASE_MS", "MAX_RETRIES", "MAX_INFLIGHT"]);
    for group in groups {
        for topic in &group.topics {
            table.row([
                group.name.clone(),
                topic.topic.clone(),
                filter_text(topic.filter.as_ref()),
                ordering_text(group.ordering).to_owned(),
                group.start.clone(),
                group.lease_ms.to_string(),
                group.max_retries.to_string(),
                group.max_inflight.to_string(),
            ]);
        }
    }
    table
}

fn ordering_text(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::None => "none",
        Ordering::Key => "key",
        Ordering::Queue => "queue",
    }
}

fn filter_text(filter: Option<&Filter>) -> String {
    match filter {
        None => "-".to_owned(),
        Some(Filter { tags: Some(tags), .. }) => format!("tags {tags}"),
        Some(Filter { sql: Some(sql), .. }) => format!("sql {sql}"),
        Some(Filter { plugin: Some(plugin), version, .. }) => {
            format!("plugin {plugin} {}", version.as_deref().unwrap_or_default())
        }
        Some(_) => "?".to_owned(),
    }
}
