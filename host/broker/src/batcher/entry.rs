//! The entry that collects, and the requests that lie in it.

use std::ops::Range;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pointsman_model::record::{self, Header};
use pointsman_model::{TenantId, Term, limits};
use pointsman_state_machine::command::Durability;
use serde::Serialize;
use tokio::sync::oneshot;

use super::{Answer, Early, Held};
use crate::error::Error;

/// Smallest buffer of an entry.
const BUFFER_BYTES_MIN: usize = 4 << 10;

/// One request that lies in an entry.
pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) tenant: TenantId,
    pub(super) bytes: Range<usize>,
    pub(super) records: Range<u32>,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Answer, Error>>,
    pub(super) early: Option<(Durability, oneshot::Sender<Result<Early, Error>>)>,
    pub(super) _hold: Option<Held>,
}

/// An entry in the making.
#[derive(Default)]
pub(super) struct OpenEntry {
    pub(super) term: Term,
    records: BytesMut,
    crc: u32,
    count: u32,
    body_bytes: usize,
    pub(super) waiters: Vec<Waiter>,
    /// Where heads are written before their length is known.
    scratch: Vec<u8>,
}

/// How far an entry was before a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    pub(super) count: u32,
    bytes: usize,
    body_bytes: usize,
    crc: u32,
}

