//! `pointsman group`: create, list, show.

use pointsman_api_types::group::{Filter, Group, GroupInput, GroupTopic};

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
    }
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
    let mut table = Table::new(["NAME", "TOPIC", "FILTER", "START", "LEASE_MS", "MAX_RETRIES", "MAX_INFLIGHT"]);
    for group in groups {
        for topic in &group.topics {
            table.row([
                group.name.clone(),
                topic.topic.clone(),
                filter_text(topic.filter.as_ref()),
                group.start.clone(),
                group.lease_ms.to_string(),
                group.max_retries.to_string(),
                group.max_inflight.to_string(),
            ]);
        }
    }
    table
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
