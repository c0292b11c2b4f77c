//! What a tenant may use, what it uses, and who changed what.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::quota::{Quota, Usage, Used, UsedTotal};
use pointsman_api_types::token::AuditEntry;
use pointsman_api_types::{Code, Decimal, Time};
use pointsman_broker::command;
use pointsman_broker::view::Precondition;
use pointsman_model::limits;

use super::{control_body, detached, from_json};
use crate::answer;
use crate::context::Cx;
use crate::failure::Failure;

fn shown(quota: &command::Quota) -> Quota {
    Quota {
        messages_per_s: quota.messages_per_s,
        bytes_per_s: quota.bytes_per_s,
        storage_bytes: quota.storage_bytes.map(Decimal),
        topics: quota.topics,
        groups: quota.groups,
        plugins: quota.plugins,
        connections: quota.connections,
        plugin_fuel_per_s: quota.plugin_fuel_per_s,
    }
}

fn settings(input: &Quota) -> command::Quota {
    command::Quota {
        messages_per_s: input.messages_per_s,
        bytes_per_s: input.bytes_per_s,
        storage_bytes: input.storage_bytes.map(|bytes| bytes.0),
        topics: input.topics,
        groups: input.groups,
        plugins: input.plugins,
        connections: input.connections,
        plugin_fuel_per_s: input.plugin_fuel_per_s,
    }
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let (quota, revision) = cx.app.broker.get_quota(&cx.call, cx.tenant()).await?;
    answer::read(&cx.headers, revision, &shown(&quota))
}

/// `If-Match` is required: a quota is not replaced by who has not seen it.
pub(crate) async fn put(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let quota = settings(&from_json(&control_body(&cx, body, &[]).await?)?);
    let expect = cx.precondition()?;
    if expect == Precondition::Anything {
        return Err(Failure::at(Code::PreconditionRequired, "If-Match", "is required; GET gives the tag"));
    }
    let (broker, call, tenant) = (cx.broker(), cx.call.clone(), cx.tenant().to_owned());
    let written = detached(async move { broker.put_quota(&call, &tenant, quota, expect).await }).await?;
    let (quota, revision) = written.object;
    answer::written(written.created, revision, &shown(&quota))
}

pub(crate) async fn usage(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let usage = cx.app.broker.usage(&cx.call, cx.tenant()).await?;
    let quota = &usage.quota;
    let of = |limit: Option<u64>, used: u64| Used { limit, used };
    let total = |limit: Option<u64>, used: u64| UsedTotal { limit: limit.map(Decimal), used: Decimal(used) };
    answer::json(
        StatusCode::OK,
        &Usage {
            messages: total(None, usage.messages),
            bytes: total(None, usage.bytes),
            messages_per_s: of(quota.messages_per_s, usage.messages_per_s),
            bytes_per_s: of(quota.bytes_per_s, usage.bytes_per_s),
            storage_bytes: total(quota.storage_bytes, usage.storage_bytes),
            topics: of(quota.topics.map(u64::from), usage.topics),
            groups: of(quota.groups.map(u64::from), usage.groups),
            plugins: of(quota.plugins.map(u64::from), usage.plugins),
            connections: of(
                Some(quota.connections.map_or(limits::STREAMS_PER_TENANT_MAX as u64, u64::from)),
                usage.connections,
            ),
            plugin_fuel_per_s: of(quota.plugin_fuel_per_s, usage.plugin_fuel_per_s),
            plugin_memory_bytes: of(None, usage.plugin_memory_bytes),
        },
    )
}

pub(crate) async fn audit(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    answer::list(cx.app.broker.list_audit(&cx.call, &page).await?, |row| AuditEntry {
        at: Time(row.at),
        tenant: row.tenant,
        by: row.author.by,
        action: row.action,
        target: row.target,
        request_id: row.author.request_id,
    })
}
