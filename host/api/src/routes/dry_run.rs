//! `?dry_run=true` of a DELETE: the same refusals, the counts, and nothing changed.

use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::Decimal;
use pointsman_api_types::tenant::DryDelete;
use pointsman_broker::Error;
use pointsman_broker::state::{Binding, Group};
use pointsman_broker::view::{PageRequest, Precondition};
use pointsman_model::{MessageId, limits};

use crate::context::Cx;
use crate::failure::Failure;
use crate::{answer, conditional};

fn would(messages: Option<u64>, bindings: Option<u32>) -> Result<Response, Failure> {
    let messages = messages.map(Decimal);
    answer::json(StatusCode::OK, &DryDelete { dry_run: true, would: "delete".to_owned(), messages, bindings })
}

fn demand(expect: &Precondition, revision: u64) -> Result<(), Failure> {
    if conditional::holds(expect, revision) { Ok(()) } else { Err(Error::PreconditionFailed.into()) }
}

fn unused(users: Vec<String>) -> Result<(), Failure> {
    if users.is_empty() { Ok(()) } else { Err(Error::InUse(users).into()) }
}

/// A topic: groups and bindings that name it keep it.
pub(super) async fn topic(cx: &Cx, expect: &Precondition) -> Result<Response, Failure> {
    let broker = &cx.app.broker;
    let topic = broker.get_topic(&cx.call, cx.tenant(), cx.path("topic")).await?;
    demand(expect, topic.revision)?;
    let mut users = Vec::new();
    for group in all_groups(cx).await? {
        if group.topic_ids.contains(&topic.id) {
            users.push(group.name.as_str().to_owned());
        }
    }
    for binding in all_bindings(cx).await? {
        if !binding.shorthand && binding.topic == Some(topic.id) {
            users.push(binding.name.as_str().to_owned());
        }
    }
    let transactions = broker.topic_transactions(&cx.call, cx.tenant(), cx.path("topic")).await?;
    users.extend(transactions.iter().map(ToString::to_string));
    unused(users)?;
    let queues = broker.topic_queues(&cx.call, cx.tenant(), cx.path("topic")).await?;
    would(Some(queues.iter().map(|q| q.latest.saturating_sub(q.earliest)).sum()), None)
}

/// A group takes its bindings along.
pub(super) async fn group(cx: &Cx, expect: &Precondition) -> Result<Response, Failure> {
    let group = cx.app.broker.get_group(&cx.call, cx.tenant(), cx.path("group")).await?;
    demand(expect, group.revision)?;
    let bindings = all_bindings(cx).await?;
    would(None, Some(bindings.iter().filter(|b| b.group == Some(group.id)).count() as u32))
}

/// A binding; one written in a group goes with the group only.
pub(super) async fn binding(cx: &Cx, expect: &Precondition) -> Result<Response, Failure> {
    let binding = cx.app.broker.get_binding(&cx.call, cx.tenant(), cx.path("binding")).await?;
    demand(expect, binding.revision)?;
    would(None, None)
}

/// A plugin version that no binding uses.
pub(super) async fn plugin_version(cx: &Cx, name: &str, version: &str) -> Result<Response, Failure> {
    cx.app.broker.get_plugin_version(&cx.call, cx.tenant(), name, version).await?;
    let bindings = all_bindings(cx).await?;
    let users = bindings.iter().filter(|b| b.config.plugin == name && b.config.version == version);
    unused(users.map(|b| b.name.as_str().to_owned()).collect())?;
    would(None, None)
}

/// A schedule; what it published stays.
pub(super) async fn schedule(cx: &Cx, expect: &Precondition) -> Result<Response, Failure> {
    let schedule = cx.app.broker.get_schedule(&cx.call, cx.tenant(), cx.path("schedule")).await?;
    demand(expect, schedule.revision)?;
    would(None, None)
}

/// A message that waits for its time.
pub(super) async fn scheduled(cx: &Cx, id: MessageId) -> Result<Response, Failure> {
    cx.app.broker.get_scheduled(&cx.call, cx.tenant(), id).await?;
    would(Some(1), None)
}

async fn all_groups(cx: &Cx) -> Result<Vec<Group>, Failure> {
    let mut all = Vec::new();
    let mut page = PageRequest { limit: limits::PAGE_ITEMS_MAX, cursor: None };
    loop {
        let got = cx.app.broker.list_groups(&cx.call, cx.tenant(), &page).await?;
        all.extend(got.items);
        match got.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => return Ok(all),
        }
    }
}

async fn all_bindings(cx: &Cx) -> Result<Vec<Binding>, Failure> {
    let mut all = Vec::new();
    let mut page = PageRequest { limit: limits::PAGE_ITEMS_MAX, cursor: None };
    loop {
        let got = cx.app.broker.list_bindings(&cx.call, cx.tenant(), &page).await?;
        all.extend(got.items);
        match got.next_cursor {
            Some(cursor) => page.cursor = Some(cursor),
            None => return Ok(all),
        }
    }
}
