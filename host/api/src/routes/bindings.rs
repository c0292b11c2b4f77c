//! Bindings: a plugin version with config and failure policy, attached to a topic or group.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::binding::{
    Binding, BindingInput, BindingStats, Breaker, Failures, Limits, LogLevel, LogLine, Mode, OnFailure,
};
use pointsman_api_types::plugin::Kind;
use pointsman_api_types::{Decimal, List, Time};
use pointsman_broker::command::{FailurePolicy, Slot, SlotTarget};
use pointsman_broker::ports::{JudgeStats, LogLine as JudgeLine};
use pointsman_broker::state;
use pointsman_broker::view::BindingSettings;
use pointsman_model::{judge, limits};

use super::groups::{check_plugin_name, check_reference, plugin_config, stored_json};
use super::plugins::kind;
use super::{check_name, check_range, control_body, detached, dry_run, from_json};
use crate::context::Cx;
use crate::failure::Failure;
use crate::{answer, cursor};

fn shown(binding: &state::Binding) -> Result<Binding, Failure> {
    let config = &binding.config;
    Ok(Binding {
        name: binding.name.as_str().to_owned(),
        slot: kind(config.slot.kind()),
        topic: config.topic.clone(),
        group: config.group.clone(),
        plugin: config.plugin.clone(),
        version: config.version.clone(),
        config: stored_json(&config.config)?,
        keyed: config.keyed,
        mode: Mode::Active,
        percent: None,
        on_failure: shown_policy(config.on_failure),
        limits: Limits { fuel: config.fuel, memory_bytes: config.memory_bytes, wall_ms: config.wall_ms },
    })
}

fn settings(input: BindingInput, path_name: &str) -> Result<BindingSettings, Failure> {
    check_name(input.name.as_deref(), path_name)?;
    let slot = match input.slot {
        Kind::Selector => Slot::Selector,
        Kind::Filter => Slot::Filter,
        Kind::Dedup => Slot::Dedup,
        Kind::Retry => Slot::Retry,
        Kind::CheckBack => Slot::CheckBack,
        Kind::Admit | Kind::Assign => return Err(Failure::unsupported("/slot", "this slot")),
    };
    if !matches!(input.mode, None | Some(Mode::Active)) {
        return Err(Failure::unsupported("/mode", "modes other than active"));
    }
    if input.percent.is_some() {
        return Err(Failure::unsupported("/percent", "canaries"));
    }
    for (pointer, name) in [("/topic", &input.topic), ("/group", &input.group)] {
        if let Some(name) = name {
            check_reference(name, pointer)?;
        }
    }
    let refused =
        |pointer: &str, names: &str| Err(Failure::invalid(pointer, format!("a {} names {names}", slot.kind())));
    match (slot.target(), &input.topic, &input.group) {
        (SlotTarget::Topic, None, _) => return refused("/topic", "its topic"),
        (SlotTarget::Topic, _, Some(_)) => return refused("/group", "no group"),
        (SlotTarget::Group | SlotTarget::GroupTopic, _, None) => return refused("/group", "its group"),
        (SlotTarget::Group, Some(_), _) => return refused("/topic", "no topic"),
        _ => {}
    }
    let keyed = input.keyed.unwrap_or(false);
    if keyed && slot != Slot::Selector {
        return Err(Failure::invalid("/keyed", "goes with a selector"));
    }
    check_plugin_name(&input.plugin, "/plugin")?;
    let bounds = input.limits.unwrap_or_default();
    check_range(bounds.fuel, 1..=limits::PLUGIN_FUEL_CAP, "/limits/fuel")?;
    check_range(bounds.memory_bytes, 1..=u64::from(limits::PLUGIN_MEMORY_BYTES_CAP), "/limits/memory_bytes")?;
    check_range(bounds.wall_ms, 1..=u64::from(limits::PLUGIN_WALL_MS_CAP), "/limits/wall_ms")?;
    Ok(BindingSettings {
        slot,
        topic: input.topic,
        group: input.group,
        plugin: input.plugin,
        version: input.version,
        config: plugin_config(input.config.as_deref(), "/config")?,
        keyed,
        on_failure: input.on_failure.map(|policy| failure_policy(slot, policy)).transpose()?,
        fuel: bounds.fuel,
        memory_bytes: bounds.memory_bytes,
        wall_ms: bounds.wall_ms,
    })
}

