//! `pointsman version`: of this program, and of a server.

use crate::commands::{Failure, block_on};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask the server at this base URL, too.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let server = match &args.url {
        None => None,
        Some(url) => {
            let client = pointsman_client::Client::new(url, pointsman_client::ClientOptions::default())?;
            Some(block_on(async { Ok(client.version().await?) })?)
        }
    };
    if args.json {
        return Ok(output::json(&serde_json::json!({ "version": own, "server": server }))?);
    }
    output::line(&format!("pointsman {own}"))?;
    if let Some(server) = server {
        output::line(&format!(
            "server    {} ({}, feature level {})",
            server.version, server.commit, server.feature_level
        ))?;
    }
    Ok(())
}
