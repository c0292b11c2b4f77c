//! The sandbox: every judgement of the broker is a WebAssembly component, and this crate runs them.
//!
//! The contract is `wit/` at the root of the repository. The way of a component through this crate:
//!
//! 1. [`fn@inspect`] looks at uploaded bytes: a component of one of our worlds, that imports nothing but `log`?
//! 2. [`PluginHost::compile`] makes code of it, in a child process with limits, and keeps the code on disk.
//! 3. [`PluginHost::try_init`] hands it a binding's config and gets its [`pointsman_model::judge::Plan`]: the
//!    fields it wants to see.
//! 4. [`PluginHost::bind`] makes a [`Bound`]. [`PluginHost::filter`], [`PluginHost::select`] and [`PluginHost::dedup`]
//!    hand batches of columns to it and get a verdict for each message; [`PluginHost::retry`],
//!    [`PluginHost::check_back`] and [`PluginHost::check_answer`] hand over a record and get one.
//!
//! What a plugin does wrong is a verdict and a counter of its binding, never an error of the host: it is stopped by
//! fuel, by the clock or by its memory cap, the batch is searched for the message to blame, and the rest is judged.
//! A breaker leaves a plugin alone that fails over and over.
//!
//! Plugins run on threads of their own, shared fairly between tenants by fuel. This crate knows nothing of
//! storage, Raft or HTTP, and does nothing with a failure policy but carry it.

mod bound;
mod breaker;
mod builtin;
mod code_cache;
mod compiler;
mod digest;
mod encode;
mod engine;
mod error;
mod host;
mod inspect;
mod instance;
mod judge;
mod queue;
mod sdk;
mod stats;
mod wit;
mod worker;

pub use bound::{Bound, Spec};
pub use breaker::BreakerState;
#[cfg(any(test, feature = "fixtures"))]
pub use builtin::fixtures;
pub use builtin::{Builtin, builtin, builtins, examples};
pub use compiler::{Compiler, compile_child_main};
pub use digest::Digest;
pub use encode::encode;
pub use error::Error;
pub use host::{HostConfig, InitError, PluginHost};
pub use inspect::{Complaint, Inspection, inspect};
pub use sdk::{SDK, SdkFile};
pub use stats::Stats;
pub use wit::log::LogLine;

#[cfg(test)]
mod tests;
