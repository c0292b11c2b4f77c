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
//! The other kinds are as short:
//!
//! | kind | trait | says |
//! |---|---|---|
//! | filter | [`Filter::accept`] | whether a group sees a message |
//! | selector | [`Selector::select`] | to which queue, or queues, a message goes: a [`Route`] |
//! | dedup | [`Dedup::key`] | under which [`Key`] a message is the same as another |
//! | retry | [`Retry::decide`] | what becomes of a message whose delivery failed: a [`Decision`] |
//! | check-back | [`CheckBack::check`], [`CheckBack::answer`] | what became of a silent producer's transaction: a [`Verdict`] |
//!
//! A selector:
//!
//! ```
//! use pointsman_plugin::{Context, Message, Plan, Route, Selector, export_selector};
//!
//! struct ByCustomer;
//!
//! impl Selector for ByCustomer {
//!     fn new(_config: &[u8]) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn plan(&self) -> Plan {
//!         Plan::new().property("customer")
//!     }
//!     fn select(&self, message: &Message<'_>, context: &Context) -> Route {
//!         match message.property("customer") {
//!             Some(customer) => context.by_hash(customer.as_bytes()),
//!             None => message.fail("no customer"),
//!         }
//!     }
//! }
//!
//! export_selector!(ByCustomer);
//! # fn main() {}
//! ```
//!
//! A dedup:
//!
//! ```
//! use pointsman_plugin::{Dedup, Key, Message, Plan, export_dedup};
//!
//! struct OncePerOrder;
//!
//! impl Dedup for OncePerOrder {
//!     fn new(_config: &[u8]) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn plan(&self) -> Plan {
//!         Plan::new().property("order")
//!     }
//!     fn key(&self, message: &Message<'_>) -> Option<Key> {
//!         message.property("order").map(Key::new)
//!     }
//! }
//!
//! export_dedup!(OncePerOrder);
//! # fn main() {}
//! ```
//!
//! A retry policy:
//!
//! ```
//! use std::time::Duration;
//!
//! use pointsman_plugin::{Attempt, Decision, Retry, export_retry};
//!
//! struct Doubling;
//!
//! impl Retry for Doubling {
//!     fn new(_config: &[u8]) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn decide(&self, attempt: &Attempt) -> Decision {
//!         match attempt.reason.as_deref() {
//!             Some("fatal") => Decision::DeadLetter(None),
//!             _ => Decision::Again(Duration::from_secs(1 << attempt.attempt.min(12))),
//!         }
//!     }
//! }
//!
//! export_retry!(Doubling);
//! # fn main() {}
//! ```
//!
//! A check-back:
//!
//! ```
//! use pointsman_plugin::{CheckBack, Half, Request, Response, Verdict, export_check_back};
//!
//! struct AskShop;
//!
//! impl CheckBack for AskShop {
//!     fn new(_config: &[u8]) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn check(&self, half: &Half, _attempt: u16) -> Verdict {
//!         Verdict::Ask(Request::get(format!("https://shop.example/payments/{}", half.transaction)))
//!     }
//!     fn answer(&self, _half: &Half, response: Result<Response, String>) -> Verdict {
//!         match response {
//!             Ok(response) if response.is_success() => Verdict::Commit,
//!             Ok(response) if response.status == 404 => Verdict::Rollback,
//!             _ => Verdict::Unknown(None),
//!         }
//!     }
//! }
//!
//! export_check_back!(AskShop);
//! # fn main() {}
//! ```
//!
//! Underneath, the broker hands filters, selectors and dedups whole batches as columns (`wit/types.wit`); this crate
//! turns them into a [`Message`] view without copying. The others get a record.
//!
//! Rules worth knowing:
//!
//! * The answer may depend on the config and the message alone. The broker drops and renews instances, judges
//!   messages again, and counts answers that differ.
//! * Only fields of the [`Plan`] can be read; reading another stops the plugin with a line in its log.
//! * A message that cannot be judged is a [`Message::fail`], or [`Decision::Fail`] and [`Verdict::Fail`], not a panic: a
//!   panic costs the whole batch a retry.
//! * The crate builds natively too, so a plugin's own tests are plain `cargo test`; see [`testing`].

extern crate self as pointsman_plugin;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
mod check_back;
mod compare;
mod dedup;
mod filter;
mod log;
mod message;
mod one_of;
mod plan;
mod retry;
mod selector;
pub mod testing;

pub use check_back::{CheckBack, Half, Request, Response, Verdict};
pub use compare::{eq_fast, hash};
pub use dedup::{Dedup, Key};
pub use filter::Filter;
pub use log::{Level, log};
pub use message::{Keys, Message};
pub use one_of::OneOf;
pub use plan::{Field, Plan};
pub use retry::{Attempt, Decision, Retry};
pub use selector::{Context, QueueStat, Route, Selector};

#[doc(hidden)]
pub use message::{Batch, Column};
#[doc(hidden)]
pub mod export {
    //! What the export macros call; no part of the interface.
    pub use crate::dedup::evaluate as dedup;
    pub use crate::filter::evaluate as filter;
    pub use crate::selector::evaluate as selector;
}
