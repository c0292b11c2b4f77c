//! The keys of the rows. Which numbers follow which table: [`super`].

use pointsman_model::{
    BindingId, GroupId, LogIndex, LogPosition, Ordinal, PluginVersionId, QueueId, TenantId, TopicId,
};

use super::{
    AUDIT, AUDIT_OF_TENANT, BINDING, CLUSTER_KEY, CURSOR, CURSOR_BLOCK, DEAD_COUNT, DEAD_LETTER, DEAD_LETTER_EXPIRY,
    DUE, GROUP, HELD, Key, MOVED, NO_TENANT, PARKED, PLUGIN, PLUGIN_CHUNK, QUEUE, QUOTA, REFUSED, RETRY, RETRYING,
    SCHEDULE, SCHEDULE_RUN, SEGMENT_QUEUE, SHARD, TENANT, TENANT_HOME, TIMER, TIMERS, TOKEN, TOPIC, USAGE,
};

pub(crate) fn shard_key() -> Vec<u8> {
    Key::new(SHARD, NO_TENANT).0
}

pub(crate) fn tenant_key(tenant: TenantId) -> Vec<u8> {
    Key::new(TENANT, tenant).0
}

pub(crate) fn tenant_home_key(tenant: TenantId) -> Vec<u8> {
    Key::new(TENANT_HOME, tenant).0
}

pub(crate) fn cluster_key_key(id: u8) -> Vec<u8> {
    let mut key = Key::new(CLUSTER_KEY, NO_TENANT).0;
    key.push(id);
    key
}

pub(crate) fn token_key(id: &str) -> Vec<u8> {
    let mut key = Key::new(TOKEN, NO_TENANT).0;
    key.extend_from_slice(id.as_bytes());
    key
}

pub(crate) fn quota_key(tenant: TenantId) -> Vec<u8> {
    Key::new(QUOTA, tenant).0
}

pub(crate) fn usage_key(tenant: TenantId) -> Vec<u8> {
    Key::new(USAGE, tenant).0
}

/// All audit rows of the shard: a prefix of [`audit_key`].
pub(crate) fn audit_prefix() -> Vec<u8> {
    Key::new(AUDIT, NO_TENANT).0
}

pub(crate) fn audit_key(index: LogIndex, ordinal: Ordinal) -> Vec<u8> {
    Key(audit_prefix()).u64(!index.0).u16(!ordinal.0).0
}

/// All rows of a tenant: a prefix of [`audit_of_tenant_key`].
pub(crate) fn audit_of_tenant_prefix(tenant: TenantId) -> Vec<u8> {
    Key::new(AUDIT_OF_TENANT, tenant).0
}

pub(crate) fn audit_of_tenant_key(tenant: TenantId, index: LogIndex, ordinal: Ordinal) -> Vec<u8> {
    Key(audit_of_tenant_prefix(tenant)).u64(index.0).u16(ordinal.0).0
}

pub(crate) fn topic_key(tenant: TenantId, topic: TopicId) -> Vec<u8> {
    Key::new(TOPIC, tenant).u32(topic.0).0
}

pub(crate) fn group_key(tenant: TenantId, group: GroupId) -> Vec<u8> {
    Key::new(GROUP, tenant).u32(group.0).0
}

pub(crate) fn binding_key(tenant: TenantId, binding: BindingId) -> Vec<u8> {
    Key::new(BINDING, tenant).u32(binding.0).0
}

pub(crate) fn plugin_key(tenant: TenantId, plugin: PluginVersionId) -> Vec<u8> {
    Key::new(PLUGIN, tenant).u32(plugin.0).0
}

/// All pieces of a component: a prefix of [`plugin_chunk_key`].
pub(crate) fn plugin_chunk_prefix(tenant: TenantId, digest: &[u8; 32]) -> Vec<u8> {
    let mut key = Key::new(PLUGIN_CHUNK, tenant);
    key.0.extend_from_slice(digest);
    key.0
}

pub(crate) fn plugin_chunk_key(tenant: TenantId, digest: &[u8; 32], chunk: u32) -> Vec<u8> {
    Key(plugin_chunk_prefix(tenant, digest)).u32(chunk).0
}

pub(crate) fn queue_key(tenant: TenantId, topic: TopicId, queue: QueueId) -> Vec<u8> {
    Key::new(QUEUE, tenant).u32(topic.0).u16(queue.0).0
}

pub(crate) fn cursor_key(tenant: TenantId, group: GroupId, topic: TopicId, queue: QueueId) -> Vec<u8> {
    Key::new(CURSOR, tenant).u32(group.0).u32(topic.0).u16(queue.0).0
}

pub(crate) fn cursor_block_key(
    tenant: TenantId,
    group: GroupId,
    topic: TopicId,
    queue: QueueId,
    block: u64,
) -> Vec<u8> {
    Key::new(CURSOR_BLOCK, tenant).u32(group.0).u32(topic.0).u16(queue.0).u64(block).0
}

/// All retry rows of a group, or of one topic of it: a prefix of [`retry_key`].
pub(crate) fn retry_prefix(tenant: TenantId, group: GroupId, topic: Option<TopicId>) -> Vec<u8> {
    let key = Key::new(RETRY, tenant).u32(group.0);
    topic.map_or(key.0.clone(), |topic| key.u32(topic.0).0)
}

/// All retry rows of one queue of a group: a prefix of [`retry_key`].
pub(crate) fn retry_queue_prefix(tenant: TenantId, group: GroupId, topic: TopicId, queue: QueueId) -> Vec<u8> {
    Key::new(RETRY, tenant).u32(group.0).u32(topic.0).u16(queue.0).0
}

