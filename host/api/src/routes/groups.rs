//! Consumer groups.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use pointsman_api_types::group::{Filter, Group, GroupInput, GroupTopic, Ordering};
use pointsman_api_types::{Code, Time};
use pointsman_broker::command::{self, Start};
use pointsman_broker::state;
use pointsman_broker::view::{FilterSpec, GroupSettings};
use pointsman_model::{limits, name};
use serde_json::value::RawValue;

use super::{check_name, check_range, control_body, detached, dry_run, from_json};
use crate::answer;
use crate::context::Cx;
use crate::failure::{Failure, internal};

fn shown(group: &state::Group) -> Result<Group, Failure> {
    let config = &group.config;
    Ok(Group {
        name: group.name.as_str().to_owned(),
        topics: config.topics.iter().map(shown_topic).collect::<Result<_, _>>()?,
        ordering: match config.ordering {
            command::Ordering::None => Ordering::None,
            command::Ordering::Key => Ordering::Key,
            command::Ordering::Queue => Ordering::Queue,
        },
        start: match config.start {
            Start::Latest => "latest".to_owned(),
            Start::Earliest => "earliest".to_owned(),
            Start::Time(ms) => Time(ms).to_string(),
        },
        lease_ms: config.lease_ms,
        max_retries: config.max_retries,
        max_inflight: config.max_inflight,
        dlq_retention_ms: config.dlq_retention_ms,
    })
}

fn shown_topic(topic: &command::GroupTopic) -> Result<GroupTopic, Failure> {
    let filter = match &topic.filter {
        None => None,
        Some(command::Shorthand { tags: Some(tags), .. }) => {
            Some(Filter { tags: Some(tags.clone()), ..Filter::default() })
        }
        Some(command::Shorthand { tags: None, binding }) => Some(Filter {
            plugin: Some(binding.plugin.clone()),
            version: Some(binding.version.clone()),
            config: Some(stored_json(&binding.config)?),
            ..Filter::default()
        }),
    };
    Ok(GroupTopic { topic: topic.topic.clone(), filter })
}

/// JSON text that was checked when it was stored.
pub(super) fn stored_json(text: &[u8]) -> Result<Box<RawValue>, Failure> {
    let text = String::from_utf8_lossy(text).into_owned();
    RawValue::from_string(text).map_err(|error| internal(&format!("stored config: {error}")))
}

/// A filter as a group or a stream names it. `pointer` leads to it.
pub(super) fn filter(input: Filter, pointer: &str) -> Result<FilterSpec, Failure> {
    if input.sql.is_some() {
        return Err(Failure::unsupported(format!("{pointer}/sql"), "SQL filters"));
    }
    match (input.tags, input.plugin) {
        (Some(tags), None) => {
            for (field, given) in [("version", input.version.is_some()), ("config", input.config.is_some())] {
                if given {
                    return Err(Failure::invalid(format!("{pointer}/{field}"), "goes with `plugin` only"));
                }
            }
            Ok(FilterSpec::Tags(tags))
        }
        (None, Some(plugin)) => {
            check_plugin_name(&plugin, &format!("{pointer}/plugin"))?;
            let config = plugin_config(input.config.as_deref(), &format!("{pointer}/config"))?;
            Ok(FilterSpec::Plugin { plugin, version: input.version, config })
        }
        _ => Err(Failure::invalid(pointer, "exactly one of `tags`, `sql` and `plugin`")),
    }
}

/// A plugin's config as it is handed to `init`: the JSON text, `{}` if absent.
pub(super) fn plugin_config(config: Option<&RawValue>, pointer: &str) -> Result<Bytes, Failure> {
    let text = config.map_or("{}", RawValue::get);
    if text.len() > limits::PLUGIN_CONFIG_BYTES_MAX {
        return Err(Failure::invalid(pointer, format!("at most {} bytes", limits::PLUGIN_CONFIG_BYTES_MAX)));
    }
    Ok(Bytes::copy_from_slice(text.as_bytes()))
}

/// `name`, or `builtin/name`.
pub(super) fn check_plugin_name(plugin: &str, pointer: &str) -> Result<(), Failure> {
    check_reference(plugin.strip_prefix("builtin/").unwrap_or(plugin), pointer)
}

