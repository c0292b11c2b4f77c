//! Keys of the tables that retention keeps: which segments there are, what lies in them, and what still refers to it.

use pointsman_model::{LogPosition, QueueId, TenantId, TopicId};

use super::{Key, MOVED_OF_SEGMENT, NO_TENANT, OWED, QUEUE_SEGMENT, REFUSED, RELEASED, SEGMENT, SEGMENT_QUEUE};

/// Where the rows of a table that is keyed by segment start for that segment.
fn from_segment(table: u8, segment: LogPosition) -> Vec<u8> {
    Key::new(table, NO_TENANT).u64(segment.0).0
}

/// The tables whose rows go with their segment, up to before that one: from, to.
pub(crate) fn rows_of_segments_below(base: LogPosition) -> [(Vec<u8>, Vec<u8>); 4] {
    [SEGMENT_QUEUE, REFUSED, MOVED_OF_SEGMENT, SEGMENT]
        .map(|table| (Key::new(table, NO_TENANT).0, from_segment(table, base)))
}

/// All rows of a segment in the table of first offsets.
pub(crate) fn segment_queue_prefix(segment: LogPosition) -> Vec<u8> {
    from_segment(SEGMENT_QUEUE, segment)
}

pub(crate) fn queue_segment_prefix(topic: TopicId, queue: QueueId) -> Vec<u8> {
    Key::new(QUEUE_SEGMENT, NO_TENANT).u32(topic.0).u16(queue.0).0
}

pub(crate) fn queue_segment_key(topic: TopicId, queue: QueueId, segment: LogPosition) -> Vec<u8> {
    Key(queue_segment_prefix(topic, queue)).u64(segment.0).0
}

pub(crate) fn segment_key(segment: LogPosition) -> Vec<u8> {
    from_segment(SEGMENT, segment)
}

pub(crate) fn moved_of_segment_key(segment: LogPosition, tenant: TenantId, index: u64, ordinal: u16) -> Vec<u8> {
    Key(from_segment(MOVED_OF_SEGMENT, segment)).u32(tenant.0).u64(index).u16(ordinal).0
}

/// Where the rows that refer to records from that position on start.
pub(crate) fn owed_from(position: LogPosition) -> Vec<u8> {
    from_segment(OWED, position)
}

/// All rows of a tenant that refer to one record.
pub(crate) fn owed_prefix(position: LogPosition, tenant: TenantId) -> Vec<u8> {
    Key(owed_from(position)).u32(tenant.0).0
}

pub(crate) fn owed_key(position: LogPosition, tenant: TenantId, kind: u8, group: u32) -> Vec<u8> {
    let mut key = owed_prefix(position, tenant);
    key.push(kind);
    Key(key).u32(group).0
}

pub(crate) fn released_key() -> Vec<u8> {
    Key::new(RELEASED, NO_TENANT).0
}
