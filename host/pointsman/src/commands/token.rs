//! `pointsman token`: create, list, revoke. `whoami`, `audit`.

use pointsman_api_types::Time;
use pointsman_api_types::token::{AuditEntry, Token, TokenInput};

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, Table, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a token and show it, once.
    Create {
        /// What it may do: `publish:<glob>`, `consume:<glob>`, `admin:<glob>`, `admin:tokens`, `plugin:write` or
        /// `operator`; may be repeated.
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// When it expires (RFC 3339); never if absent.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<Time>,
        #[command(flatten)]
        connection: Connection,
    },
    /// List the tokens, without their secrets.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Revoke a token.
    Revoke {
        /// Id of the token.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// `whoami`.
#[derive(Debug, clap::Args)]
pub(crate) struct Whoami {
    #[command(flatten)]
    connection: Connection,
}

/// `audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// How many changes, the newest first.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { scopes, expires_at, connection } => {
            let tenant = connection.tenant()?;
            let input = TokenInput { scopes, expires_at };
            let new = block_on(async { Ok(tenant.create_token(&input).await?) })?;
            // The token alone, so that a shell may keep it.
            if connection.json { Ok(output::json(&new)?) } else { Ok(output::line(&new.token)?) }
        }
        Command::List { connection } => {
            let tenant = connection.tenant()?;
            let tokens = block_on(async { Ok(tenant.tokens().await?) })?;
            if connection.json {
                return Ok(output::json(&serde_json::json!({ "items": tokens }))?);
            }
            Ok(tokens_table(&tokens).print()?)
        }
        Command::Revoke { id, connection } => {
            let tenant = connection.tenant()?;
            block_on(async { Ok(tenant.revoke_token(&id).await?) })?;
            match connection.json {
                true => Ok(output::json(&serde_json::json!({ "revoked": id }))?),
                false => Ok(output::line(&format!("revoked {id}"))?),
            }
        }
    }
}

pub(crate) fn whoami(args: &Whoami) -> Result<(), Failure> {
    let client = args.connection.client()?;
    let whoami = block_on(async { Ok(client.whoami().await?) })?;
    if args.connection.json {
        return Ok(output::json(&whoami)?);
    }
    let mut table = Table::new(["TENANT", "TOKEN", "SCOPES"]);
    table.row([cell(whoami.tenant), cell(whoami.token), whoami.scopes.join(" ")]);
    Ok(table.print()?)
}

pub(crate) fn audit(args: &Audit) -> Result<(), Failure> {
    let client = args.connection.client()?;
    let entries = block_on(async { Ok(client.audit(args.limit).await?) })?;
    if args.connection.json {
        return Ok(output::json(&serde_json::json!({ "items": entries }))?);
    }
    Ok(audit_table(entries).print()?)
}

fn tokens_table(tokens: &[Token]) -> Table {
    let mut table = Table::new(["ID", "SCOPES", "CREATED_AT", "EXPIRES_AT"]);
    for token in tokens {
        table.row([token.id.clone(), token.scopes.join(" "), token.created_at.to_string(), cell(token.expires_at)]);
    }
    table
}

fn audit_table(entries: Vec<AuditEntry>) -> Table {
    let mut table = Table::new(["AT", "TENANT", "BY", "ACTION", "TARGET", "REQUEST_ID"]);
    for entry in entries {
        table.row([entry.at.to_string(), entry.tenant, entry.by, entry.action, entry.target, entry.request_id]);
    }
    table
}
