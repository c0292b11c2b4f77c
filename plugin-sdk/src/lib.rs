//! Write Pointsman plugins in Rust.
//!
//! A filter is a type that reads its config, says which parts of a message it wants, and answers for one message
//! at a time:
//!
//! ```
//! use pointsman_plugin::{Filter, Message, Plan, export_filter};
//!
//! struct Urgent;
//!
//! impl Filter for Urgent {
//!     fn new(_config: &[u8]) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn plan(&self) -> Plan {
//!         Plan::new().tag().priority()
//!     }
//!     fn accept(&self, message: &Message<'_>) -> bool {
//!         message.priority() > 5 || message.tag() == Some("urgent")
//!     }
//! }
//!
//! export_filter!(Urgent);
//! # fn main() {}
//! ```
//!
//! A [`Selector`] answers with a [`Route`] instead of a `bool`. Underneath, the broker hands over whole batches
//! as columns (`wit/types.wit`); this crate turns them into a [`Message`] view without copying.
//!
//! Rules worth knowing:
//!
//! * The answer may depend on the config and the message alone. The broker drops and renews instances, judges
//!   messages again, and counts answers that differ.
//! * Only fields of the [`Plan`] can be read; reading another stops the plugin with a line in its log.
//! * A message that cannot be judged is a [`Message::fail`], not a panic: a panic costs the whole batch a retry.
//! * The crate builds natively too, so a plugin's own tests are plain `cargo test`; see [`testing`].

extern crate self as pointsman_plugin;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
mod compare;
mod filter;
mod log;
mod message;
mod one_of;
mod plan;
mod selector;
pub mod testing;

pub use compare::{eq_fast, hash};
pub use filter::Filter;
pub use log::{Level, log};
pub use message::{Keys, Message};
pub use one_of::OneOf;
pub use plan::{Field, Plan};
pub use selector::{Context, QueueStat, Route, Selector};

#[doc(hidden)]
pub use message::{Batch, Column};
#[doc(hidden)]
pub mod export {
    //! What the export macros call; no part of the interface.
    pub use crate::filter::evaluate as filter;
    pub use crate::selector::evaluate as selector;
}
