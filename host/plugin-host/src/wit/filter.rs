//! World `filter`.

use pointsman_model::judge::{Failure, Kind, Plan, Verdict};
use wasmtime::component::{ComponentType, Lift};

use super::columns::{Columnar, lay_failures};

/// World `filter`: decides whether a group sees a message.
pub(crate) struct Filter;

/// `record filter-answer`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct FilterAnswer {
    accepted: Vec<u8>,
    failures: Vec<(u32, String)>,
}

impl Columnar for Filter {
    type Answer = FilterAnswer;
    type Decision = bool;

    const KIND: Kind = Kind::Filter;

    fn verdicts(answer: FilterAnswer, n: usize, _plan: &Plan) -> Result<Vec<Verdict<bool>>, Failure> {
        let bits = &answer.accepted;
        let spare = bits.last().is_some_and(|last| !n.is_multiple_of(8) && last >> (n % 8) != 0);
        if bits.len() != n.div_ceil(8) || spare {
            return Err(Failure::Output);
        }
        let mut verdicts: Vec<_> = (0..n).map(|i| Verdict::Answer(bits[i / 8] >> (i % 8) & 1 == 1)).collect();
        lay_failures(&mut verdicts, answer.failures)?;
        Ok(verdicts)
    }
}
