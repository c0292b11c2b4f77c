//! Where a group stands: offsets, seek, lag, leases, members, pause.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use pointsman_api_types::progress::{
    GroupOffset, Inflight, Lag, Member, Paused, QueueLag, SeekInput, SeekTo, Sought, SoughtQueue,
};
use pointsman_api_types::{Code, Decimal, Time};
use pointsman_broker::Error;
use pointsman_broker::view::{self, Precondition};
use pointsman_model::{MessageId, QueueId, Timestamp};

use super::groups::check_reference;
use super::{control_body, detached, from_json};
use crate::context::Cx;
use crate::failure::Failure;
use crate::{answer, cursor};

pub(crate) async fn offsets(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let offsets = cx.app.broker.group_offsets(&cx.call, cx.tenant(), cx.path("group")).await?;
    answer::list(cursor::page(&cx.list_name("group-offsets"), offsets, &page)?, |at| GroupOffset {
        topic: at.topic,
        queue: at.queue.0,
        committed: Decimal(at.committed),
        earliest: Decimal(at.earliest),
        latest: Decimal(at.latest),
    })
}

pub(crate) async fn lag(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let lag = cx.app.broker.lag(&cx.call, cx.tenant(), cx.path("group")).await?;
    let total = lag.queues.iter().map(|queue| queue.messages).sum();
    let exact = lag.queues.iter().all(|queue| queue.exact);
    let items = lag.queues.into_iter().map(|queue| QueueLag {
        topic: queue.topic,
        queue: queue.queue.0,
        messages: Decimal(queue.messages),
        age_ms: queue.age_ms.unwrap_or(0),
        inflight: queue.inflight,
        retrying: queue.retrying,
    });
    let items = items.collect();
    answer::json(StatusCode::OK, &Lag { items, total: Decimal(total), exact, paused: lag.paused })
}

pub(crate) async fn inflight(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let page = cx.app.broker.inflight(&cx.call, cx.tenant(), cx.path("group"), &page).await?;
    answer::list(page, |lease| Inflight {
        topic: lease.topic,
        queue: lease.queue.0,
        offset: Decimal(lease.offset.0),
        attempt: lease.attempt,
        client_id: lease.client_id,
        delivered_at: Time(lease.delivered_at.0),
        expires_at: Time(lease.expires_at.0),
    })
}

pub(crate) async fn members(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let page = cx.app.broker.members(&cx.call, cx.tenant(), cx.path("group"), &page).await?;
    answer::list(page, |member| Member {
        client_id: member.client_id,
        last_seen_at: Time(member.last_seen_at.0),
        inflight: member.inflight,
    })
}

pub(crate) async fn pause(cx: Cx, body: Body) -> Result<Response, Failure> {
    set_paused(cx, body, true).await
}

pub(crate) async fn resume(cx: Cx, body: Body) -> Result<Response, Failure> {
    set_paused(cx, body, false).await
}

async fn set_paused(cx: Cx, body: Body, paused: bool) -> Result<Response, Failure> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    cx.json_query(&[]).await?;
    let checked = async { from_json::<Nothing>(&control_body(&cx, body, &[]).await?).map(drop) };
    if let Err(failure) = checked.await {
        return Err(cx.after_group(failure).await);
    }
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, group) = (cx.tenant().to_owned(), cx.path("group").to_owned());
    let name = group.clone();
    detached(async move { broker.pause(&call, &tenant, &name, paused).await }).await?;
    answer::json(StatusCode::OK, &Paused { group, paused })
}

pub(crate) async fn seek(cx: Cx, body: Body) -> Result<Response, Failure> {
    let query = cx.json_query(&["dry_run"]).await?;
    let checked = async {
        let dry_run = query.flag("dry_run")?;
        let bytes = control_body(&cx, body, &[]).await?;
        let (to, topics, queues) = asked(from_json(&bytes)?)?;
        let expect = cx.precondition()?;
        if matches!(expect, Precondition::Anything | Precondition::Absent) {
            return Err(Failure::at(Code::PreconditionRequired, "If-Match", "the group's ETag"));
        }
        Ok(view::SeekRequest { to, topics, queues, expect, dry_run })
    };
    let ask = match checked.await {
        Ok(ask) => ask,
        Err(failure) => return Err(cx.after_group(failure).await),
    };
    let dry_run = ask.dry_run;
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, group) = (cx.tenant().to_owned(), cx.path("group").to_owned());
    let sought = detached(async move { broker.seek(&call, &tenant, &group, ask).await }).await?;
    let items = sought.moves.into_iter().map(|moved| SoughtQueue {
        topic: moved.topic,
        queue: moved.queue.0,
        from: Decimal(moved.from),
        to: Decimal(moved.to),
    });
    answer::written(false, sought.revision, &Sought { items: items.collect(), dry_run })
}

type Asked = (view::SeekTo, Option<Vec<String>>, Option<Vec<QueueId>>);

fn asked(input: SeekInput) -> Result<Asked, Failure> {
    for (at, topic) in input.topics.iter().flatten().enumerate() {
        check_reference(topic, &format!("/topics/{at}"))?;
    }
    let queues = input.queues.map(|queues| queues.into_iter().map(QueueId).collect());
    Ok((place(&input.to)?, input.topics, queues))
}

/// Where to: exactly one of the fields.
fn place(to: &SeekTo) -> Result<view::SeekTo, Failure> {
    for (field, given) in [("earliest", to.earliest), ("latest", to.latest)] {
        if given == Some(false) {
            return Err(Failure::invalid(format!("/to/{field}"), "`true`, or absent"));
        }
    }
    let mut given = Vec::new();
    given.extend(to.earliest.map(|_| view::SeekTo::Earliest));
    given.extend(to.latest.map(|_| view::SeekTo::Latest));
    given.extend(to.time.map(|time| view::SeekTo::Time(Timestamp(time.0))));
    given.extend(to.offset.map(|offset| view::SeekTo::Offset(offset.0)));
    if let Some(id) = &to.message_id {
        given.push(view::SeekTo::Message(MessageId::parse(id).ok_or(Error::MessageNotFound)?));
    }
    match given.pop() {
        Some(one) if given.is_empty() => Ok(one),
        _ => Err(Failure::invalid("/to", "exactly one of `earliest`, `latest`, `time`, `offset` and `message_id`")),
    }
}
