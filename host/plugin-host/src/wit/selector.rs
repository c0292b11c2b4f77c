//! World `selector`.

use pointsman_model::judge::{Failure, Kind, Plan, QUEUE_BY_SLOT, Target, Verdict};
use pointsman_model::{QueueId, limits};
use wasmtime::component::{ComponentType, Lift};

use super::columns::{Columnar, lay_failures};

/// World `selector`: decides where a message goes.
pub(crate) struct Selector;

/// `record selector-answer`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct SelectorAnswer {
    routes: Routes,
    failures: Vec<(u32, String)>,
}

/// `record routes`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Routes {
    ends: Vec<u32>,
    targets: Vec<u32>,
}

impl Columnar for Selector {
    type Answer = SelectorAnswer;
    type Decision = Vec<Target>;

    const KIND: Kind = Kind::Selector;

    fn verdicts(answer: SelectorAnswer, n: usize, plan: &Plan) -> Result<Vec<Verdict<Vec<Target>>>, Failure> {
        let Routes { ends, targets } = answer.routes;
        if ends.len() != n || ends.last().map_or(0, |end| *end as usize) != targets.len() {
            return Err(Failure::Output);
        }
        let mut verdicts = Vec::with_capacity(n);
        let mut start = 0;
        for end in ends {
            let end = end as usize;
            let range = targets.get(start..end).ok_or(Failure::Output)?;
            if range.len() > limits::PLUGIN_TARGETS_MAX {
                return Err(Failure::Output);
            }
            let targets: Option<Vec<_>> = range.iter().map(|target| read_target(*target, plan)).collect();
            verdicts.push(Verdict::Answer(targets.ok_or(Failure::Output)?));
            start = end;
        }
        lay_failures(&mut verdicts, answer.failures)?;
        Ok(verdicts)
    }
}

/// Target = destination << 16 | queue. The queue is the caller's to check: it knows the topics.
fn read_target(target: u32, plan: &Plan) -> Option<Target> {
    let (destination, queue) = ((target >> 16) as u16, target as u16);
    if usize::from(destination) > plan.destinations.len() {
        return None;
    }
    Some(Target { destination, queue: (queue != QUEUE_BY_SLOT).then_some(QueueId(queue)) })
}
