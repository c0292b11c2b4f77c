//! `pointsman tail`: shows a topic's messages as they come.

use pointsman_api_types::message::Message;
use pointsman_api_types::stream::Gap;
use pointsman_client::StreamOptions;

use crate::commands::{Connection, Failure, block_on, consume};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topic to show.
    topic: String,
    /// Where to start: latest, earliest, a time, or the id of an event.
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Only messages of these tags, as `a || b`.
    #[arg(long, value_name = "EXPRESSION")]
    tags: Option<String>,
    /// Stop after so many messages.
    #[arg(long, value_name = "N")]
    max_events: Option<u64>,
    /// Stop after so long.
    #[arg(long, value_name = "MS")]
    max_ms: Option<u64>,
    /// Stop where the topic ends now.
    #[arg(long)]
    until_tail: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let options = StreamOptions {
        from: args.from,
        tags: args.tags,
        max_events: args.max_events,
        max_ms: args.max_ms,
        until_tail: args.until_tail,
        ..StreamOptions::default()
    };
    let mut stream = args.connection.tenant()?.stream(&args.topic, options);
    block_on(async {
        while let Some(event) = stream.next().await? {
            let unexpected = |error: serde_json::Error| {
                Failure::Refused(format!("an event `{}` that the contract does not know: {error}", event.event))
            };
            match event.event.as_str() {
                "message" if args.connection.json => output::line(&event.data)?,
                "message" => {
                    let message: Message = serde_json::from_str(&event.data).map_err(unexpected)?;
                    output::line(&consume::line(&message))?;
                }
                "gap" => {
                    let gap: Gap = serde_json::from_str(&event.data).map_err(unexpected)?;
                    let Gap { topic, queue, from, to, cause, .. } = gap;
                    eprintln!("pointsman: {topic} {queue}: offsets {from} to {to} are gone ({cause})");
                }
                "error" => eprintln!("pointsman: the stream was interrupted and goes on: {}", event.data),
                _ => {}
            }
        }
        Ok(())
    })
}
