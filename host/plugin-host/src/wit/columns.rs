//! The kinds that every message passes: `evaluate`, batches of columns.

use std::ops::Range;
use std::sync::Arc;

use pointsman_model::judge::{Failure, Kind, Plan, Verdict};
use wasmtime::Store;
use wasmtime::component::{Instance, Lift, TypedFunc};

use super::types::{Column, Ctx};
use super::{Judged, World, types};
use crate::instance::Guest;

/// A kind of plugin that judges messages in columns.
pub(crate) trait Columnar: 'static {
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

/// A batch as it is handed to a plugin.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) ctx: Arc<Ctx>,
    pub(crate) n: usize,
    pub(crate) columns: Arc<Vec<Column>>,
}

/// What `evaluate` takes.
type Arguments = (Arc<Ctx>, u32, Arc<Vec<Column>>);
/// What `evaluate` returns.
type Returned<W> = (Result<<W as Columnar>::Answer, String>,);

impl<W: Columnar> World for W {
    type Question = Batch;
    type Exports = TypedFunc<Arguments, Returned<W>>;
    type Decision = W::Decision;

    const KIND: Kind = W::KIND;

    fn exports(store: &mut Store<Guest>, instance: &Instance) -> wasmtime::Result<Self::Exports> {
        instance.get_typed_func(store, "evaluate")
    }

    fn messages(batch: &Batch) -> usize {
        batch.n
    }

    fn part(batch: &Batch, range: Range<usize>) -> Batch {
        if range.len() == batch.n {
            return batch.clone();
        }
        let columns = batch.columns.iter().map(|column| column.slice(range.start, range.end)).collect();
        Batch { ctx: Arc::clone(&batch.ctx), n: range.len(), columns: Arc::new(columns) }
    }

    fn ask(
        evaluate: &Self::Exports,
        store: &mut Store<Guest>,
        batch: Batch,
        plan: &Plan,
    ) -> wasmtime::Result<Judged<W::Decision>> {
        let n = batch.n;
        let (answer,) = evaluate.call(store, (batch.ctx, n as u32, batch.columns))?;
        Ok(match answer {
            Ok(answer) => W::verdicts(answer, n, plan),
            Err(words) => Ok(vec![Verdict::Failed(types::cut(words)); n]),
        })
    }
}

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
