//! The envelope of every list.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// What `cursor` takes for the next page; null on the last.
    pub next_cursor: Option<String>,
}
