//! `pointsman consume`: leases messages of a group, prints them, acks them.

use std::time::Duration;

use pointsman_api_types::lease::{Lease, LeaseInput, SettleItem, SettleOp};
use pointsman_api_types::message::Message;
use pointsman_client::{StreamOptions, Tenant};
use pointsman_model::limits;

use crate::commands::{Connection, Failure, block_on};
use crate::output::{self, cell, printable};

/// Long poll of `--follow`.
const FOLLOW_WAIT_MS: u64 = 20_000;
/// Wait of `--follow` before it asks again, where the server does not say.
const RETRY_MS: u64 = 1_000;
/// Characters of a payload that are shown on a terminal.
const PAYLOAD_CHARS_MAX: usize = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Group to consume for.
    group: String,
    /// Stop after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// How long to wait for a message before the group counts as empty.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(..=limits::WAIT_MS_MAX))]
    wait_ms: u64,
    /// Lease time; the group's if absent.
    #[arg(long, value_name = "MS")]
    lease_ms: Option<u64>,
    /// Leave the messages unacked: they come again when their leases end.
    #[arg(long)]
    no_ack: bool,
    /// Go on when the group is empty, until interrupted.
    #[arg(long)]
    follow: bool,
    /// Take leases from one stream instead of asking for them, until interrupted.
    #[arg(long, conflicts_with_all = ["follow", "wait_ms"])]
    stream: bool,
    /// Unsettled leases of the stream at once; 32 if absent.
    #[arg(long, value_name = "N", requires = "stream")]
    max_inflight: Option<u32>,
    /// Who consumes; a stream that comes back keeps its leases.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let tenant = args.connection.tenant()?;
    if args.stream {
        return block_on(stream(&args, &tenant));
    }
    block_on(async {
        let mut left = args.max.unwrap_or(u64::MAX);
        // A server that never answered is told at once; one that goes away is waited for.
        let mut open = false;
        while left > 0 {
            let most = left.min(u64::from(limits::LEASE_MESSAGES_DEFAULT)) as u32;
            let input = LeaseInput {
                max_messages: Some(most),
                wait_ms: Some(if args.follow { FOLLOW_WAIT_MS } else { args.wait_ms }),
                lease_ms: args.lease_ms,
                client_id: args.client_id.clone(),
                ..LeaseInput::default()
            };
            let leases = match tenant.lease(&args.group, &input).await {
                // Leases of a lost answer run out by themselves.
                Err(error) if args.follow && error.is_passing() && (open || !is_absent(&error)) => {
                    let wait_ms = error.problem().and_then(|problem| problem.retry_after_ms).unwrap_or(RETRY_MS);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    continue;
                }
                answer => answer?,
            };
            open = true;
            if leases.is_empty() && !args.follow {
                return Ok(());
            }
            left -= leases.len() as u64;
            for lease in &leases {
                show(&args, lease)?;
            }
            if !args.no_ack && !leases.is_empty() {
                ack(&tenant, &args.group, &leases).await?;
            }
        }
        Ok(())
    })
}

/// Leases as they come, until the stream ends.
async fn stream(args: &Args, tenant: &Tenant) -> Result<(), Failure> {
    let options = StreamOptions {
        max_events: args.max,
        client_id: args.client_id.clone(),
        max_inflight: args.max_inflight,
        lease_ms: args.lease_ms,
        ..StreamOptions::default()
    };
    let mut stream = tenant.group_stream(&args.group, options);
    while let Some(event) = stream.next().await? {
        if event.event == "message" {
            let lease: Lease = serde_json::from_str(&event.data)
                .map_err(|error| Failure::Refused(format!("a lease that makes no sense: {error}")))?;
            show(args, &lease)?;
            if !args.no_ack {
                ack(tenant, &args.group, std::slice::from_ref(&lease)).await?;
            }
        }
    }
    Ok(())
}

fn show(args: &Args, lease: &Lease) -> Result<(), Failure> {
    let _: () = match args.connection.json {
        true => output::json_line(lease)?,
        false => output::line(&format!("{}{}", line(&lease.message), attempt(lease)))?,
    };
    Ok(())
}

fn is_absent(error: &pointsman_client::Error) -> bool {
    matches!(error, pointsman_client::Error::Connect { .. })
}

async fn ack(tenant: &Tenant, group: &str, leases: &[Lease]) -> Result<(), Failure> {
    let item = |lease: &Lease| SettleItem {
        receipt: lease.receipt.clone(),
        op: SettleOp::Ack,
        delay_ms: None,
        lease_ms: None,
        reason: None,
    };
    let results = tenant.settle(group, leases.iter().map(item).collect()).await?;
    match results.iter().filter(|result| result.status.failed()).count() {
        0 => Ok(()),
        late => Err(Failure::Refused(format!("{late} leases had ended before their ack; those messages come again"))),
    }
}

fn attempt(lease: &Lease) -> String {
    if lease.attempt > 1 { format!(" (attempt {})", lease.attempt) } else { String::new() }
}

/// A message in one line.
pub(crate) fn line(message: &Message) -> String {
    let payload = match (&message.data, &message.data_base64) {
        (Some(data), _) => match serde_json::from_str::<String>(data.get()) {
            Ok(text) => printable(&text, PAYLOAD_CHARS_MAX),
            Err(_) => printable(data.get(), PAYLOAD_CHARS_MAX),
        },
        (None, Some(base64)) => format!("base64:{}", printable(base64, PAYLOAD_CHARS_MAX)),
        (None, None) => String::new(),
    };
    let text = |text: &str| printable(text, PAYLOAD_CHARS_MAX);
    let mut line = format!("{} {}:{}", text(&message.topic), cell(message.queue), cell(message.offset));
    if let Some(tag) = &message.tag {
        line.push_str(&format!(" [{}]", text(tag)));
    }
    if !message.keys.is_empty() {
        line.push_str(&format!(" ({})", text(&message.keys.join(", "))));
    }
    line + " " + &payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let message: Message = serde_json::from_value(serde_json::json!({
            "id": "m1", "topic": "orders", "queue": 2, "offset": "7", "tag": "paid", "keys": ["a", "b\u{1b}"],
            "ordering_key": null, "properties": {}, "priority": 0, "content_type": "text/plain",
            "data": "two\nlines", "born_at": "2026-11-21T10:00:00.000Z", "stored_at": null, "expires_at": null,
            "trace": null,
        }))
        .expect("a message");
        assert_eq!(line(&message), "orders 2:7 [paid] (a, b ) two lines");
    }
}