/// The policy that was asked for, if the slot has it.
fn failure_policy(slot: Slot, policy: OnFailure) -> Result<FailurePolicy, Failure> {
    let allowed = slot.policies().iter().copied().find(|allowed| shown_policy(*allowed) == policy);
    allowed.ok_or_else(|| {
        let words = judge::OnFailure::allowed(slot.kind()).iter().map(|policy| format!("`{}`", policy.as_str()));
        let words = words.collect::<Vec<_>>().join(" or ");
        Failure::invalid("/on_failure", format!("a {} has {words}", slot.kind()))
    })
}

fn shown_policy(policy: FailurePolicy) -> OnFailure {
    match policy {
        FailurePolicy::Hash => OnFailure::Hash,
        FailurePolicy::Refuse => OnFailure::Refuse,
        FailurePolicy::Deliver => OnFailure::Deliver,
        FailurePolicy::Skip => OnFailure::Skip,
        FailurePolicy::Pause => OnFailure::Pause,
        FailurePolicy::Keep => OnFailure::Keep,
        FailurePolicy::Default => OnFailure::Default,
        FailurePolicy::DeadLetter => OnFailure::DeadLetter,
        FailurePolicy::Unknown => OnFailure::Unknown,
    }
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let page = cx.app.broker.list_bindings(&cx.call, cx.tenant(), &page).await?;
    let items = page.items.iter().map(shown).collect::<Result<_, _>>()?;
    answer::json(StatusCode::OK, &List { items, next_cursor: page.next_cursor })
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let binding = cx.app.broker.get_binding(&cx.call, cx.tenant(), cx.path("binding")).await?;
    answer::read(&cx.headers, binding.revision, &shown(&binding)?)
}

pub(crate) async fn put(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let checked = async {
        let bytes = control_body(&cx, body, &[]).await?;
        let settings = settings(from_json(&bytes)?, cx.path("binding"))?;
        Ok((settings, cx.precondition()?))
    };
    let (settings, expect) = match checked.await {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("binding").to_owned());
    let written = detached(async move { broker.put_binding(&call, &tenant, &name, settings, expect).await }).await?;
    answer::written(written.created, written.object.revision, &shown(&written.object)?)
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let expect = match query.flag("dry_run").and_then(|dry| Ok((dry, cx.precondition()?))) {
        Ok((true, expect)) => return dry_run::binding(&cx, &expect).await,
        Ok((false, expect)) => expect,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("binding").to_owned());
    detached(async move { broker.delete_binding(&call, &tenant, &name, expect).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn stats(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let stats = cx.app.broker.binding_stats(&cx.call, cx.tenant(), cx.path("binding")).await?;
    answer::json(StatusCode::OK, &shown_stats(&stats))
}

fn shown_stats(stats: &JudgeStats) -> BindingStats {
    let [trap, fuel, timeout, memory, output, impure, bad_hint] = stats.failures.map(Decimal);
    BindingStats {
        calls: Decimal(stats.calls),
        messages: Decimal(stats.messages),
        failures: Failures { trap, fuel, timeout, memory, output, impure, bad_hint },
        breaker: if stats.breaker_open { Breaker::Open } else { Breaker::Closed },
        fuel: Decimal(stats.fuel),
        ns_per_message: stats.ns_per_message,
    }
}

pub(crate) async fn logs(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let lines = cx.app.broker.binding_logs(&cx.call, cx.tenant(), cx.path("binding")).await?;
    answer::list(cursor::page(&cx.list_name("logs"), lines, &page)?, shown_line)
}

fn shown_line(line: JudgeLine) -> LogLine {
    let level = match line.level {
        0 => LogLevel::Trace,
        1 => LogLevel::Debug,
        2 => LogLevel::Info,
        3 => LogLevel::Warn,
        _ => LogLevel::Error,
    };
    LogLine { at: Time(line.at.0), level, text: line.text }
}

/// Promote, rollback, quarantine, resume.
pub(crate) async fn unsupported(cx: Cx) -> Result<Response, Failure> {
    cx.query(&[]).await?;
    cx.app.broker.get_binding(&cx.call, cx.tenant(), cx.path("binding")).await?;
    Err(Failure::unsupported("", "modes other than active"))
}
