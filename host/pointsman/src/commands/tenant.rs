//! `pointsman tenant`: create, list.

use pointsman_api_types::tenant::Tenant;

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table};

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
    }
}

fn table<'a>(tenants: impl IntoIterator<Item = &'a Tenant>) -> Table {
    let mut table = Table::new(["NAME", "CREATED_AT"]);
    for tenant in tenants {
        table.row([tenant.name.clone(), tenant.created_at.to_string()]);
    }
    table
}
