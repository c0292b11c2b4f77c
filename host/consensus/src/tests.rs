//! Tests of the crate as a whole, and what they share.

pub(crate) mod cluster;
mod crash;
mod faults;
mod harm;
mod repair;
mod replicas;
mod retention;
mod shard;
mod suite;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pointsman_broker::ports::{Committed, Proposal, ProposeError, Shard as _};
use pointsman_model::record::{self, Header, kind};
use pointsman_model::time::SystemClock;
use pointsman_model::{Generation, QueueId, ShardId, TenantId, Term, Timestamp, TopicId};
use pointsman_state_machine::command::{
    Author, Cause, ConfigPut, Dedup, DedupBy, Durability, Expect, Object, Origin, Park, Place, PublishHead, TopicConfig,
};
use pointsman_storage::disk::RealDisk;
use pointsman_storage::identity::Identity;
use tokio::sync::oneshot;

use crate::{Shard, ShardConfig};

/// A number from the environment.
fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

const TENANT: TenantId = TenantId(1);
const TOPIC: TopicId = TopicId(1);
/// How long the key of a message that is stored once is remembered.
const DEDUP_WINDOW_MS: u64 = 60;

fn identity() -> Identity {
    Identity { cluster: [7; 16], node: 1, incarnation: 0 }
}

fn config(dir: &Path) -> ShardConfig {
    ShardConfig {
        shard: ShardId(1),
        dir: dir.join("1"),
        identity: identity(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock::new()),
        segment_bytes: 64 << 10,
        zero_ahead: false,
        open_within: Duration::from_secs(20),
        cluster: None,
        background: crate::Background::Threads,
    }
}

/// Records of one entry in the making.
#[derive(Default)]
struct Records {
    bytes: BytesMut,
    count: u32,
}

impl Records {
    fn add(&mut self, header: &Header, head: &[u8], body: &[u8]) {
        record::encode(&mut self.bytes, header, head, body);
        self.count += 1;
    }

    fn put(&mut self, tenant: TenantId, object: Object) {
        let head =
            postcard::to_stdvec(&ConfigPut { expect: Expect::Anything, object, author: Author::default() }).unwrap();
        self.add(&Header { kind: kind::CONFIG_PUT, tenant, ..Header::default() }, &head, b"");
    }

    /// A message for a queue of the topic, decided under `generation`.
    fn publish(&mut self, queue: u16, generation: Generation, key: &str, body: &[u8]) {
        self.message(
            kind::PUBLISH,
            queue,
            generation,
            &PublishHead { keys: vec![key], ..PublishHead::default() },
            body,
        );
    }

    /// A message that is stored once under its key.
    fn publish_once(&mut self, queue: u16, generation: Generation, key: &str, body: &[u8]) {
        let dedup = Dedup { key, by: DedupBy::Plugin, fingerprint: 0, window_ms: DEDUP_WINDOW_MS };
        let head = PublishHead { dedup: Some(dedup), ..PublishHead::default() };
        self.message(kind::PUBLISH, queue, generation, &head, body);
    }

    /// A message that waits for a time.
    fn park(&mut self, queue: u16, generation: Generation, due: Timestamp, body: &[u8]) {
        let head = PublishHead { park: Some(Park::Until(due.0)), ..PublishHead::default() };
        self.message(kind::PUBLISH_PARKED, queue, generation, &head, body);
    }

    /// The message that is parked at this place becomes visible.
    fn fire(&mut self, queue: u16, place: Place, body: &[u8]) {
        let head = PublishHead { origin: Some(Origin { place, cause: Cause::Timer }), ..PublishHead::default() };
        self.message(kind::PUBLISH_FROM, queue, Generation(1), &head, body);
    }

    fn message(&mut self, kind: u8, queue: u16, generation: Generation, head: &PublishHead<'_>, body: &[u8]) {
        let head = postcard::to_stdvec(&PublishHead { tag: Some("t"), ..head.clone() }).unwrap();
        let header = Header {
            kind,
            tenant: TENANT,
            topic: TOPIC,
            queue: QueueId(queue),
            generation,
            born: Timestamp(5),
            ..Header::default()
        };
        self.add(&header, &head, body);
    }

    fn finish(self) -> (u32, Bytes, u32) {
        let crc = record::records_crc(&self.bytes).unwrap();
        (self.count, self.bytes.freeze(), crc)
    }

    fn proposal(self, term: Term) -> Proposal {
        let (count, records, records_crc) = self.finish();
        Proposal { term, count, records, records_crc, early: None }
    }
}

fn topic_config(queues: u16) -> TopicConfig {
    TopicConfig {
        queues: Some(queues),
        retention_ms: 1_000_000,
        retention_bytes: None,
        max_message_bytes: 1 << 20,
        dedup_window_ms: 1_000,
        durability: Durability::Quorum,
        trace_all: false,
    }
}

/// A tenant and a topic of two queues.
fn setup() -> Records {
    let mut records = Records::default();
    records.put(TENANT, Object::Tenant { name: "a".into(), id: TENANT.0 });
    records.put(TENANT, Object::Topic { name: "events".into(), config: topic_config(2) });
    records
}

type Answer = oneshot::Receiver<Result<Committed, ProposeError>>;

/// Proposes in the term led now.
fn propose(shard: &Shard, records: Records) -> Answer {
    let (reply, answer) = oneshot::channel();
    shard.propose(records.proposal(shard.leadership().unwrap()), reply);
    answer
}

async fn commit(shard: &Shard, records: Records) -> Committed {
    propose(shard, records).await.unwrap().unwrap()
}
