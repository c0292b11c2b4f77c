//! Commands as a leader makes them.

use pointsman_model::record::kind;
use pointsman_model::{Generation, QueueId};

use super::*;
use crate::command::{
    AttemptEnd, Author, BindingConfig, DecidedBy, Decision, Durability, Expire, Grant, GroupConfig, GroupTopic,
    LeaseRef, Ordering, Place, PublishHead, RecordRef, Settle, SettleItem, SettleOp, Skip, Slot, Start, TopicConfig,
};

pub(super) fn put(object: Object) -> Command {
    put_if(Expect::Anything, object)
}

pub(super) fn put_if(expect: Expect, object: Object) -> Command {
    Command::new(kind::CONFIG_PUT, &ConfigPut { expect, object, author: Author::default() })
}

pub(super) fn delete(target: Target) -> Command {
    Command::new(kind::CONFIG_DELETE, &ConfigDelete { expect: Expect::Anything, target, author: Author::default() })
}

pub(super) fn topic_config(queues: Option<u16>) -> TopicConfig {
    TopicConfig {
        queues,
        retention_ms: 1,
        retention_bytes: None,
        max_message_bytes: 1,
        dedup_window_ms: 1,
        durability: Durability::Quorum,
        trace_all: false,
    }
}

pub(super) fn group_config(topics: &[&str]) -> GroupConfig {
    let topic = |name: &&str| GroupTopic { topic: (*name).into(), filter: None, start_offsets: Vec::new() };
    GroupConfig {
        topics: topics.iter().map(topic).collect(),
        start: Start::Earliest,
        lease_ms: 30_000,
        max_retries: 16,
        max_inflight: 1_000,
        dlq_retention_ms: 1,
        ordering: Ordering::None,
    }
}

/// A built-in plugin; the expression stands for its config.
pub(super) fn builtin(slot: Slot, topic: Option<&str>, group: Option<&str>, expression: &str) -> BindingConfig {
    BindingConfig {
        slot,
        topic: topic.map(Into::into),
        group: group.map(Into::into),
        plugin: "builtin/tags".into(),
        version: "1.0.0".into(),
        builtin_digest: Some([9; 32]),
        config: expression.into(),
        keyed: false,
        on_failure: slot.policies()[0],
        fuel: None,
        memory_bytes: None,
        wall_ms: None,
    }
}

pub(super) fn publish(topic: TopicId, queue: u16, generation: u32, head: &PublishHead<'_>) -> Command {
    let mut command = Command::new(kind::PUBLISH, head).change(|header| {
        header.topic = topic;
        header.queue = QueueId(queue);
        header.generation = Generation(generation);
    });
    command.body = b"body".to_vec();
    command
}

pub(super) fn lease(topic: TopicId, queue: u16, offset: u64, attempt: u16) -> LeaseRef {
    LeaseRef { topic: topic.0, queue, offset, attempt }
}

pub(super) fn after(delay_ms: u64) -> AttemptEnd {
    AttemptEnd {
        decision: Decision::Again { delay_ms },
        by: DecidedBy::Consumer,
        record: RecordRef { place: Place { term: 3, index: 9, ordinal: 1 }, ..RecordRef::default() },
        delivered_at: 5,
        reason: Some("no".into()),
        client_id: Some("c".into()),
    }
}

pub(super) fn ack(group: u32, leases: &[LeaseRef]) -> Command {
    let items = leases.iter().map(|lease| SettleItem { lease: *lease, op: SettleOp::Ack }).collect();
    Command::new(kind::SETTLE, &Settle { group, revision: u64::MAX, items })
}

pub(super) fn nack(group: u32, lease: LeaseRef, delay_ms: u64) -> Command {
    let items = vec![SettleItem { lease, op: SettleOp::Nack(after(delay_ms)) }];
    Command::new(kind::SETTLE, &Settle { group, revision: u64::MAX, items })
}

pub(super) fn settle(group: u32, lease: LeaseRef, op: SettleOp) -> Command {
    Command::new(kind::SETTLE, &Settle { group, revision: u64::MAX, items: vec![SettleItem { lease, op }] })
}

/// Leases until 5,000 in the sessions 0, 1, ….
pub(super) fn grant(group: u32, generation: u32, leases: &[LeaseRef]) -> Command {
    let items = leases.iter().copied().zip(0..).collect();
    let head = Grant { group, until: 5_000, client_id: Some("c".into()), items };
    Command::new(kind::GRANT, &head).change(|header| header.generation = Generation(generation))
}

pub(super) fn expire(group: u32, lease: LeaseRef, delay_ms: u64) -> Command {
    Command::new(kind::EXPIRE, &Expire { group, revision: u64::MAX, items: vec![(lease, after(delay_ms))] })
}

pub(super) fn skip(group: u32, topic: TopicId, queue: u16, generation: u32, ranges: &[(u64, u64)]) -> Command {
    Command::new(kind::SKIP, &Skip { group, ranges: ranges.to_vec() }).change(|header| {
        header.topic = topic;
        header.queue = QueueId(queue);
        header.generation = Generation(generation);
    })
}
