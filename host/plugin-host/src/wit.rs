//! The host's side of `wit/`: one file for each interface.
//!
//! | module | WIT |
//! |---|---|
//! | [`types`] | `interface types`: plan, column, context |
//! | [`filter`], [`selector`] | the worlds: their answers, checked and turned into verdicts |
//! | [`log`] | the import `log` |
//! | [`wasi`] | WASI imports that toolchains add by themselves, met by deterministic stubs |

pub(crate) mod filter;
pub(crate) mod log;
pub(crate) mod selector;
pub(crate) mod types;
pub(crate) mod wasi;

use pointsman_model::judge::{Failure, Kind, Plan, Verdict};
use wasmtime::component::Lift;

/// A kind of plugin that judges messages in columns.
pub(crate) trait World: 'static {
    /// The kind's own record, as the plugin answers it.
    type Answer: Lift + Send + Sync + 'static;
    /// What it says of one message.
    type Decision: Clone + PartialEq + Send + 'static;

    const KIND: Kind;

    /// Checks the shape of an answer for `n` messages and takes it apart.
    ///
    /// # Errors
    /// [`Failure::Output`] if the answer has another shape than the contract says.
    fn verdicts(answer: Self::Answer, n: usize, plan: &Plan) -> Result<Vec<Verdict<Self::Decision>>, Failure>;
}

/// What `evaluate` takes.
pub(crate) type Arguments = (std::sync::Arc<types::Ctx>, u32, std::sync::Arc<Vec<types::Column>>);
/// What `evaluate` returns.
pub(crate) type Returned<W> = (Result<<W as World>::Answer, String>,);

/// Puts a plugin's own failures, in rising order of place, over the verdicts.
pub(crate) fn lay_failures<T>(verdicts: &mut [Verdict<T>], failures: Vec<(u32, String)>) -> Result<(), Failure> {
    let mut next = 0;
    for (place, words) in failures {
        if place < next {
            return Err(Failure::Output);
        }
        let verdict = verdicts.get_mut(place as usize).ok_or(Failure::Output)?;
        *verdict = Verdict::Failed(types::cut(words));
        next = place + 1;
    }
    Ok(())
}
