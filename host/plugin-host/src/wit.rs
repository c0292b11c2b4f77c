//! The host's side of `wit/`: one file for each interface.
//!
//! | module | WIT |
//! |---|---|
//! | [`types`] | `interface types`: plan, column, context |
//! | [`columns`] | `evaluate`, which the worlds that judge in columns share |
//! | [`filter`], [`selector`], [`dedup`] | these worlds: their answers, checked and turned into verdicts |
//! | [`retry`] | `interface attempts` and world `retry` |
//! | [`check_back`] | `interface transactions` and world `check-back` |
//! | [`log`] | the import `log` |
//! | [`wasi`] | WASI imports that toolchains add by themselves, met by deterministic stubs |

pub(crate) mod check_back;
pub(crate) mod columns;
pub(crate) mod dedup;
pub(crate) mod filter;
pub(crate) mod log;
pub(crate) mod retry;
pub(crate) mod selector;
pub(crate) mod types;
pub(crate) mod wasi;

use std::ops::Range;

use pointsman_model::judge::{Failure, Kind, Plan, Verdict};
use wasmtime::Store;
use wasmtime::component::Instance;

use crate::instance::Guest;

/// A kind of plugin.
pub(crate) trait World: 'static {
    /// What is asked in one call, about one message or several. Cheap to clone.
    type Question: Send + Sync + 'static;
    /// The functions of an instance that are asked.
    type Exports: Send + 'static;
    /// What it says of one message.
    type Decision: Clone + PartialEq + Send + 'static;

    const KIND: Kind;

    /// Finds the functions, of the types that the contract says.
    ///
    /// # Errors
    /// One is missing, or of another type.
    fn exports(store: &mut Store<Guest>, instance: &Instance) -> wasmtime::Result<Self::Exports>;

    /// How many messages a question is about.
    fn messages(question: &Self::Question) -> usize;

    /// The same question about some of its messages.
    fn part(question: &Self::Question, range: Range<usize>) -> Self::Question;

    /// Asks.
    ///
    /// # Errors
    /// The call was stopped; the instance is dead.
    fn ask(
        exports: &Self::Exports,
        store: &mut Store<Guest>,
        question: Self::Question,
        plan: &Plan,
    ) -> wasmtime::Result<Judged<Self::Decision>>;
}

/// One verdict a message, or [`Failure::Output`] if the answer has another shape than the contract says.
pub(crate) type Judged<T> = Result<Vec<Verdict<T>>, Failure>;
