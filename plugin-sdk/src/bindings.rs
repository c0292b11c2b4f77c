//! What `wit-bindgen` makes of `wit/`, and the conversions to this crate's own types.
//!
//! Public only because the export macros name it from the plugin's crate.

#![allow(missing_docs, reason = "generated from wit/, which documents itself")]

use crate::message;
use crate::plan::Field;
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

pub use filter::pointsman::plugin::types;
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

/// The broker called `init` twice.
#[must_use]
pub fn twice() -> String {
    "init was called twice".to_owned()
}

/// The broker called `evaluate` before `init`.
#[must_use]
pub fn never() -> String {
    "evaluate was called before init".to_owned()
}
