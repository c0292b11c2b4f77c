//! The records of placed messages.

use std::ops::Range;

use pointsman_model::message::NewMessage;
use pointsman_model::record::{FLAG_SAME_MESSAGE, FLAG_UNIT_CONTINUES, Header, kind};
use pointsman_model::{Term, hash, limits};
use pointsman_state_machine::command::{Dedup, DedupBy, Park, PublishHead, TransactionMeta};

use super::job::{Decided, Job, Key, Placed, Spot};
use crate::batcher::{Batcher, Held, RecordWriter, Request};
use crate::error::Error;

/// What a record takes beside its texts and its payload, at most: header, lengths, decision.
const RECORD_BYTES: usize = 512;
/// An entry with its heads; the rest of a frame is room for what collected before the request.
const ENTRY_WITH_HEADS_BYTES_MAX: usize = limits::FRAME_BYTES_MAX - (limits::FRAME_BYTES_MAX >> 4);

/// Puts the records of placed messages into entries; all of them into one, unless several targets make that too large.
pub(super) fn submit(
    batcher: &std::sync::Arc<Batcher>,
    term: Term,
    job: &Job,
    mut placed: Vec<Placed>,
) -> Result<Decided, Error> {
    if job.half {
        return Ok(Decided { placed, tickets: Vec::new() });
    }
    let request = Request { tenant: job.tenant, term, deadline: job.deadline, ack: job.ack };
    let chunks = chunks(job, &mut placed);
    let whole = !job.atomic || chunks.len() <= 1;
    if !whole {
        return Err(too_large());
    }
    if job.atomic && placed.iter().any(|placed| placed.spots.is_err()) {
        return Ok(Decided { placed, tickets: Vec::new() });
    }
    let mut tickets = Vec::with_capacity(chunks.len());
    for range in chunks {
        let body_bytes = placed[range.clone()].iter().map(|placed| bytes_of(job, placed)).sum();
        let ticket = batcher.submit_held(request, job.hold.clone().map(|hold| hold as Held), body_bytes, |writer| {
            let last = last_with_spots(&placed[range.clone()]);
            if let Some(run) = &job.run {
                writer.write(&run_header(job), run, &[]);
            }
            for (at, placed) in placed[range.clone()].iter().enumerate() {
                write(writer, job, placed, job.atomic && Some(at) != last, None);
            }
        });
        match ticket {
            Ok(ticket) => tickets.push((range, ticket)),
            // What lies in an entry already is answered; the rest was surely not proposed.
            Err(error) if !tickets.is_empty() => {
                let rest = placed[range.start..].iter_mut().filter(|placed| !placed.spots().is_empty());
                rest.for_each(|placed| placed.spots = Err(error.clone()));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Decided { placed, tickets })
}

fn last_with_spots(placed: &[Placed]) -> Option<usize> {
    placed.iter().rposition(|placed| !placed.spots().is_empty())
}

/// Payload that a message adds to an entry.
pub(super) fn bytes_of(job: &Job, placed: &Placed) -> usize {
    job.messages[placed.message].body.len() * placed.spots().len()
}

/// About how many bytes the records of a message take in all.
fn record_bytes_of(job: &Job, placed: &Placed) -> usize {
    let message = &job.messages[placed.message];
    let texts = [&message.content_type, &message.tag, &message.ordering_key, &message.trace];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum::<usize>();
    let keys: usize = message.keys.iter().map(String::len).sum();
    let properties: usize = message.properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    (RECORD_BYTES + texts + keys + properties + message.body.len()) * placed.spots().len()
}

pub(super) fn too_large() -> Error {
    Error::BatchTooLarge("with all its targets it is too large for one entry".into())
}

/// Ranges of messages that fit into one entry each. A message that alone does not is refused.
fn chunks(job: &Job, placed: &mut [Placed]) -> Vec<Range<usize>> {
    let mut chunks = Vec::with_capacity(1);
    let (mut start, mut bytes, mut records, mut all_bytes) = (0, 0, 0, 0);
    for (at, placed) in placed.iter_mut().enumerate() {
        let (more_bytes, more_records) = (bytes_of(job, placed), placed.spots().len());
        if more_bytes > limits::ENTRY_BYTES_MAX {
            placed.spots = Err(too_large());
            continue;
        }
        let more_in_all = record_bytes_of(job, placed);
        if bytes + more_bytes > limits::ENTRY_BYTES_MAX
            || records + more_records > limits::ENTRY_RECORDS_MAX
            || all_bytes + more_in_all > ENTRY_WITH_HEADS_BYTES_MAX
        {
            chunks.push(start..at);
            (start, bytes, records, all_bytes) = (at, 0, 0, 0);
        }
        all_bytes += more_in_all;
        bytes += more_bytes;
        records += more_records;
    }
    if records > 0 {
        chunks.push(start..placed.len());
    }
    chunks
}

/// The records of a transaction, while they are written.
pub(super) struct Half<'a> {
    /// For the first record.
    meta: Option<TransactionMeta<'a>>,
    /// Records before the next one.
    records: u16,
}

impl<'a> Half<'a> {
    pub(super) fn new(meta: TransactionMeta<'a>) -> Self {
        Self { meta: Some(meta), records: 0 }
    }
}

/// Writes the records of one message; several are one unit, and `continues` joins the next message to it. Those of a
/// transaction are its halves.
pub(super) fn write(
    writer: &mut RecordWriter<'_>,
    job: &Job,
    placed: &Placed,
    continues: bool,
    mut half: Option<&mut Half<'_>>,
) {
    let message = &job.messages[placed.message];
    let spots = placed.spots();
    let due = job.due(placed.message);
    let mut head = PublishHead {
        content_type: message.content_type.as_deref(),
        tag: message.tag.as_deref(),
        keys: message.keys.iter().map(String::as_str).collect(),
        ordering_key: message.ordering_key.as_deref(),
        properties: message.properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        ttl_ms: message.ttl_ms.unwrap_or_default(),
        trace: message.trace.as_deref(),
        placement: placed.placement,
        judged: placed.judged.into_iter().chain(placed.named_by).collect(),
        source: None,
        dedup: dedup(message, &placed.key),
        park: due.map(|due| Park::Until(due.0)),
        origin: None,
        transaction: None,
        carried: None,
    };
    for (at, spot) in spots.iter().enumerate() {
        let unit = continues || at + 1 < spots.len();
        head.source = spot.source;
        if let Some(half) = &mut half {
            (head.park, head.transaction) = (Some(Park::Half(half.records)), half.meta.take());
            half.records += 1;
        }
        if at > 0 {
            // The key is the message's, hence its first record's; the others share its fate.
            head.dedup = None;
        }
        let kind = if head.park.is_some() { kind::PUBLISH_PARKED } else { kind::PUBLISH };
        let mut header = header(job, kind, message.priority, spot, unit);
        if at > 0 {
            header.flags |= FLAG_SAME_MESSAGE;
        }
        writer.write(&header, &head, &message.body);
    }
}

fn dedup<'a>(message: &'a NewMessage, key: &'a Key) -> Option<Dedup<'a>> {
    let (key, by, window_ms) = match key {
        Key::None => return None,
        Key::Producer { window_ms } => (message.idempotency_key.as_deref()?, DedupBy::Producer, *window_ms),
        Key::Plugin { key, window_ms } => (key.as_str(), DedupBy::Plugin, *window_ms),
    };
    Some(Dedup { key, by, fingerprint: hash::fingerprint(&message.body), window_ms })
}

fn header(job: &Job, kind: u8, priority: u8, spot: &Spot, unit: bool) -> Header {
    Header {
        kind,
        flags: if unit { FLAG_UNIT_CONTINUES } else { 0 },
        tenant: job.tenant,
        topic: spot.topic,
        queue: spot.queue,
        priority,
        generation: spot.generation,
        born: job.born,
    }
}

/// The note of a run, before its messages.
fn run_header(job: &Job) -> Header {
    Header {
        kind: kind::SCHEDULE_RAN,
        flags: FLAG_UNIT_CONTINUES,
        tenant: job.tenant,
        born: job.born,
        ..Header::default()
    }
}
