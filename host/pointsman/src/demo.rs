//! The demonstration: publish → selector → queue → filter → lease and SSE → ack, over HTTP, counted and compared; then
//! the other judgements ([`judgements`]).
//!
//! Everything goes through the client, as a user's program would. What should come out is counted beside, in native
//! code ([`Expected`]); a difference is an error.

pub(crate) mod cluster;
mod expected;
pub(crate) mod input;
mod judgements;
mod measure;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pointsman_api_types::binding::BindingInput;
use pointsman_api_types::group::{Filter, GroupInput, GroupTopic};
use pointsman_api_types::lease::{LeaseInput, SettleItem, SettleOp, SettleStatus};
use pointsman_api_types::message::Message;
use pointsman_api_types::plugin::Kind;
use pointsman_api_types::topic::TopicInput;
use pointsman_client::{Client, ClientOptions, ManyOptions, StreamOptions, Tenant, push_frame};
use pointsman_model::limits;
use pointsman_plugin_host::{Builtin, PluginHost};
use serde_json::json;

use crate::commands::Failure;
use expected::Expected;
use input::Event;
use report::{Decision, GroupReport, Report, Streamed};

const TENANT: &str = "demo";
const TOPIC: &str = "webhooks";
const QUEUES: u16 = 4;
const VERSION: &str = "1.0.0";
const FILTER: &str = "by-event";
const SELECTOR: &str = "route-by-repository";
const BINDING: &str = "by-repository";
/// The group with the custom filter.
const TRIAGE: &str = "triage";
/// The group with a tag expression.
const TAGGED: &str = "tagged";
/// Messages of one publish call.
const BATCH_MESSAGES: usize = 100;
/// Bytes of one publish call, about.
const BATCH_BYTES: usize = 4 << 20;
/// Messages of one lease call.
const LEASE_MESSAGES: u32 = 500;
/// How long a group may stay silent before it counts as drained.
const LEASE_WAIT_MS: u64 = 500;

/// Does it all on the node at `url`, whose plugins run in `sandbox`.
pub(crate) async fn run(url: &str, sandbox: &Arc<PluginHost>, events: &[Event]) -> Result<Report, Failure> {
    let client = Client::new(url, ClientOptions::default())?;
    let expected = Expected::of(events);
    let tenant = set_up(&client, &expected).await?;

    let started = Instant::now();
    publish(&tenant, events).await?;
    let publish_ms = millis(started);

    let queues: Vec<u64> = tenant.queues(TOPIC).await?.iter().map(|queue| queue.latest.0 - queue.earliest.0).collect();
    let started = Instant::now();
    let streamed = stream(&tenant).await?;
    let stream_ms = millis(started);

    let mut groups = Vec::new();
    for (name, filter, wanted) in [
        (TRIAGE, format!("{FILTER} {}", expected.filter_config()), expected.triage),
        (
            TAGGED,
            expected.tags.as_ref().map_or_else(|| "none".to_owned(), |tags| format!("tags {tags}")),
            expected.tagged,
        ),
    ] {
        let started = Instant::now();
        let (delivered, acked) = drain(&tenant, name, wanted).await?;
        groups.push(GroupReport {
            name: name.to_owned(),
            filter,
            delivered,
            acked,
            expected: wanted,
            filtered: events.len() as u64 - wanted,
            took_ms: millis(started),
        });
    }
    let judgements = judgements::run(&tenant).await?;
    let filter_config = Bytes::from(expected.filter_config().to_string());
    let selector_ns = measure::in_background(sandbox, example(SELECTOR)?, Bytes::from_static(b"{}"), events).await?;
    let filter_ns = measure::in_background(sandbox, example(FILTER)?, filter_config, events).await?;
    let decisions = vec![
        decision(&tenant, BINDING, selector_ns, expected.native_selector_ns(events)).await?,
        decision(&tenant, &format!("{TRIAGE}:{TOPIC}"), filter_ns, expected.native_filter_ns(events)).await?,
    ];
    Ok(Report {
        events: events.len() as u64,
        queues,
        streamed,
        groups,
        decisions,
        judgements,
        publish_ms,
        stream_ms,
        curl: report::curl_lines(url, &expected),
    })
}

