//! `pointsman published`: what became of a publish, by its idempotency key.

use pointsman_api_types::publish::KeyState;

use crate::commands::{Connection, Failure, block_on, publish};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topic it was published to.
    topic: String,
    /// Idempotency key of the publish.
    key: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let tenant = args.connection.tenant()?;
    let outcome = block_on(async { Ok(tenant.published(&args.topic, &args.key).await?) })?;
    if args.connection.json {
        return Ok(output::json(&outcome)?);
    }
    output::line(match outcome.state {
        KeyState::Committed => "committed",
        KeyState::InFlight => "in flight",
        KeyState::Absent => "absent",
    })?;
    outcome.result.map_or(Ok(()), |receipt| publish::print(&receipt))
}
