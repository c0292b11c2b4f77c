//! Schedules.

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use pointsman_api_types::publish::{MessageInput, Properties};
use pointsman_api_types::schedule::{Schedule, ScheduleInput};
use pointsman_api_types::text::Text;
use pointsman_api_types::{List, Time};
use pointsman_broker::state;
use pointsman_broker::view::ScheduleSettings;
use serde_json::value::RawValue;

use super::groups::check_reference;
use super::{check_name, control_body, detached, dry_run, from_json};
use crate::answer;
use crate::context::Cx;
use crate::failure::{Failure, internal};
use crate::message_json::{Form, form};
use crate::publish::batch;

/// The time zone of a schedule that names none.
const UTC: &str = "UTC";

fn settings(body: &Bytes, name: &str) -> Result<ScheduleSettings, Failure> {
    let input: ScheduleInput<'_> = from_json(body)?;
    check_name(input.name.as_deref(), name)?;
    check_reference(&input.topic, "/topic")?;
    let own = [
        ("delay_ms", input.message.delay_ms.is_some()),
        ("delay_level", input.message.delay_level.is_some()),
        ("deliver_at", input.message.deliver_at.is_some()),
        ("idempotency_key", input.message.idempotency_key.is_some()),
    ];
    if let Some((field, _)) = own.iter().find(|(_, given)| *given) {
        return Err(Failure::invalid(format!("/message/{field}"), "is the schedule's own business"));
    }
    let message = batch::message(input.message, body, None, || "/message".to_owned())?;
    let timezone = input.timezone.unwrap_or_else(|| UTC.to_owned());
    Ok(ScheduleSettings { cron: input.cron, timezone, topic: input.topic, message })
}

/// The payload as a JSON value, where its type says so and its bytes are one.
fn data(schedule: &state::Schedule) -> Result<Option<Box<RawValue>>, Failure> {
    let message = &schedule.config.message;
    let Ok(text) = std::str::from_utf8(&message.body) else { return Ok(None) };
    let json = match form(message.content_type.as_deref()) {
        Form::Json => return Ok(RawValue::from_string(text.to_owned()).ok()),
        Form::Text => serde_json::to_string(text).and_then(RawValue::from_string),
        Form::Bytes => return Ok(None),
    };
    json.map(Some).map_err(|error| internal(&error.to_string()))
}

fn shown<'a>(schedule: &state::Schedule, data: Option<&'a RawValue>) -> Schedule<'a> {
    let (config, message) = (&schedule.config, &schedule.config.message);
    let base64 = data.is_none().then(|| Text(STANDARD.encode(&message.body).into()));
    Schedule {
        name: schedule.name.to_string(),
        cron: config.cron.clone(),
        timezone: config.timezone.clone(),
        topic: config.topic.clone(),
        message: MessageInput {
            data,
            data_base64: base64,
            content_type: message.content_type.clone(),
            tag: message.tag.clone(),
            keys: Some(message.keys.clone()).filter(|keys| !keys.is_empty()),
            ordering_key: message.ordering_key.clone(),
            queue: message.queue,
            properties: Some(Properties(message.properties.clone())).filter(|properties| !properties.0.is_empty()),
            ttl_ms: Some(message.ttl_ms).filter(|ttl| *ttl > 0),
            priority: Some(message.priority).filter(|priority| *priority > 0),
            ..MessageInput::default()
        },
        next_at: schedule.next.map(|at| Time(at.0)),
        last_at: schedule.last.map(|at| Time(at.0)),
    }
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let page = cx.app.broker.list_schedules(&cx.call, cx.tenant(), &page).await?;
    let data = page.items.iter().map(data).collect::<Result<Vec<_>, _>>()?;
    let items = page.items.iter().zip(&data).map(|(item, data)| shown(item, data.as_deref())).collect();
    answer::json(StatusCode::OK, &List { items, next_cursor: page.next_cursor })
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let schedule = cx.app.broker.get_schedule(&cx.call, cx.tenant(), cx.path("schedule")).await?;
    answer::read(&cx.headers, schedule.revision, &shown(&schedule, data(&schedule)?.as_deref()))
}

pub(crate) async fn put(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let checked = async {
        let bytes = control_body(&cx, body, &[]).await?;
        Ok((settings(&bytes, cx.path("schedule"))?, cx.precondition()?))
    };
    let (settings, expect) = match checked.await {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("schedule").to_owned());
    let written = detached(async move { broker.put_schedule(&call, &tenant, &name, settings, expect).await }).await?;
    let schedule = written.object;
    answer::written(written.created, schedule.revision, &shown(&schedule, data(&schedule)?.as_deref()))
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let expect = match query.flag("dry_run").and_then(|dry| Ok((dry, cx.precondition()?))) {
        Ok((true, expect)) => return dry_run::schedule(&cx, &expect).await,
        Ok((false, expect)) => expect,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, name) = (cx.tenant().to_owned(), cx.path("schedule").to_owned());
    detached(async move { broker.delete_schedule(&call, &tenant, &name, expect).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
