//! `pointsman tenant`: create, list, delete, quota, usage.

use pointsman_api_types::Decimal;
use pointsman_api_types::quota::{Quota, Usage};
use pointsman_api_types::tenant::Tenant;

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a tenant; one of that name is left as it is.
    Create {
        /// Name of the tenant.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the tenants.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a tenant without topics and groups.
    Delete {
        /// Name of the tenant.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show what the tenant of --tenant may use, or change it.
    Quota(QuotaArgs),
    /// Show what the tenant of --tenant uses.
    Usage {
        #[command(flatten)]
        connection: Connection,
    },
}

/// Each flag changes one bound; `none` takes it away.
#[derive(Debug, clap::Args)]
pub(crate) struct QuotaArgs {
    /// Messages published a second.
    #[arg(long, value_name = "N", value_parser = bound)]
    messages_per_s: Option<Bound>,
    /// Bytes of payload published a second.
    #[arg(long, value_name = "BYTES", value_parser = bound)]
    bytes_per_s: Option<Bound>,
    /// Bytes that stored messages take.
    #[arg(long, value_name = "BYTES", value_parser = bound)]
    storage_bytes: Option<Bound>,
    /// Topics.
    #[arg(long, value_name = "N", value_parser = bound)]
    topics: Option<Bound>,
    /// Groups.
    #[arg(long, value_name = "N", value_parser = bound)]
    groups: Option<Bound>,
    /// Uploaded plugin versions.
    #[arg(long, value_name = "N", value_parser = bound)]
    plugins: Option<Bound>,
    /// Open streams.
    #[arg(long, value_name = "N", value_parser = bound)]
    connections: Option<Bound>,
    /// Fuel that plugins burn a second.
    #[arg(long, value_name = "FUEL", value_parser = bound)]
    plugin_fuel_per_s: Option<Bound>,
    #[command(flatten)]
    connection: Connection,
}

/// A number, or none.
#[derive(Clone, Copy, Debug)]
struct Bound(Option<u64>);

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound(None)),
        text => text.parse().map(|n| Bound(Some(n))).map_err(|_| "it takes a whole number, or `none`".to_owned()),
    }
}

impl QuotaArgs {
    /// True if it changes nothing.
    fn is_empty(&self) -> bool {
        let wide = [self.messages_per_s, self.bytes_per_s, self.storage_bytes, self.plugin_fuel_per_s];
        let narrow = [self.topics, self.groups, self.plugins, self.connections];
        wide.iter().chain(&narrow).all(Option::is_none)
    }

    fn apply(&self, quota: &mut Quota) {
        let wide = |flag: Option<Bound>, held: &mut Option<u64>| {
            if let Some(bound) = flag {
                *held = bound.0;
            }
        };
        // More than a u32 of them is no bound that could be reached.
        let narrow = |flag: Option<Bound>, held: &mut Option<u32>| {
            if let Some(bound) = flag {
                *held = bound.0.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            }
        };
        wide(self.messages_per_s, &mut quota.messages_per_s);
        wide(self.bytes_per_s, &mut quota.bytes_per_s);
        if let Some(bound) = self.storage_bytes {
            quota.storage_bytes = bound.0.map(Decimal);
        }
        narrow(self.topics, &mut quota.topics);
        narrow(self.groups, &mut quota.groups);
        narrow(self.plugins, &mut quota.plugins);
        narrow(self.connections, &mut quota.connections);
        wide(self.plugin_fuel_per_s, &mut quota.plugin_fuel_per_s);
    }
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { name, connection } => {
            let client = connection.client()?;
            let tenant = block_on(async { Ok(client.put_tenant(&name).await?) })?;
            if connection.json { Ok(output::json(&tenant)?) } else { Ok(table([&tenant]).print()?) }
        }
        Command::List { connection } => {
            let client = connection.client()?;
            let tenants = block_on(async { Ok(client.tenants().await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": tenants }))?);
            }
            Ok(table(&tenants).print()?)
        }
        Command::Delete { name, connection } => {
            let client = connection.client()?;
            block_on(async { Ok(client.delete_tenant(&name).await?) })?;
            match connection.json {
                true => Ok(output::json(&serde_json::json!({ "deleted": name }))?),
                false => Ok(output::line(&format!("deleted {name}"))?),
            }
        }
        Command::Quota(args) => {
            let tenant = args.connection.tenant()?;
            let quota = block_on(async {
                Ok(if args.is_empty() {
                    tenant.quota().await?
                } else {
                    tenant.change_quota(|quota| args.apply(quota)).await?
                })
            })?;
            if args.connection.json { Ok(output::json(&quota)?) } else { Ok(quota_table(&quota).print()?) }
        }
        Command::Usage { connection } => {
            let tenant = connection.tenant()?;
            let usage = block_on(async { Ok(tenant.usage().await?) })?;
            if connection.json { Ok(output::json(&usage)?) } else { Ok(usage_table(&usage).print()?) }
        }
    }
}

fn table<'a>(tenants: impl IntoIterator<Item = &'a Tenant>) -> Table {
    let mut table = Table::new(["NAME", "CREATED_AT"]);
    for tenant in tenants {
        table.row([tenant.name.clone(), tenant.created_at.to_string()]);
    }
    table
}

fn quota_table(quota: &Quota) -> Table {
    let mut table = Table::new(["WHAT", "LIMIT"]);
    for (what, limit) in [
        ("messages_per_s", cell(quota.messages_per_s)),
        ("bytes_per_s", cell(quota.bytes_per_s)),
        ("storage_bytes", cell(quota.storage_bytes)),
        ("topics", cell(quota.topics)),
        ("groups", cell(quota.groups)),
        ("plugins", cell(quota.plugins)),
        ("connections", cell(quota.connections)),
        ("plugin_fuel_per_s", cell(quota.plugin_fuel_per_s)),
    ] {
        table.row([what.to_owned(), limit]);
    }
    table
}

fn usage_table(usage: &Usage) -> Table {
    let mut table = Table::new(["WHAT", "USED", "LIMIT"]);
    for (what, total) in
        [("messages", &usage.messages), ("bytes", &usage.bytes), ("storage_bytes", &usage.storage_bytes)]
    {
        table.row([what.to_owned(), total.used.to_string(), cell(total.limit)]);
    }
    for (what, used) in [
        ("messages_per_s", &usage.messages_per_s),
        ("bytes_per_s", &usage.bytes_per_s),
        ("topics", &usage.topics),
        ("groups", &usage.groups),
        ("plugins", &usage.plugins),
        ("connections", &usage.connections),
        ("plugin_fuel_per_s", &usage.plugin_fuel_per_s),
        ("plugin_memory_bytes", &usage.plugin_memory_bytes),
    ] {
        table.row([what.to_owned(), used.used.to_string(), cell(used.limit)]);
    }
    table
}