/// A name that a body refers to.
pub(super) fn check_reference(text: &str, pointer: &str) -> Result<(), Failure> {
    if name::is_well_formed(text) {
        Ok(())
    } else {
        Err(Failure::at(Code::InvalidName, pointer, name::Error::Malformed.to_string()))
    }
}

fn settings(input: GroupInput, path_name: &str) -> Result<GroupSettings, Failure> {
    check_name(input.name.as_deref(), path_name)?;
    if input.topics.is_empty() {
        return Err(Failure::invalid("/topics", "at least one topic"));
    }
    if input.topics.len() > limits::GROUP_TOPICS_MAX {
        return Err(Failure::invalid("/topics", format!("at most {} topics", limits::GROUP_TOPICS_MAX)));
    }
    let mut topics: Vec<(String, Option<FilterSpec>)> = Vec::with_capacity(input.topics.len());
    for (i, topic) in input.topics.into_iter().enumerate() {
        let pointer = format!("/topics/{i}/topic");
        check_reference(&topic.topic, &pointer)?;
        if topics.iter().any(|(name, _)| *name == topic.topic) {
            return Err(Failure::invalid(pointer, "the topic is there twice"));
        }
        let filter = topic.filter.map(|f| filter(f, &format!("/topics/{i}/filter"))).transpose()?;
        topics.push((topic.topic, filter));
    }
    check_range(input.lease_ms, limits::LEASE_MS_MIN..=limits::LEASE_MS_MAX, "/lease_ms")?;
    check_range(input.max_retries, 0..=u64::from(limits::RETRIES_MAX), "/max_retries")?;
    check_range(input.max_inflight, 1..=u64::from(limits::INFLIGHT_MAX), "/max_inflight")?;
    check_range(input.dlq_retention_ms, 1..=limits::RETENTION_MS_MAX_DEFAULT, "/dlq_retention_ms")?;
    let start = match input.start.as_deref() {
        None | Some("latest") => Start::Latest,
        Some("earliest") => Start::Earliest,
        Some(text) => Start::Time(
            text.parse::<Time>().map_err(|_| Failure::invalid("/start", "`latest`, `earliest` or an RFC 3339 time"))?.0,
        ),
    };
    Ok(GroupSettings {
        topics,
        start,
        lease_ms: input.lease_ms.unwrap_or(limits::LEASE_MS_DEFAULT),
        max_retries: input.max_retries.unwrap_or(limits::RETRIES_DEFAULT),
        max_inflight: input.max_inflight.unwrap_or(limits::INFLIGHT_DEFAULT),
        dlq_retention_ms: input.dlq_retention_ms.unwrap_or(limits::DLQ_RETENTION_MS_DEFAULT),
        ordering: match input.ordering.unwrap_or(Ordering::None) {
            Ordering::None => command::Ordering::None,
            Ordering::Key => command::Ordering::Key,
            Ordering::Queue => command::Ordering::Queue,
        },
    })
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let page = cx.app.broker.list_groups(&cx.call, cx.tenant(), &page).await?;
    let items = page.items.iter().map(shown).collect::<Result<_, _>>()?;
    answer::json(StatusCode::OK, &pointsman_api_types::List { items, next_cursor: page.next_cursor })
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let group = cx.app.broker.get_group(&cx.call, cx.tenant(), cx.path("group")).await?;
    answer::read(&cx.headers, group.revision, &shown(&group)?)
}

pub(crate) async fn put(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let checked = async {
        let bytes = control_body(&cx, body, &[]).await?;
        let settings = settings(from_json(&bytes)?, cx.path("group"))?;
        Ok((settings, cx.precondition()?))
    };
    let (settings, expect) = match checked.await {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("group").to_owned());
    let written = detached(async move { broker.put_group(&call, &tenant, &name, settings, expect).await }).await?;
    answer::written(written.created, written.object.revision, &shown(&written.object)?)
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let expect = match query.flag("dry_run").and_then(|dry| Ok((dry, cx.precondition()?))) {
        Ok((true, expect)) => return dry_run::group(&cx, &expect).await,
        Ok((false, expect)) => expect,
        Err(failure) => return Err(cx.after_group(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("group").to_owned());
    detached(async move { broker.delete_group(&call, &tenant, &name, expect).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
