//! The bug that serves what is not committed: queues go on to the end of the log.

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::record::{self, kind};
use pointsman_model::{LogIndex, LogPosition, Ordinal, QueueId, QueueOffset, TopicId};
use pointsman_storage::log::{FRAME_HEADER_BYTES, Frame};

use super::probe::Mutant;
use crate::core::Core;

/// What a read of a queue answers, and with the bug what the log holds beyond.
pub(crate) fn and_more(
    core: &Core,
    (topic, queue): (TopicId, QueueId),
    from: QueueOffset,
    mut entries: Vec<QueueEntry>,
) -> Vec<QueueEntry> {
    if !core.probe.is(Mutant::ServesUncommitted) {
        return entries;
    }
    let mut offset = core.machine.read().state().ends(topic, queue).latest;
    let next = core.applied_index().map_or(LogIndex(0), LogIndex::next);
    for frame in core.log.read(next..LogIndex(u64::MAX), 1 << 20).unwrap_or_default() {
        for entry in messages(&frame, topic, queue) {
            if offset >= from.0 {
                entries.push(entry);
            }
            offset += 1;
        }
    }
    entries
}

fn messages(frame: &Frame, topic: TopicId, queue: QueueId) -> Vec<QueueEntry> {
    let ranges = record::ranges(&frame.records).map_while(Result::ok);
    let entry = |(ordinal, range): (u16, std::ops::Range<usize>)| {
        let record = record::decode_head(&frame.records.slice(range.clone())).ok()?;
        let here = record.header.kind == kind::PUBLISH && (record.header.topic, record.header.queue) == (topic, queue);
        here.then(|| QueueEntry {
            position: LogPosition(frame.location.position.0 + (FRAME_HEADER_BYTES + range.start) as u64),
            index: frame.index,
            length: range.len() as u32,
            term: frame.term,
            ordinal: Ordinal(ordinal),
            priority: record.header.priority,
            flags: 0,
            tag_hash: 0,
            ordering_key_hash: 0,
            stamp: frame.stamp,
        })
    };
    (0..).zip(ranges).filter_map(entry).collect()
}
