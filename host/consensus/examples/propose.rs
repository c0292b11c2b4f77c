//! Measures proposals against one shard on a real disk:
//! `propose [in flight] [records an entry] [body bytes] [seconds] [directory]`.
//!
//! Defaults: 64 in flight, 1 record an entry, 1,024 bytes, 5 seconds; a temporary directory below `$TMPDIR`. A directory
//! that is named is kept, so that a second run, or one after a kill, shows how long opening takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pointsman_broker::ports::{Proposal, Shard as _};
use pointsman_consensus::{Shard, ShardConfig};
use pointsman_model::record::{self, Header, kind};
use pointsman_model::time::SystemClock;
use pointsman_model::{Generation, QueueId, ShardId, TenantId, TopicId, limits};
use pointsman_state_machine::command::{Author, ConfigPut, Durability, Expect, Object, PublishHead, TopicConfig};
use pointsman_storage::disk::RealDisk;
use pointsman_storage::identity::Identity;
use tokio::sync::oneshot;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TENANT: TenantId = TenantId(1);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default| arguments.next().map_or(Ok(default), |argument| argument.parse::<u64>());
    let (in_flight, records, body, seconds) = (next(64)?, next(1)?, next(1_024)?, next(5)?);
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_path_buf(), Into::into);
    std::fs::create_dir_all(&dir)?;
    let start = Instant::now();
    let shard = Shard::open(ShardConfig {
        shard: ShardId(1),
        dir: dir.join("1"),
        identity: Identity { cluster: [1; 16], node: 1, incarnation: 0 },
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock::new()),
        segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
        zero_ahead: true,
        open_within: Duration::from_secs(10),
        cluster: None,
        background: pointsman_consensus::Background::Threads,
    })
    .await?;
    println!("opened in {} ms: {:?}", start.elapsed().as_millis(), shard.recovery());
    let shard = Arc::new(shard);
    configure(&shard).await?;
    let entry = publish(records, &vec![b'x'; usize::try_from(body)?])?;
    let before = shard.metrics();
    let start = Instant::now();
    let deadline = start + Duration::from_secs(seconds);
    let clients = (0..in_flight).map(|_| tokio::spawn(client(Arc::clone(&shard), entry.clone(), deadline)));
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await??);
    }
    let took = start.elapsed().as_secs_f64();
    times.sort_unstable();
    if times.is_empty() {
        return Ok(shard.shutdown().await?);
    }
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let after = shard.metrics();
    let syncs = after.syncs.count - before.syncs.count;
    println!("{in_flight} in flight, {records} x {body} bytes an entry");
    println!(
        "{:.0} entries/s, {:.0} records/s, {:.1} MB/s; p50 {:.2} ms, p99 {:.2} ms; {:.0} syncs/s of {:.2} ms",
        times.len() as f64 / took,
        times.len() as f64 * records as f64 / took,
        (after.end.0 - before.end.0) as f64 / took / 1e6,
        at(0.5),
        at(0.99),
        syncs as f64 / took,
        (after.syncs.sum_us - before.syncs.sum_us) as f64 / syncs as f64 / 1e3,
    );
    shard.shutdown().await?;
    Ok(())
}

/// One after another, until the time is up; how long each took.
async fn client(shard: Arc<Shard>, entry: (u32, Bytes, u32), deadline: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while Instant::now() < deadline {
        let start = Instant::now();
        propose(&shard, entry.clone()).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

async fn propose(shard: &Shard, (count, records, records_crc): (u32, Bytes, u32)) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    let term = shard.leadership().ok_or("no leader")?;
    shard.propose(Proposal { term, count, records, records_crc, early: None }, reply);
    answer.await?.map_err(|error| format!("{error:?}"))?;
    Ok(())
}

async fn configure(shard: &Shard) -> Result<()> {
    let topic = TopicConfig {
        queues: Some(1),
        retention_ms: limits::RETENTION_MS_DEFAULT,
        retention_bytes: None,
        max_message_bytes: limits::MESSAGE_BYTES_DEFAULT,
        dedup_window_ms: 0,
        durability: Durability::Quorum,
        trace_all: false,
    };
    let objects =
        [Object::Tenant { name: "a".into(), id: TENANT.0 }, Object::Topic { name: "events".into(), config: topic }];
    let mut bytes = BytesMut::new();
    for object in objects {
        let head = postcard::to_stdvec(&ConfigPut { expect: Expect::Anything, object, author: Author::default() })?;
        record::encode(&mut bytes, &Header { kind: kind::CONFIG_PUT, tenant: TENANT, ..Header::default() }, &head, b"");
    }
    let crc = record::records_crc(&bytes)?;
    propose(shard, (2, bytes.freeze(), crc)).await
}

fn publish(records: u64, body: &[u8]) -> Result<(u32, Bytes, u32)> {
    let head =
        postcard::to_stdvec(&PublishHead { tag: Some("paid"), keys: vec!["order-1"], ..PublishHead::default() })?;
    let header = Header {
        kind: kind::PUBLISH,
        tenant: TENANT,
        topic: TopicId(1),
        queue: QueueId(0),
        generation: Generation(1),
        ..Header::default()
    };
    let mut bytes = BytesMut::new();
    for _ in 0..records {
        record::encode(&mut bytes, &header, &head, body);
    }
    let crc = record::records_crc(&bytes)?;
    Ok((u32::try_from(records)?, bytes.freeze(), crc))
}
