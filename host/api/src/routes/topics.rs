//! Topics and their queues.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::topic::{Durability, Queue, QueueOffset, Topic, TopicInput, TopicStats, Trace};
use pointsman_api_types::{Decimal, Time};
use pointsman_broker::command::{self, TopicConfig};
use pointsman_broker::view::{Precondition, Written};
use pointsman_broker::{Error, state};
use pointsman_model::{Timestamp, limits};
use serde_json::{Map, Value};

use super::{check_name, check_range, control_body, detached, dry_run, from_json};
use crate::context::Cx;
use crate::failure::{Failure, internal};
use crate::{answer, conditional, cursor};

/// How often a patch is computed again when another write came between.
const PATCH_TRIES: u32 = 4;

fn shown(topic: &state::Topic) -> Topic {
    let config = &topic.config;
    Topic {
        name: topic.name.as_str().to_owned(),
        queues: topic.queues(),
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes.map(Decimal),
        max_message_bytes: config.max_message_bytes,
        dedup_window_ms: config.dedup_window_ms,
        durability: match config.durability {
            command::Durability::Quorum => Durability::Quorum,
            command::Durability::Leader => Durability::Leader,
            command::Durability::None => Durability::None,
        },
        trace: if config.trace_all { Trace::All } else { Trace::Off },
    }
}

/// Checks what needs no state and fills in the defaults.
fn settings(input: &TopicInput, name: &str) -> Result<TopicConfig, Failure> {
    check_name(input.name.as_deref(), name)?;
    check_range(input.queues, 1..=u64::from(limits::QUEUES_MAX), "/queues")?;
    check_range(input.retention_ms, 1..=u64::MAX, "/retention_ms")?;
    check_range(input.retention_bytes.map(|bytes| bytes.0), 1..=u64::MAX, "/retention_bytes")?;
    check_range(input.max_message_bytes, 1..=u64::from(limits::MESSAGE_BYTES_CAP), "/max_message_bytes")?;
    check_range(input.dedup_window_ms, 0..=limits::DEDUP_WINDOW_MS_MAX, "/dedup_window_ms")?;
    if input.trace == Some(Trace::All) {
        return Err(Failure::unsupported("/trace", "traces of deliveries"));
    }
    Ok(TopicConfig {
        queues: input.queues,
        retention_ms: input.retention_ms.unwrap_or(limits::RETENTION_MS_DEFAULT),
        retention_bytes: input.retention_bytes.map(|bytes| bytes.0),
        max_message_bytes: input.max_message_bytes.unwrap_or(limits::MESSAGE_BYTES_DEFAULT),
        dedup_window_ms: input.dedup_window_ms.unwrap_or(limits::DEDUP_WINDOW_MS_DEFAULT),
        durability: match input.durability.unwrap_or_default() {
            Durability::Quorum => command::Durability::Quorum,
            Durability::Leader => command::Durability::Leader,
            Durability::None => command::Durability::None,
        },
        trace_all: false,
    })
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    answer::list(cx.app.broker.list_topics(&cx.call, cx.tenant(), &page).await?, |topic| shown(&topic))
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let topic = cx.app.broker.get_topic(&cx.call, cx.tenant(), cx.path("topic")).await?;
    answer::read(&cx.headers, topic.revision, &shown(&topic))
}

pub(crate) async fn put(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let checked = async {
        let bytes = control_body(&cx, body, &[]).await?;
        let config = settings(&from_json(&bytes)?, cx.path("topic"))?;
        Ok((config, cx.precondition()?))
    };
    let (config, expect) = match checked.await {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let written = write(&cx, config, expect).await??;
    answer::written(written.created, written.object.revision, &shown(&written.object))
}

/// The broker's own refusal apart: a patch looks at it.
async fn write(
    cx: &Cx,
    config: TopicConfig,
    expect: Precondition,
) -> Result<Result<Written<state::Topic>, Error>, Failure> {
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("topic").to_owned());
    detached(async move { Ok(broker.put_topic(&call, &tenant, &name, config, expect).await) }).await
}

