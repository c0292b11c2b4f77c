//! `pointsman publish`: one message, or many.

mod batches;

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use bytes::Bytes;
use pointsman_api_types::publish::{PublishAnswer, Receipt};
use pointsman_client::{ManyOptions, PublishOptions, Tenant};
use pointsman_model::limits;

use crate::commands::scheduled::When;
use crate::commands::{Connection, Failure, block_on, read_file};
use crate::output::{self, Table, cell};
use batches::Batches;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topic to publish to.
    topic: String,
    /// The payload; read from stdin if it is absent and no file is given.
    #[arg(conflicts_with = "file")]
    data: Option<String>,
    /// Read the payload, or the messages, from this file; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line is the payload of a message of its own; the other options hold for all of them.
    #[arg(long, conflicts_with = "data")]
    lines: bool,
    /// Each line is a message object of the API: {"data": …, "tag": …, "keys": […], …}.
    #[arg(long, conflicts_with_all = [
        "data", "lines", "tag", "key", "ordering_key", "property", "queue", "When", "ttl_ms", "priority",
        "content_type",
    ])]
    ndjson: bool,
    /// Tag of the message.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Key for look-ups; may be repeated.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Messages of one ordering key keep their order.
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// Property; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    property: Vec<(String, String)>,
    /// Queue to put it into.
    #[arg(long, value_name = "N")]
    queue: Option<u16>,
    /// Store it once: publishing it again with the same key answers the first. Of many, message i has KEY/first/i, where first is the place of its batch.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    when: When,
    /// Expires so long after it was stored.
    #[arg(long, value_name = "MS")]
    ttl_ms: Option<u64>,
    /// 0 to 9, higher first.
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// Media type of the payload; text/plain for an argument and for lines, else application/octet-stream.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Wait for quorum, leader or none; what the topic says if absent.
    #[arg(long, value_name = "ACK")]
    ack: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let tenant = args.connection.tenant()?;
    if args.lines || args.ndjson { many(&args, &tenant) } else { one(args, &tenant) }
}

fn one(args: Args, tenant: &Tenant) -> Result<(), Failure> {
    let text = args.data.is_some();
    let payload = match (args.data, &args.file) {
        (Some(data), _) => Bytes::from(data),
        (None, Some(path)) if path.as_os_str() != "-" => Bytes::from(read_file(path)?),
        _ => {
            let mut payload = Vec::new();
            io::stdin().lock().take(limits::PUBLISH_BODY_BYTES_MAX as u64 + 1).read_to_end(&mut payload)?;
            Bytes::from(payload)
        }
    };
    let options = PublishOptions {
        content_type: args.content_type.or_else(|| text.then(|| "text/plain; charset=utf-8".to_owned())),
        tag: args.tag,
        keys: args.key,
        ordering_key: args.ordering_key,
        queue: args.queue,
        properties: args.property,
        delay_ms: args.when.delay_ms,
        delay_level: args.when.delay_level,
        deliver_at: args.when.deliver_at,
        idempotency_key: args.idempotency_key,
        ttl_ms: args.ttl_ms,
        priority: args.priority,
        ack: args.ack,
    };
    let receipt = block_on(async { Ok(tenant.publish(&args.topic, payload, &options).await?) })?;
    if args.connection.json {
        return Ok(output::json(&receipt)?);
    }
    if let Some(deliver_at) = receipt.deliver_at {
        let mut table = Table::new(["ID", "TOPIC", "DELIVER_AT"]);
        table.row([cell(receipt.id), receipt.topic, deliver_at.to_string()]);
        return Ok(table.print()?);
    }
    print(&receipt)?;
    if receipt.duplicate == Some(true) {
        output::line("a duplicate: stored before, and not again")?;
    }
    Ok(())
}

/// Shows where a message lies.
pub(crate) fn print(receipt: &Receipt) -> Result<(), Failure> {
    let mut table = table();
    row(&mut table, receipt);
    Ok(table.print()?)
}

fn many(args: &Args, tenant: &Tenant) -> Result<(), Failure> {
    let mut reader: Box<dyn BufRead> = match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            let open =
                std::fs::File::open(path).map_err(|error| Failure::Refused(format!("{}: {error}", path.display())));
            Box::new(BufReader::new(open?))
        }
        _ => Box::new(io::stdin().lock()),
    };
    let mut batches = Batches::new(args);
    let mut told = Told::default();
    block_on(async {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(limits::PUBLISH_BODY_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            let batch = if read == 0 { batches.finish() } else { batches.push(text)? };
            if let Some(batch) = batch {
                let first = told.sent;
                // A batch's messages are numbered by themselves, so the batch's place makes their keys differ.
                let idempotency_key = args.idempotency_key.as_ref().map(|key| format!("{key}/{first}"));
                let options = ManyOptions { ack: args.ack.clone(), idempotency_key };
                let answer = match args.ndjson {
                    true => tenant.publish_batch(&args.topic, batch, &options).await?,
                    false => tenant.publish_frames(&args.topic, batch, &options).await?,
                };
                told.take(answer, first);
            }
            if read == 0 {
                return Ok(());
            }
        }
    })?;
    told.print(args.connection.json)
}

/// What the server answered so far.
#[derive(Default, serde::Serialize)]
struct Told {
    accepted: u64,
    rejected: u64,
    #[serde(skip)]
    sent: u32,
    results: Vec<pointsman_api_types::publish::PublishResult>,
}

impl Told {
    fn take(&mut self, answer: PublishAnswer, first: u32) {
        self.accepted += u64::from(answer.accepted);
        self.rejected += u64::from(answer.rejected);
        self.sent += answer.accepted + answer.rejected;
        self.results.extend(answer.results.into_iter().map(|mut result| {
            result.index += first;
            result
        }));
    }

    fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            output::json(self)?;
        } else {
            output::line(&format!("{} accepted, {} rejected", self.accepted, self.rejected))?;
            for result in &self.results {
                if let Some(problem) = &result.problem {
                    output::line(&format!("message {}: {} ({})", result.index, problem.detail, problem.code))?;
                }
            }
        }
        match self.rejected {
            0 => Ok(()),
            rejected => Err(Failure::Refused(format!("{rejected} of {} messages were refused", self.sent))),
        }
    }
}

fn table() -> Table {
    Table::new(["ID", "TOPIC", "QUEUE", "OFFSET", "STORED_AT"])
}

fn row(table: &mut Table, receipt: &Receipt) {
    if receipt.targets.is_empty() {
        table.row([
            cell(receipt.id.as_ref()),
            receipt.topic.clone(),
            cell(receipt.queue),
            cell(receipt.offset),
            cell(receipt.stored_at),
        ]);
    }
    for target in &receipt.targets {
        table.row([
            cell(receipt.id.as_ref()),
            target.topic.clone(),
            target.queue.to_string(),
            cell(target.offset),
            cell(receipt.stored_at),
        ]);
    }
}