impl OpenEntry {
    /// An empty entry of that term.
    pub(super) fn of_term(term: Term) -> Self {
        Self { term, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.records.len()
    }

    /// True if a request with so many bytes of payload may join.
    pub(super) fn takes(&self, body_bytes: usize) -> bool {
        self.body_bytes + body_bytes <= limits::ENTRY_BYTES_MAX && self.count < limits::ENTRY_RECORDS_MAX as u32
    }

    pub(super) fn within_records_max(&self) -> bool {
        self.count as usize <= limits::ENTRY_RECORDS_MAX
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { count: self.count, bytes: self.records.len(), body_bytes: self.body_bytes, crc: self.crc }
    }

    /// Bytes written since.
    pub(super) fn bytes_since(&self, mark: &Mark) -> usize {
        self.records.len() - mark.bytes
    }

    /// Forgets what was written since.
    pub(super) fn rewind(&mut self, mark: &Mark) {
        self.records.truncate(mark.bytes);
        (self.count, self.body_bytes, self.crc) = (mark.count, mark.body_bytes, mark.crc);
    }

    /// Takes what was written since into an entry of its own.
    pub(super) fn split_off(&mut self, mark: &Mark) -> Self {
        let records = self.records.split_off(mark.bytes);
        let moved = Self {
            term: self.term,
            count: self.count - mark.count,
            body_bytes: self.body_bytes - mark.body_bytes,
            crc: crc_of(&records),
            records,
            ..Self::default()
        };
        (self.count, self.body_bytes, self.crc) = (mark.count, mark.body_bytes, mark.crc);
        moved
    }

    /// Notes the request whose records were written since.
    pub(super) fn finish(&mut self, mark: &Mark, waiter: impl FnOnce(Range<u32>, Range<usize>) -> Waiter) {
        self.waiters.push(waiter(mark.count..self.count, mark.bytes..self.records.len()));
    }

    /// True if a request encoded by itself may join: of the same term, and within the bounds.
    pub(super) fn accepts(&self, request: &Self) -> bool {
        self.is_empty()
            || (self.term == request.term
                && self.takes(request.body_bytes)
                && (self.count + request.count) as usize <= limits::ENTRY_RECORDS_MAX)
    }

    /// Takes in a request that was encoded by itself.
    pub(super) fn absorb(&mut self, request: Self) {
        let (bytes, records) = (self.records.len(), self.count);
        self.term = request.term;
        for range in record::ranges(&request.records) {
            // What lies here was encoded here.
            let range = range.expect("whole records");
            self.crc = record::records_crc_append(self.crc, &request.records[range]);
        }
        self.records.extend_from_slice(&request.records);
        self.count += request.count;
        self.body_bytes += request.body_bytes;
        self.waiters.extend(request.waiters.into_iter().map(|mut waiter| {
            waiter.bytes = waiter.bytes.start + bytes..waiter.bytes.end + bytes;
            waiter.records = waiter.records.start + records..waiter.records.end + records;
            waiter
        }));
    }

    /// The entry, and an empty one in its place.
    pub(super) fn take(&mut self) -> Self {
        let scratch = std::mem::take(&mut self.scratch);
        std::mem::replace(self, Self { scratch, ..Self::default() })
    }

    /// Gives an empty entry a buffer to collect in.
    pub(super) fn collect_in(&mut self, buffer: BytesMut) {
        if self.is_empty() {
            self.records = buffer;
        }
    }

    /// Marks a request as not to be proposed; false if it is not here any more.
    pub(super) fn withdraw(&mut self, ticket: u64) -> bool {
        let found = self.waiters.iter_mut().find(|waiter| waiter.ticket == ticket);
        // The proposal comes after now and leaves out what is late.
        found.is_some_and(|waiter| {
            waiter.deadline = waiter.deadline.min(crate::call::now());
            true
        })
    }

    /// Takes out the requests whose deadline has passed, with their records.
    pub(super) fn drop_late(&mut self, now: Instant) -> Vec<Waiter> {
        if self.waiters.iter().all(|waiter| waiter.deadline > now) {
            return Vec::new();
        }
        let old = std::mem::take(&mut self.records).freeze();
        (self.count, self.crc, self.body_bytes) = (0, 0, 0);
        let mut late = Vec::new();
        for mut waiter in std::mem::take(&mut self.waiters) {
            if waiter.deadline <= now {
                late.push(waiter);
                continue;
            }
            let (start, first) = (self.records.len(), self.count);
            self.records.extend_from_slice(&old[waiter.bytes.clone()]);
            self.count += waiter.records.end - waiter.records.start;
            waiter.bytes = start..self.records.len();
            waiter.records = first..self.count;
            self.waiters.push(waiter);
        }
        self.crc = crc_of(&self.records);
        late
    }

    /// The records, and a buffer for the next entry. What is cached of the log must not hold more memory than it has
    /// bytes, so a buffer that is half empty or more is kept here and its records are copied.
    pub(super) fn freeze(&mut self) -> (Bytes, BytesMut) {
        let mut records = std::mem::take(&mut self.records);
        if records.len() < records.capacity() / 2 {
            let exact = Bytes::copy_from_slice(&records);
            records.clear();
            return (exact, records);
        }
        let capacity = records.len().clamp(BUFFER_BYTES_MIN, limits::ENTRY_BYTES_TARGET);
        (records.freeze(), BytesMut::with_capacity(capacity))
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn crc(&self) -> u32 {
        self.crc
    }
}

fn crc_of(records: &[u8]) -> u32 {
    // What lies here was encoded here.
    record::records_crc(records).expect("whole records")
}

/// Writes the records of one request.
pub(crate) struct RecordWriter<'a> {
    entry: &'a mut OpenEntry,
}

impl<'a> RecordWriter<'a> {
    pub(super) fn new(entry: &'a mut OpenEntry) -> Self {
        Self { entry }
    }

    /// Appends one record.
    pub(crate) fn write<H: Serialize>(&mut self, header: &Header, head: &H, body: &[u8]) {
        let entry = &mut *self.entry;
        entry.scratch.clear();
        // Heads are plain structs of known length, so postcard has nothing to refuse.
        let scratch = std::mem::take(&mut entry.scratch);
        entry.scratch = postcard::to_extend(head, scratch).expect("heads serialize in memory");
        let start = entry.records.len();
        record::encode(&mut entry.records, header, &entry.scratch, body);
        entry.crc = record::records_crc_append(entry.crc, &entry.records[start..]);
        entry.count += 1;
        entry.body_bytes += body.len();
    }
}