/// A JSON merge patch (RFC 7396) of what GET shows, written only over the revision it was computed from.
pub(crate) async fn patch(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let checked = async {
        let bytes = control_body(&cx, body, &["application/merge-patch+json"]).await?;
        // Unknown fields and wrong types are told by the patch's own places before anything is merged.
        let _: TopicInput = from_json(&bytes)?;
        Ok((from_json::<Map<String, Value>>(&bytes)?, cx.precondition()?))
    };
    let (patch, expect) = match checked.await {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_topic(failure).await),
    };
    for _ in 0..PATCH_TRIES {
        let topic = cx.app.broker.get_topic(&cx.call, cx.tenant(), cx.path("topic")).await?;
        let config = settings(&merged(&shown(&topic), &patch)?, cx.path("topic"))?;
        if !conditional::holds(&expect, topic.revision) {
            return Err(Error::PreconditionFailed.into());
        }
        match write(&cx, config, Precondition::Revision(vec![topic.revision])).await? {
            Err(Error::PreconditionFailed) => {}
            done => {
                let written = done?;
                return answer::written(written.created, written.object.revision, &shown(&written.object));
            }
        }
    }
    Err(Error::Overloaded("other writes keep changing the topic".to_owned()).into())
}

fn merged(topic: &Topic, patch: &Map<String, Value>) -> Result<TopicInput, Failure> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(topic) else {
        return Err(internal("a topic that is no object"));
    };
    for (name, value) in patch {
        match value {
            Value::Null => fields.remove(name),
            value => fields.insert(name.clone(), value.clone()),
        };
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| internal(&error.to_string()))
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let expect = match query.flag("dry_run").and_then(|dry| Ok((dry, cx.precondition()?))) {
        Ok((true, expect)) => return dry_run::topic(&cx, &expect).await,
        Ok((false, expect)) => expect,
        Err(failure) => return Err(cx.after_topic(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("topic").to_owned());
    detached(async move { broker.delete_topic(&call, &tenant, &name, expect).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn queues(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let queues = cx.app.broker.topic_queues(&cx.call, cx.tenant(), cx.path("topic")).await?;
    let home = cx.app.broker.home_shard(cx.tenant());
    let leader = home.and_then(|home| cx.app.broker.leader_of(home)).map(|leader| leader.0);
    let items = queues
        .into_iter()
        .map(|q| Queue { queue: q.queue.0, earliest: Decimal(q.earliest), latest: Decimal(q.latest), leader })
        .collect();
    answer::list(cursor::page(&cx.list_name("queues"), items, &page)?, |queue| queue)
}

pub(crate) async fn stats(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let stats = cx.app.broker.topic_stats(&cx.call, cx.tenant(), cx.path("topic")).await?;
    let stats = TopicStats {
        topic: cx.path("topic").to_owned(),
        queues: stats.queues,
        messages: Decimal(stats.messages),
        published: Decimal(stats.published),
        groups: stats.groups,
    };
    answer::json(StatusCode::OK, &stats)
}

pub(crate) async fn offsets(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["time", "limit", "cursor"]).await?;
    let time = query
        .get("time")
        .ok_or_else(|| Failure::invalid("time", "is required"))
        .and_then(|text| text.parse::<Time>().map_err(|error| Failure::invalid("time", error.to_string())));
    let page = cx.page(&query).await?;
    let time = match time {
        Ok(time) => Timestamp(time.0),
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let offsets = cx.app.broker.topic_offsets(&cx.call, cx.tenant(), cx.path("topic"), time).await?;
    let items =
        offsets.into_iter().zip(0..).map(|(offset, queue)| QueueOffset { queue, offset: Decimal(offset) }).collect();
    answer::list(cursor::page(&cx.list_name(&format!("offsets/{time}")), items, &page)?, |offset| offset)
}
