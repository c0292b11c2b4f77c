//! Look-ups of stored messages.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};
use pointsman_broker::Error;
use pointsman_broker::view::{MessageById, StoredMessage};
use pointsman_model::{MessageId, QueueId, limits};

use crate::context::Cx;
use crate::failure::Failure;
use crate::message_json::{Breaks, Data, message, scheduled, size_hint};
use crate::query::Query;
use crate::{answer, cursor, json};

async fn find(cx: &Cx) -> Result<MessageById, Failure> {
    // An id is opaque: one that is none names no message.
    let Some(id) = MessageId::parse(cx.path("id")) else {
        return Err(cx.after_tenant(Error::MessageNotFound.into()).await);
    };
    Ok(cx.app.broker.find_message(&cx.call, cx.tenant(), id).await?)
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let mut out = Vec::new();
    match find(&cx).await? {
        MessageById::Stored(stored) => {
            out.reserve(size_hint(&stored));
            message(&mut out, &stored, Data::Included(Breaks::Keep))?;
        }
        MessageById::Scheduled(waiting) => scheduled(&mut out, &waiting)?,
    }
    Ok(answer::bytes_of(StatusCode::OK, "application/json", out))
}

/// The bytes, as published. A browser must not run them as a page of ours.
pub(crate) async fn payload(cx: Cx) -> Result<Response, Failure> {
    cx.query(&[]).await?;
    let (kind, body) = match find(&cx).await? {
        MessageById::Stored(found) => (type_of(found.head()?.content_type), found.record.body),
        MessageById::Scheduled(found) => (type_of(found.head()?.content_type), found.record.body),
    };
    let mut response = Response::new(Body::from(body));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, kind);
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    Ok(response)
}

fn type_of(content_type: Option<&str>) -> HeaderValue {
    let kind = content_type.and_then(|kind| HeaderValue::try_from(kind).ok());
    kind.unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// What a list of a topic's messages asks for.
enum Asked {
    Queue { queue: QueueId, offset: u64 },
    Key { key: String, from: u32 },
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["queue", "offset", "key", "tag", "from", "to", "limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    let asked = match asked(&cx, &query, page.cursor.as_deref()) {
        Ok(asked) => asked,
        Err(failure) => return Err(cx.after_tenant(failure).await),
    };
    let (broker, tenant, topic) = (&cx.app.broker, cx.tenant(), cx.path("topic"));
    match asked {
        Asked::Queue { queue, offset } => {
            let found = broker.list_messages(&cx.call, tenant, topic, queue, offset, page.limit).await?;
            let next = match found.last() {
                Some(last) => next_offset(&cx, queue, last.offset.0 + 1).await?,
                None => None,
            };
            answer_list(&found, next.map(|offset| cursor::seal(&by_offset(&cx, queue), offset)))
        }
        Asked::Key { key, from } => {
            // The newest come first: a page is a stretch behind those shown before, one more than it tells of a next.
            let most = from.saturating_add(page.limit).saturating_add(1).min(limits::PAGE_ITEMS_MAX);
            let found = broker.list_messages_by_key(&cx.call, tenant, topic, &key, most).await?;
            let to = from.saturating_add(page.limit);
            let more = (to as usize) < found.len();
            let shown = found.get(from as usize..found.len().min(to as usize)).unwrap_or_default();
            answer_list(shown, more.then(|| cursor::seal(&by_key(&cx, &key), u64::from(to))))
        }
    }
}

fn asked(cx: &Cx, query: &Query, cursor: Option<&str>) -> Result<Asked, Failure> {
    for name in ["tag", "from", "to"] {
        if query.get(name).is_some() {
            return Err(Failure::unsupported(name, "look-ups by tag or time"));
        }
    }
    let queue = query.number("queue", 0..=u64::from(u16::MAX))?.map(|queue| QueueId(queue as u16));
    let offset = query.number("offset", 0..=u64::MAX)?;
    match (query.get("key"), queue) {
        (Some(_), Some(_)) => Err(Failure::invalid("key", "at most one of `key` and `queue`")),
        (Some(_), None) if offset.is_some() => Err(Failure::invalid("offset", "goes with `queue`")),
        (Some(key), None) if key.is_empty() || key.len() > limits::KEY_BYTES_MAX => {
            Err(Failure::invalid("key", format!("1 to {} bytes", limits::KEY_BYTES_MAX)))
        }
        (Some(key), None) => {
            let from = cursor.map_or(Ok(0), |text| cursor::open(&by_key(cx, key), text))?;
            Ok(Asked::Key { key: key.to_owned(), from: u32::try_from(from).unwrap_or(u32::MAX) })
        }
        (None, Some(queue)) => {
            let offset = match cursor {
                Some(text) => cursor::open(&by_offset(cx, queue), text)?,
                None => offset.unwrap_or(0),
            };
            Ok(Asked::Queue { queue, offset })
        }
        (None, None) => Err(Failure::invalid("queue", "`queue` (and `offset`), or `key`")),
    }
}

fn by_offset(cx: &Cx, queue: QueueId) -> String {
    cx.list_name(&format!("messages/{queue}"))
}

fn by_key(cx: &Cx, key: &str) -> String {
    cx.list_name(&format!("messages-by-key/{key}"))
}

/// `next` if the queue goes on there.
async fn next_offset(cx: &Cx, queue: QueueId, next: u64) -> Result<Option<u64>, Failure> {
    let queues = cx.app.broker.topic_queues(&cx.call, cx.tenant(), cx.path("topic")).await?;
    Ok(queues.iter().find(|view| view.queue == queue).filter(|view| next < view.latest).map(|_| next))
}

fn answer_list(found: &[StoredMessage], next_cursor: Option<String>) -> Result<Response, Failure> {
    let mut out = Vec::with_capacity(64 + found.iter().map(size_hint).sum::<usize>());
    json::raw(&mut out, "{\"items\":[");
    for (i, stored) in found.iter().enumerate() {
        json::raw(&mut out, if i == 0 { "" } else { "," });
        message(&mut out, stored, Data::Included(Breaks::Keep))?;
    }
    json::raw(&mut out, "],\"next_cursor\":");
    json::optional_string(&mut out, next_cursor.as_deref());
    out.push(b'}');
    Ok(answer::bytes_of(StatusCode::OK, "application/json", out))
}
