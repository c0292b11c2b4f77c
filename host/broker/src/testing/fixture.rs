//! A broker over fakes, and short words for what tests do with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman_model::message::NewMessage;
use pointsman_model::time::FakeClock;
use pointsman_model::{ShardId, Timestamp, TopicId, limits};
use pointsman_state_machine::command::{Durability, Expect, Ordering, Slot, Start, TopicConfig};

use super::{FakeJudges, FakeOutside, FakeShard};
use crate::view::{
    BindingSettings, FilterSpec, GroupSettings, Lease, LeaseRequest, Publish, PublishReceipt, SettleOp, SettleRequest,
    SettleStatus,
};
use crate::{Broker, BrokerConfig, Call, Error, Principal};

/// A broker over fakes with the tenant `default`.
pub struct Fixture {
    /// The broker.
    pub broker: Broker,
    /// The metadata shard.
    pub metadata: Arc<FakeShard>,
    /// The data shard.
    pub shard: Arc<FakeShard>,
    /// The plugin host.
    pub judges: Arc<FakeJudges>,
    /// What plugins may ask.
    pub outside: Arc<FakeOutside>,
    /// The clock of all of them.
    pub clock: Arc<FakeClock>,
}

/// The tenant of all tests.
pub const TENANT: &str = "default";

/// A call with ten seconds left.
#[must_use]
pub fn call() -> Call {
    call_within(Duration::from_secs(10))
}

/// A call with so much time left.
#[must_use]
pub fn call_within(time: Duration) -> Call {
    Call { principal: Principal::Operator, deadline: crate::call::now() + time, request_id: "test".into() }
}

/// A message with this payload.
#[must_use]
pub fn message(body: &str) -> NewMessage {
    NewMessage { body: Bytes::copy_from_slice(body.as_bytes()), ..NewMessage::default() }
}

/// A message with this tag, which is its payload, too.
#[must_use]
pub fn tagged(tag: &str) -> NewMessage {
    NewMessage { tag: Some(tag.into()), ..message(tag) }
}

/// A topic of so many queues.
#[must_use]
pub fn topic_config(queues: u16) -> TopicConfig {
    TopicConfig {
        queues: Some(queues),
        retention_ms: limits::RETENTION_MS_DEFAULT,
        retention_bytes: None,
        max_message_bytes: limits::MESSAGE_BYTES_DEFAULT,
        dedup_window_ms: limits::DEDUP_WINDOW_MS_DEFAULT,
        durability: Durability::Quorum,
        trace_all: false,
    }
}

/// A group of these topics, from the earliest message on.
#[must_use]
pub fn group_settings(topics: &[(&str, Option<FilterSpec>)]) -> GroupSettings {
    GroupSettings {
        topics: topics.iter().map(|(topic, filter)| ((*topic).to_owned(), filter.clone())).collect(),
        start: Start::Earliest,
        lease_ms: limits::LEASE_MS_DEFAULT,
        max_retries: limits::RETRIES_DEFAULT,
        max_inflight: limits::INFLIGHT_DEFAULT,
        dlq_retention_ms: limits::DLQ_RETENTION_MS_DEFAULT,
        ordering: Ordering::None,
    }
}

/// A filter by plugin, the newest version, without config.
#[must_use]
pub fn plugin_filter(plugin: &str) -> FilterSpec {
    FilterSpec::Plugin { plugin: plugin.into(), version: None, config: Bytes::from_static(b"{}") }
}

/// A binding of version 1.0.0 of a plugin.
#[must_use]
pub fn binding_settings(slot: Slot, topic: Option<&str>, group: Option<&str>, plugin: &str) -> BindingSettings {
    BindingSettings {
        slot,
        topic: topic.map(str::to_owned),
        group: group.map(str::to_owned),
        plugin: plugin.into(),
        version: "1.0.0".into(),
        config: Bytes::from_static(b"{}"),
        keyed: false,
        on_failure: None,
        fuel: None,
        memory_bytes: None,
        wall_ms: None,
    }
}

impl Fixture {
    /// A broker over empty shards.
    pub async fn new() -> Self {
        Self::with(BrokerConfig::default()).await
    }

