//! The data of a stream's events. `message` carries a [`crate::message::Message`], `error` a [`crate::Problem`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Decimal;

/// Data of `open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Open {
    /// Topics shown.
    pub topics: Vec<String>,
    /// It goes on from a cursor.
    pub resumed: bool,
}

/// Data of `gap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// Topic.
    pub topic: String,
    /// Queue.
    pub queue: u16,
    /// First offset that is gone.
    pub from: Decimal,
    /// First offset that is there.
    pub to: Decimal,
    /// How many are gone.
    pub lost: Decimal,
    /// `retention`, `purged` or `slow`.
    pub cause: String,
}

/// Data of `drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// Why the stream ends.
    pub reason: String,
}
