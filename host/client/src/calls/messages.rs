//! Publishing, leasing, settling, streaming, looking up.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use pointsman_api_types::Time;
use pointsman_api_types::lease::{Lease, LeaseInput, Leases, SettleInput, SettleItem, SettleResult, Settled};
use pointsman_api_types::message::Message;
use pointsman_api_types::publish::{BATCH_TYPE, FRAMES_TYPE, PublishAnswer, PublishOutcome, Receipt};

use super::{LONG_POLL_SLACK, Tenant};
use crate::{Error, Request, TopicStream, encode_component};

/// What is said about one message in headers.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Media type of the payload; `application/octet-stream` if absent.
    pub content_type: Option<String>,
    /// Tag.
    pub tag: Option<String>,
    /// Keys for look-ups.
    pub keys: Vec<String>,
    /// Messages of one ordering key keep their order.
    pub ordering_key: Option<String>,
    /// An explicit queue.
    pub queue: Option<u16>,
    /// Names and values; HTTP lower-cases the names.
    pub properties: Vec<(String, String)>,
    /// Deliver so much later; at most one of the three forms.
    pub delay_ms: Option<u64>,
    /// Deliver later, by level 1 to 18.
    pub delay_level: Option<u8>,
    /// Deliver at a time.
    pub deliver_at: Option<Time>,
    /// Stored once under this key, within the topic's window.
    pub idempotency_key: Option<String>,
    /// Expires so long after it was stored.
    pub ttl_ms: Option<u64>,
    /// 0 to 9.
    pub priority: Option<u8>,
    /// `quorum`, `leader` or `none`; the topic's durability if absent.
    pub ack: Option<String>,
}

/// What is said about many messages at once.
#[derive(Clone, Debug, Default)]
pub struct ManyOptions {
    /// `quorum`, `leader` or `none`; the topic's durability if absent.
    pub ack: Option<String>,
    /// Message i is stored once under `{key}/{i}`, unless it has a key of its own.
    pub idempotency_key: Option<String>,
}

/// What a topic stream shows.
#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    /// `latest`, `earliest`, a time or a cursor.
    pub from: Option<String>,
    /// A tag expression.
    pub tags: Option<String>,
    /// Ends after so many messages.
    pub max_events: Option<u64>,
    /// Ends after so long.
    pub max_ms: Option<u64>,
    /// Ends where the topic ended when the stream was opened; of a group, where nothing is left to lease.
    pub until_tail: bool,
    /// Of a group: who listens, so that a connection that broke keeps its leases.
    pub client_id: Option<String>,
    /// Of a group: leases at once.
    pub max_inflight: Option<u32>,
    /// Of a group: lease time.
    pub lease_ms: Option<u64>,
}

impl Tenant {
    /// Publishes one message, its payload untouched.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish(&self, topic: &str, payload: Bytes, options: &PublishOptions) -> Result<Receipt, Error> {
        self.client.send(self.publish_request(topic, payload, options)).await?.json()
    }

    /// The request of [`Tenant::publish`].
    #[must_use]
    pub fn publish_request(&self, topic: &str, payload: Bytes, options: &PublishOptions) -> Request {
        let content_type = options.content_type.as_deref().unwrap_or("application/octet-stream");
        let mut request = Request::post(self.messages_path(topic, options.ack.as_deref()))
            .body(content_type, payload)
            .header_if("pm-tag", options.tag.as_ref())
            .header_if("pm-ordering-key", options.ordering_key.as_ref())
            .header_if("pm-queue", options.queue.map(|queue| queue.to_string()))
            .header_if("pm-delay-ms", options.delay_ms.map(|delay| delay.to_string()))
            .header_if("pm-delay-level", options.delay_level.map(|level| level.to_string()))
            .header_if("pm-deliver-at", options.deliver_at.map(|at| at.to_string()))
            .header_if("idempotency-key", options.idempotency_key.as_ref())
            .header_if("pm-ttl-ms", options.ttl_ms.map(|ttl| ttl.to_string()))
            .header_if("pm-priority", options.priority.map(|priority| priority.to_string()));
        for key in &options.keys {
            request = request.header("pm-key", key);
        }
        for (name, value) in &options.properties {
            request = request.header(&format!("pm-prop-{name}"), value);
        }
        request
    }

    /// Publishes a batch, given as the JSON of `application/vnd.pointsman.batch+json`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish_batch(
        &self,
        topic: &str,
        batch: Bytes,
        options: &ManyOptions,
    ) -> Result<PublishAnswer, Error> {
        self.publish_many(topic, BATCH_TYPE, batch, options).await
    }

    /// Publishes frames, as [`crate::push_frame`] makes them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn publish_frames(
        &self,
        topic: &str,
        frames: Bytes,
        options: &ManyOptions,
    ) -> Result<PublishAnswer, Error> {
        self.publish_many(topic, FRAMES_TYPE, frames, options).await
    }

    async fn publish_many(
        &self,
        topic: &str,
        content_type: &str,
        body: Bytes,
        options: &ManyOptions,
    ) -> Result<PublishAnswer, Error> {
        let request = Request::post(self.messages_path(topic, options.ack.as_deref()))
            .body(content_type, body)
            .header_if("idempotency-key", options.idempotency_key.as_ref());
        self.client.send(request).await?.json()
    }

    /// What became of a publish with this idempotency key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn published(&self, topic: &str, idempotency_key: &str) -> Result<PublishOutcome, Error> {
        let request = Request::get(self.path(&["topics", topic, "publishes", idempotency_key]));
        self.client.send(request).await?.json()
    }

    /// Leases messages of a group; waits for a first one as long as `input` says.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lease(&self, group: &str, input: &LeaseInput) -> Result<Vec<Lease>, Error> {
        let wait = Duration::from_millis(input.wait_ms.unwrap_or_default());
        let request =
            Request::post(self.path(&["groups", group, "leases"])).json(input).timeout(wait + LONG_POLL_SLACK);
        Ok(self.client.send(request).await?.json::<Leases>()?.leases)
    }

    /// Settles leases; one result an item, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn settle(&self, group: &str, items: Vec<SettleItem>) -> Result<Vec<SettleResult>, Error> {
        let request = Request::post(self.path(&["groups", group, "settle"])).json(&SettleInput { items });
        Ok(self.client.send(request).await?.json::<Settled>()?.results)
    }

    /// A message by its id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn message(&self, id: &str) -> Result<Message, Error> {
        self.client.send(Request::get(self.path(&["messages", id]))).await?.json()
    }

    /// The bytes of a message by its id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn payload(&self, id: &str) -> Result<Bytes, Error> {
        let request = Request::get(self.path(&["messages", id, "payload"]));
        Ok(self.client.send(request).await?.ok()?.body)
    }

    /// Follows a topic.
    #[must_use]
    pub fn stream(&self, topic: &str, options: StreamOptions) -> TopicStream {
        TopicStream::new(self.client.clone(), self.path(&["topics", topic, "stream"]), options)
    }

    /// A group's stream: the data of each `message` is a lease, settled by [`Tenant::settle`].
    #[must_use]
    pub fn group_stream(&self, group: &str, options: StreamOptions) -> TopicStream {
        TopicStream::new(self.client.clone(), self.path(&["groups", group, "stream"]), options)
    }

    fn messages_path(&self, topic: &str, ack: Option<&str>) -> String {
        let mut path = self.path(&["topics", topic, "messages"]);
        if let Some(ack) = ack {
            // Writing to a `String` does not fail.
            let _ = write!(path, "?ack={}", encode_component(ack));
        }
        path
    }
}