fn millis(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// Tenant, plugins, topic, groups, binding.
async fn set_up(client: &Client, expected: &Expected) -> Result<Tenant, Failure> {
    client.put_tenant(TENANT).await?;
    let tenant = client.tenant(TENANT);
    for name in [FILTER, SELECTOR] {
        tenant.upload_plugin(name, VERSION, Bytes::from_static(example(name)?.bytes)).await?;
    }
    let topic = TopicInput {
        queues: Some(QUEUES),
        max_message_bytes: Some(limits::MESSAGE_BYTES_CAP),
        ..TopicInput::default()
    };
    tenant.create_topic(TOPIC, &topic).await?;
    let raw = |value: serde_json::Value| {
        serde_json::value::to_raw_value(&value).map_err(|error| Failure::Output(error.into()))
    };
    let custom = Filter {
        plugin: Some(FILTER.to_owned()),
        version: Some(VERSION.to_owned()),
        config: Some(raw(expected.filter_config())?),
        ..Filter::default()
    };
    let tags = expected.tags.clone().map(|tags| Filter { tags: Some(tags), ..Filter::default() });
    for (name, filter) in [(TRIAGE, Some(custom)), (TAGGED, tags)] {
        let group = GroupInput {
            topics: vec![GroupTopic { topic: TOPIC.to_owned(), filter }],
            start: Some("earliest".to_owned()),
            ..GroupInput::default()
        };
        tenant.create_group(name, &group).await?;
    }
    let binding = BindingInput {
        name: None,
        slot: Kind::Selector,
        topic: Some(TOPIC.to_owned()),
        group: None,
        plugin: SELECTOR.to_owned(),
        version: VERSION.to_owned(),
        config: Some(raw(json!({}))?),
        // These messages have ordering keys, and their slots would place them otherwise.
        keyed: Some(true),
        mode: None,
        percent: None,
        on_failure: None,
        limits: None,
    };
    tenant.put_binding(BINDING, &binding).await?;
    Ok(tenant)
}

async fn publish(tenant: &Tenant, events: &[Event]) -> Result<(), Failure> {
    let mut frames = Vec::new();
    let mut held = 0;
    for (i, event) in events.iter().enumerate() {
        push_frame(&mut frames, &event.meta(), event.body.as_bytes());
        held += 1;
        if held == BATCH_MESSAGES || frames.len() >= BATCH_BYTES || i + 1 == events.len() {
            let answer =
                tenant.publish_frames(TOPIC, Bytes::from(std::mem::take(&mut frames)), &ManyOptions::default()).await?;
            if let Some(problem) = answer.results.iter().find_map(|result| result.problem.as_ref()) {
                return Err(Failure::Refused(format!("a message was refused: {} ({})", problem.detail, problem.code)));
            }
            held = 0;
        }
    }
    Ok(())
}

/// Reads the whole topic by SSE: how many messages, and in how many queues each first key was found.
async fn stream(tenant: &Tenant) -> Result<Streamed, Failure> {
    let options = StreamOptions { from: Some("earliest".to_owned()), until_tail: true, ..StreamOptions::default() };
    let mut stream = tenant.stream(TOPIC, options);
    let mut streamed = Streamed::default();
    let mut next = vec![0; usize::from(QUEUES)];
    let mut homes: BTreeMap<String, u16> = BTreeMap::new();
    while let Some(event) = stream.next().await? {
        if event.event != "message" {
            continue;
        }
        let message: Message = serde_json::from_str(&event.data)
            .map_err(|error| Failure::Refused(format!("a message that the contract does not know: {error}")))?;
        streamed.messages += 1;
        let (Some(queue), Some(offset)) = (message.queue, message.offset) else { continue };
        let expected = &mut next[usize::from(queue)];
        streamed.out_of_order += u64::from(offset.0 != *expected);
        *expected = offset.0 + 1;
        if let Some(key) = message.keys.into_iter().next() {
            streamed.split_keys += u64::from(*homes.entry(key).or_insert(queue) != queue);
        }
    }
    streamed.keys = homes.len() as u64;
    Ok(streamed)
}

/// Leases and acks until the group has given `wanted` messages and then stays silent.
async fn drain(tenant: &Tenant, group: &str, wanted: u64) -> Result<(u64, u64), Failure> {
    let (mut delivered, mut acked) = (0, 0);
    loop {
        // Once all have come, one look more tells whether there are too many.
        let wait_ms = if delivered < wanted { LEASE_WAIT_MS } else { 0 };
        let input = LeaseInput { max_messages: Some(LEASE_MESSAGES), wait_ms: Some(wait_ms), ..LeaseInput::default() };
        let leases = tenant.lease(group, &input).await?;
        if leases.is_empty() {
            return Ok((delivered, acked));
        }
        delivered += leases.len() as u64;
        let item = |receipt| SettleItem { receipt, op: SettleOp::Ack, delay_ms: None, lease_ms: None, reason: None };
        let items = leases.into_iter().map(|lease| item(lease.receipt)).collect();
        let results = tenant.settle(group, items).await?;
        acked += results.iter().filter(|result| result.status == SettleStatus::Settled).count() as u64;
    }
}

/// What a plugin did in the run, and what its decision costs when it has nothing to wait for.
async fn decision(tenant: &Tenant, binding: &str, sandbox_ns: f64, native_ns: f64) -> Result<Decision, Failure> {
    let stats = tenant.binding_stats(binding).await?;
    Ok(Decision {
        binding: binding.to_owned(),
        messages: stats.messages.0,
        calls: stats.calls.0,
        run_ns: stats.ns_per_message,
        sandbox_ns,
        native_ns,
    })
}

fn example(name: &str) -> Result<&'static Builtin, Failure> {
    let found = pointsman_plugin_host::examples().iter().find(|example| example.name == name);
    found.ok_or_else(|| Failure::Refused(format!("this program does not carry the example {name}")))
}