    /// The same with other settings.
    pub async fn with(config: BrokerConfig) -> Self {
        let clock = Arc::new(FakeClock::new(Timestamp(1_700_000_000_000)));
        let metadata = Arc::new(FakeShard::new(ShardId(0), Arc::clone(&clock) as _));
        let shard = Arc::new(FakeShard::new(ShardId(1), Arc::clone(&clock) as _));
        let judges = Arc::<FakeJudges>::default();
        let outside = Arc::<FakeOutside>::default();
        let broker = Broker::new(
            config,
            Arc::clone(&metadata) as _,
            vec![Arc::clone(&shard) as _],
            Arc::clone(&judges) as _,
            Arc::clone(&outside) as _,
            Arc::clone(&clock) as _,
        );
        broker.bootstrap().await.expect("bootstraps");
        Self { broker, metadata, shard, judges, outside, clock }
    }

    /// Creates a topic.
    pub async fn topic(&self, name: &str, queues: u16) -> TopicId {
        self.put_topic(name, topic_config(queues)).await
    }

    /// Creates or changes a topic.
    pub async fn put_topic(&self, name: &str, config: TopicConfig) -> TopicId {
        let put = self.broker.put_topic(&call(), TENANT, name, config, Expect::Anything).await;
        put.expect("a topic").object.id
    }

    /// Creates or changes a group.
    pub async fn put_group(&self, name: &str, settings: GroupSettings) {
        let put = self.broker.put_group(&call(), TENANT, name, settings, Expect::Anything).await;
        put.expect("a group");
    }

    /// Creates a group of one topic, from its earliest message on.
    pub async fn group(&self, name: &str, topic: &str, filter: Option<FilterSpec>) {
        self.put_group(name, group_settings(&[(topic, filter)])).await;
    }

    /// Uploads version 1.0.0 of a plugin.
    pub async fn upload(&self, name: &'static str, plugin: super::FakePlugin) {
        let bytes = self.judges.add(name, plugin);
        let put = self.broker.put_plugin(&call(), TENANT, name, "1.0.0", bytes, false).await;
        put.expect("a plugin version");
    }

    /// Creates or changes a binding.
    pub async fn bind(&self, name: &str, settings: BindingSettings) {
        let put = self.broker.put_binding(&call(), TENANT, name, settings, Expect::Anything).await;
        put.expect("a binding");
    }

    /// Publishes at the topic's durability.
    ///
    /// # Errors
    /// As [`Broker::publish`].
    pub async fn publish(
        &self,
        topic: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Result<PublishReceipt, Error>>, Error> {
        let publish = Publish { messages, ack: None, atomic: false };
        self.broker.publish(&call(), TENANT, topic, publish).await
    }

    /// Publishes one message, which is taken.
    pub async fn send(&self, topic: &str, message: NewMessage) -> PublishReceipt {
        let results = self.publish(topic, vec![message]).await.expect("a result");
        results.into_iter().next().expect("one result").expect("taken")
    }

    /// Leases at most so many, without waiting.
    pub async fn lease(&self, group: &str, max_messages: u32) -> Vec<Lease> {
        let request = LeaseRequest { max_messages: Some(max_messages), ..LeaseRequest::default() };
        self.broker.lease(&call(), TENANT, group, request).await.expect("leases")
    }

    /// Settles one receipt.
    pub async fn settle(&self, group: &str, receipt: &str, op: SettleOp) -> SettleStatus {
        self.settle_with(
            group,
            SettleRequest { receipt: receipt.into(), op, delay_ms: None, lease_ms: None, reason: None },
        )
        .await
    }

    /// Settles one item.
    pub async fn settle_with(&self, group: &str, item: SettleRequest) -> SettleStatus {
        let results = self.broker.settle(&call(), TENANT, group, vec![item]).await.expect("results");
        results[0].status
    }

    /// The time of the shard, ms.
    #[must_use]
    pub fn shard_now(&self) -> u64 {
        crate::ports::Shard::now(&*self.shard).0
    }

    /// Rows of dead letters, of all groups.
    #[must_use]
    pub fn shard_dead_rows(&self) -> u64 {
        crate::ports::Shard::state(&*self.shard).dead.values().map(|count| count.rows).sum()
    }

    /// Lets time pass, and the broker notice.
    pub async fn pass(&self, ms: u64) {
        self.clock.advance_ms(ms);
        self.broker.tick_now();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

/// The payloads of leases, in order.
#[must_use]
pub fn bodies(leases: &[Lease]) -> Vec<String> {
    leases.iter().map(|lease| String::from_utf8_lossy(&lease.message.record.body).into_owned()).collect()
}
