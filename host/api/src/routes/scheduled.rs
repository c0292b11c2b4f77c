//! Messages that wait for their time.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::scheduled::ScheduledInput;
use pointsman_broker::Error;
use pointsman_broker::view::ScheduledMessage;
use pointsman_model::MessageId;
use pointsman_model::delay::Delay;

use super::{control_body, detached, dry_run, from_json};
use crate::context::Cx;
use crate::failure::Failure;
use crate::message_json::scheduled;
use crate::publish::delay::Forms;
use crate::{answer, json};

/// The id of the path. It is opaque: one that is none names no message.
fn id(cx: &Cx) -> Result<MessageId, Failure> {
    MessageId::parse(cx.path("id")).ok_or_else(|| Error::MessageNotFound.into())
}

/// `failure`, unless something that is looked at earlier is missing: the tenant, the message.
async fn after_message(cx: &Cx, failure: Failure) -> Failure {
    let missing = match id(cx) {
        Ok(id) => cx.app.broker.find_message(&cx.call, cx.tenant(), id).await.err().map(Failure::from),
        Err(missing) => return cx.after_tenant(missing).await,
    };
    missing.unwrap_or(failure)
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let found = cx.app.broker.list_scheduled(&cx.call, cx.tenant(), cx.path("topic"), &page).await?;
    let mut out = Vec::with_capacity(64 + found.items.len() * 512);
    json::raw(&mut out, "{\"items\":[");
    for (i, message) in found.items.iter().enumerate() {
        json::raw(&mut out, if i == 0 { "" } else { "," });
        scheduled(&mut out, message)?;
    }
    json::raw(&mut out, "],\"next_cursor\":");
    json::optional_string(&mut out, found.next_cursor.as_deref());
    out.push(b'}');
    Ok(answer::bytes_of(StatusCode::OK, "application/json", out))
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let id = match id(&cx) {
        Ok(id) => id,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    shown(&cx.app.broker.get_scheduled(&cx.call, cx.tenant(), id).await?)
}

pub(crate) async fn patch(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let checked = async {
        let bytes = control_body(&cx, body, &["application/merge-patch+json"]).await?;
        Ok((id(&cx)?, delay(&from_json(&bytes)?)?))
    };
    let (id, delay) = match checked.await {
        Ok(checked) => checked,
        Err(failure) => return Err(after_message(&cx, failure).await),
    };
    let (broker, call, tenant) = (cx.broker(), cx.call.clone(), cx.tenant().to_owned());
    let changed = detached(async move { broker.change_scheduled(&call, &tenant, id, delay).await }).await?;
    shown(&changed)
}

fn delay(input: &ScheduledInput) -> Result<Delay, Failure> {
    let forms = Forms { delay_ms: input.delay_ms, delay_level: input.delay_level, deliver_at: input.deliver_at };
    let delay = forms.one(|field| format!("/{field}"))?;
    let delay = delay.ok_or_else(|| Failure::invalid("", "one of `delay_ms`, `delay_level` and `deliver_at`"))?;
    delay.validate().map_err(|detail| Failure::invalid(format!("/{}", delay.field()), detail))?;
    Ok(delay)
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let (dry, id) = match query.flag("dry_run").and_then(|dry| Ok((dry, id(&cx)?))) {
        Ok(checked) => checked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    if dry {
        return dry_run::scheduled(&cx, id).await;
    }
    let (broker, call, tenant) = (cx.broker(), cx.call.clone(), cx.tenant().to_owned());
    detached(async move { broker.cancel_scheduled(&call, &tenant, id).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

fn shown(message: &ScheduledMessage) -> Result<Response, Failure> {
    let mut out = Vec::new();
    scheduled(&mut out, message)?;
    Ok(answer::bytes_of(StatusCode::OK, "application/json", out))
}
