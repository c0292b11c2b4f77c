//! What `wit-bindgen` makes of `wit/`, and the conversions to this crate's own types.
//!
//! Public only because the export macros name it from the plugin's crate.

#![allow(missing_docs, reason = "generated from wit/, which documents itself")]

use std::time::Duration;

use crate::check_back::{Half, Response, Verdict};
use crate::message;
use crate::plan::Field;
use crate::retry::{Attempt, Decision};
use crate::selector::{Context, QueueStat};

pub mod filter {
    //! World `filter`.
    wit_bindgen::generate!({
        path: "wit",
        world: "filter",
        pub_export_macro: true,
        runtime_path: "::pointsman_plugin::bindings::rt",
        default_bindings_module: "pointsman_plugin::bindings::filter",
    });
}

pub mod selector {
    //! World `selector`.
    wit_bindgen::generate!({
        path: "wit",
        world: "selector",
        pub_export_macro: true,
        runtime_path: "::pointsman_plugin::bindings::rt",
        default_bindings_module: "pointsman_plugin::bindings::selector",
        with: { "pointsman:plugin/types@0.1.0": crate::bindings::types },
    });
}

pub mod dedup {
    //! World `dedup`.
    wit_bindgen::generate!({
        path: "wit",
        world: "dedup",
        pub_export_macro: true,
        runtime_path: "::pointsman_plugin::bindings::rt",
        default_bindings_module: "pointsman_plugin::bindings::dedup",
        with: { "pointsman:plugin/types@0.1.0": crate::bindings::types },
    });
}

pub mod retry {
    //! World `retry`.
    wit_bindgen::generate!({
        path: "wit",
        world: "retry",
        pub_export_macro: true,
        runtime_path: "::pointsman_plugin::bindings::rt",
        default_bindings_module: "pointsman_plugin::bindings::retry",
        with: { "pointsman:plugin/types@0.1.0": crate::bindings::types },
    });
}

pub mod check_back {
    //! World `check-back`.
    wit_bindgen::generate!({
        path: "wit",
        world: "check-back",
        pub_export_macro: true,
        runtime_path: "::pointsman_plugin::bindings::rt",
        default_bindings_module: "pointsman_plugin::bindings::check_back",
        with: { "pointsman:plugin/types@0.1.0": crate::bindings::types },
    });
}

pub use check_back::pointsman::plugin::transactions;
pub use filter::pointsman::plugin::types;
pub use retry::pointsman::plugin::attempts;
#[doc(hidden)]
pub use wit_bindgen::rt;

/// A plan as the broker reads it.
#[must_use]
pub fn plan(plan: &crate::Plan) -> types::Plan {
    let fields = plan.fields.iter().map(|field| match field {
        Field::Topic => types::Field::Topic,
        Field::Tag => types::Field::Tag,
        Field::Keys => types::Field::Keys,
        Field::OrderingKey => types::Field::OrderingKey,
        Field::Property(name) => types::Field::Property(name.clone()),
        Field::Body => types::Field::Body,
        Field::BodyHash => types::Field::BodyHash,
        Field::BornAt => types::Field::BornAt,
        Field::StoredAt => types::Field::StoredAt,
        Field::Now => types::Field::Now,
        Field::Seed => types::Field::Seed,
        Field::Priority => types::Field::Priority,
    });
    types::Plan { fields: fields.collect(), tags: plan.tags.clone(), destinations: plan.destinations.clone() }
}

/// The columns of a call, in the plan's order.
#[must_use]
pub fn columns(plan: &crate::Plan, columns: Vec<types::Column>) -> Vec<message::Column> {
    plan.fields
        .iter()
        .zip(columns)
        .map(|(field, column)| message::Column::new(field, column.ends, column.bytes))
        .collect()
}

/// What is equal for all messages of a call.
#[must_use]
pub fn context(ctx: &types::Ctx) -> Context {
    let queues = ctx.queues.iter().map(|stat| QueueStat { queue: stat.queue, messages: stat.messages });
    Context { attempt_limit: ctx.attempt_limit, queues: queues.collect() }
}

/// An attempt as the author of a retry policy sees it.
#[must_use]
pub fn attempt(attempt: attempts::Attempt) -> Attempt {
    Attempt {
        topic: attempt.topic,
        group: attempt.group,
        attempt: attempt.attempt,
        max_retries: attempt.max_retries,
        tag: attempt.tag,
        keys: attempt.keys,
        ordering_key: attempt.ordering_key,
        properties: attempt.properties,
        priority: attempt.priority,
        body_bytes: attempt.body_bytes,
        stored_at: attempt.stored_at,
        first_delivered_at: attempt.first_delivered_at,
        delivered_at: attempt.delivered_at,
        now: attempt.now,
        expired: attempt.expired,
        reason: attempt.reason,
        client_id: attempt.client_id,
    }
}

/// A decision as the broker reads it.
///
/// # Errors
/// The words of [`Decision::Fail`].
pub fn decision(decision: Decision) -> Result<attempts::Decision, String> {
    Ok(match decision {
        Decision::Again(wait) => attempts::Decision::Again(milliseconds(wait)),
        Decision::AgainScaled(wait) => attempts::Decision::AgainScaled(milliseconds(wait)),
        Decision::DeadLetter(reason) => attempts::Decision::DeadLetter(reason),
        Decision::Drop => attempts::Decision::Drop,
        Decision::Fail(words) => return Err(words),
    })
}

/// A transaction as the author of a check-back sees it.
#[must_use]
pub fn half(half: transactions::Half) -> Half {
    Half {
        transaction: half.transaction,
        producer_group: half.producer_group,
        prepared_at: half.prepared_at,
        now: half.now,
        messages: half.messages,
        topic: half.topic,
        tag: half.tag,
        keys: half.keys,
        ordering_key: half.ordering_key,
        properties: half.properties,
        content_type: half.content_type,
        body: half.body,
    }
}

/// A response as the author of a check-back sees it.
#[must_use]
pub fn response(response: transactions::Response) -> Response {
    Response { status: response.status, headers: response.headers, body: response.body }
}

/// A verdict as the broker reads it.
///
/// # Errors
/// The words of [`Verdict::Fail`].
pub fn verdict(verdict: Verdict) -> Result<transactions::Verdict, String> {
    Ok(match verdict {
        Verdict::Commit => transactions::Verdict::Commit,
        Verdict::Rollback => transactions::Verdict::Rollback,
        Verdict::Unknown(after) => transactions::Verdict::Unknown(after.map(milliseconds)),
        Verdict::Ask(request) => {
            let method = if request.post { transactions::Method::Post } else { transactions::Method::Get };
            let (url, headers, body) = (request.url, request.headers, request.body);
            transactions::Verdict::Ask(transactions::Request { method, url, headers, body })
        }
        Verdict::Fail(words) => return Err(words),
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The broker called `init` twice.
#[must_use]
pub fn twice() -> String {
    "init was called twice".to_owned()
}

/// The broker asked before `init`.
#[must_use]
pub fn never() -> String {
    "init was not called".to_owned()
}