pub(crate) fn retry_key(tenant: TenantId, group: GroupId, topic: u32, queue: u16, offset: u64) -> Vec<u8> {
    Key::new(RETRY, tenant).u32(group.0).u32(topic).u16(queue).u64(offset).0
}

/// Where the due rows of a group from that time on start.
pub(crate) fn due_from(tenant: TenantId, group: GroupId, due: u64) -> Vec<u8> {
    Key::new(DUE, tenant).u32(group.0).u64(due).0
}

/// All due rows of a group.
pub(crate) fn due_prefix(tenant: TenantId, group: GroupId) -> Vec<u8> {
    Key::new(DUE, tenant).u32(group.0).0
}

pub(crate) fn due_key(tenant: TenantId, group: GroupId, due: u64, topic: u32, queue: u16, offset: u64) -> Vec<u8> {
    Key(due_from(tenant, group, due)).u32(topic).u16(queue).u64(offset).0
}

pub(crate) fn retrying_key(tenant: TenantId, group: GroupId) -> Vec<u8> {
    Key::new(RETRYING, tenant).u32(group.0).0
}

/// All dead letters of a group: a prefix of [`dead_letter_key`].
pub(crate) fn dead_letter_prefix(tenant: TenantId, group: GroupId) -> Vec<u8> {
    Key::new(DEAD_LETTER, tenant).u32(group.0).0
}

pub(crate) fn dead_letter_key(tenant: TenantId, group: GroupId, (index, ordinal): (u64, u16)) -> Vec<u8> {
    Key(dead_letter_prefix(tenant, group)).u64(index).u16(ordinal).0
}

/// All expiry rows of a group's dead letters: a prefix of [`dead_letter_expiry_key`].
pub(crate) fn dead_letter_expiry_prefix(tenant: TenantId, group: GroupId) -> Vec<u8> {
    Key::new(DEAD_LETTER_EXPIRY, tenant).u32(group.0).0
}

pub(crate) fn dead_letter_expiry_key(
    tenant: TenantId,
    group: GroupId,
    expires: u64,
    (index, ordinal): (u64, u16),
) -> Vec<u8> {
    Key(dead_letter_expiry_prefix(tenant, group)).u64(expires).u64(index).u16(ordinal).0
}

pub(crate) fn dead_count_key(tenant: TenantId, group: GroupId) -> Vec<u8> {
    Key::new(DEAD_COUNT, tenant).u32(group.0).0
}

/// All held rows of a group, of one topic or one queue of it: a prefix of [`held_key`].
pub(crate) fn held_prefix(tenant: TenantId, group: GroupId, topic: Option<TopicId>, queue: Option<QueueId>) -> Vec<u8> {
    let mut key = Key::new(HELD, tenant).u32(group.0);
    if let Some(topic) = topic {
        key = key.u32(topic.0);
        if let Some(queue) = queue {
            key = key.u16(queue.0);
        }
    }
    key.0
}

pub(crate) fn held_key(tenant: TenantId, group: GroupId, topic: u32, queue: u16, offset: u64) -> Vec<u8> {
    Key::new(HELD, tenant).u32(group.0).u32(topic).u16(queue).u64(offset).0
}

pub(crate) fn segment_queue_key(segment: LogPosition, topic: TopicId, queue: QueueId) -> Vec<u8> {
    Key::new(SEGMENT_QUEUE, NO_TENANT).u64(segment.0).u32(topic.0).u16(queue.0).0
}

/// All refused records of a segment: a prefix of [`refused_key`].
pub(crate) fn refused_prefix(segment: LogPosition) -> Vec<u8> {
    Key::new(REFUSED, NO_TENANT).u64(segment.0).0
}

pub(crate) fn refused_key(segment: LogPosition, index: LogIndex, ordinal: Ordinal) -> Vec<u8> {
    Key::new(REFUSED, NO_TENANT).u64(segment.0).u64(index.0).u16(ordinal.0).0
}

/// All parked messages of a tenant: a prefix of [`parked_key`].
pub(crate) fn parked_prefix(tenant: TenantId) -> Vec<u8> {
    Key::new(PARKED, tenant).0
}

pub(crate) fn parked_key(tenant: TenantId, index: u64, ordinal: u16) -> Vec<u8> {
    Key::new(PARKED, tenant).u64(index).u16(ordinal).0
}

/// All timers of a tenant: a prefix of [`timer_key`].
pub(crate) fn timer_prefix(tenant: TenantId) -> Vec<u8> {
    Key::new(TIMER, tenant).0
}

/// Where the timers of a tenant from that time on start.
pub(crate) fn timer_from(tenant: TenantId, due: u64) -> Vec<u8> {
    Key::new(TIMER, tenant).u64(due).0
}

pub(crate) fn timer_key(tenant: TenantId, due: u64, index: u64, ordinal: u16) -> Vec<u8> {
    Key(timer_from(tenant, due)).u64(index).u16(ordinal).0
}

pub(crate) fn moved_key(tenant: TenantId, index: u64, ordinal: u16) -> Vec<u8> {
    Key::new(MOVED, tenant).u64(index).u16(ordinal).0
}

pub(crate) fn schedule_key(tenant: TenantId, schedule: u32) -> Vec<u8> {
    Key::new(SCHEDULE, tenant).u32(schedule).0
}

pub(crate) fn schedule_run_key(tenant: TenantId, schedule: u32) -> Vec<u8> {
    Key::new(SCHEDULE_RUN, tenant).u32(schedule).0
}

pub(crate) fn timers_key(tenant: TenantId) -> Vec<u8> {
    Key::new(TIMERS, tenant).0
}
