//! The selector of a topic: what is asked of it, and what becomes of its answers.

use std::sync::Arc;

use pointsman_model::judge::{Context, Failure, OnFailure, QueueStat, Target, Verdict};
use pointsman_model::{Generation, QueueId};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Judged, Placement, Source};
use pointsman_state_machine::state::{Binding, Topic};

use super::job::{Job, Placed, Spot, Spots};
use super::place::{Placer, by_slot};
use super::topic::TopicRuntime;
use crate::columns::{Columns, Facts};
use crate::error::Error;
use crate::judging::on_failure_of;
use crate::ports::Judge;

/// The selector of a topic and what was true when it was read.
pub(super) struct Selector {
    pub(super) binding: Binding,
    pub(super) generation: Generation,
    /// Larger messages are refused, unasked.
    body_bytes_max: u32,
    context: Context,
    /// The other topics it declared.
    destinations: Vec<String>,
}

impl Selector {
    /// True if the rules leave a message to the selector.
    pub(super) fn places(&self, job: &Job, i: usize) -> bool {
        let message = &job.messages[i];
        let by_rule = message.queue.is_some() || (message.ordering_key.is_some() && !self.binding.config.keyed);
        !by_rule && message.body.len() <= self.body_bytes_max as usize
    }
}

/// What a selector said of one message.
pub(super) type Say = Verdict<Vec<Target>>;

impl TopicRuntime {
    /// The selector that is bound now.
    pub(super) fn selector(&self, state: &State, topic: &Topic) -> Option<Selector> {
        let binding = state.selector(self.id)?;
        let stat = |queue| {
            let ends = state.ends(self.id, QueueId(queue));
            QueueStat { queue: QueueId(queue), messages: ends.latest - ends.earliest }
        };
        let context = Context { attempt_limit: 0, queues: (0..topic.queues()).map(stat).collect() };
        Some(Selector {
            binding: binding.clone(),
            generation: topic.generation,
            body_bytes_max: topic.config.max_message_bytes,
            context,
            destinations: Vec::new(),
        })
    }

    /// Asks the selector about every message that needs it, in order: one call for as many as fit.
    pub(super) async fn ask(
        &self,
        selector: &mut Selector,
        messages: &[(&Arc<Job>, usize)],
    ) -> Vec<Result<Say, String>> {
        let judge = self.parts.bench.judge(&self.parts.port, &selector.binding).await;
        let needy: Vec<_> = messages.iter().filter(|(job, i)| selector.places(job, *i)).collect();
        let judge = match judge {
            Ok(judge) => judge,
            Err(words) => return needy.iter().map(|_| Err(words.clone())).collect(),
        };
        selector.destinations.clone_from(&judge.plan().destinations);
        let now = self.parts.port.now();
        let mut says = Vec::with_capacity(needy.len());
        let mut rest = &needy[..];
        while !rest.is_empty() {
            let mut columns = Columns::new(judge.plan());
            let mut taken = 0;
            while taken < rest.len() && !columns.is_full() {
                let (job, i) = rest[taken];
                columns.push(&Facts::new_message(job.name.as_str(), &job.messages[*i], job.born, now));
                taken += 1;
            }
            let (n, columns) = columns.finish();
            let mut verdicts = judge.select(selector.context.clone(), n, columns).await;
            verdicts.resize_with(taken, || Verdict::Stopped(Failure::Output));
            says.extend(verdicts.into_iter().map(|verdict| Ok(named(&*judge, verdict))));
            rest = &rest[taken..];
        }
        says
    }

    /// The place of a message, by what the selector said of it.
    pub(super) fn placed_by(
        &self,
        state: &State,
        placer: &Placer<'_>,
        selector: &Selector,
        job: &Job,
        i: usize,
        said: Result<Say, String>,
    ) -> Placed {
        let judged = Judged { binding: selector.binding.id.0, generation: selector.generation.0 };
        let refuses = on_failure_of(selector.binding.config.on_failure) == OnFailure::Refuse;
        let (words, unavailable) = match said {
            Ok(Verdict::Answer(targets)) if targets.is_empty() => {
                let error = Error::PluginRejected(format!("`{}` names no target", selector.binding.name));
                return Placed { judged: Some(judged), ..Placed::refused(i, error) };
            }
            Ok(Verdict::Answer(targets)) => match self.spots(state, selector, job, i, &targets) {
                Ok(spots) => {
                    let (spots, placement) = (Ok(spots), Placement::Selector);
                    return Placed { spots, placement, judged: Some(judged), ..Placed::by_none(i) };
                }
                Err(words) => (words, false),
            },
            Ok(Verdict::Failed(words)) => (words, false),
            Ok(Verdict::Stopped(failure)) => (format!("stopped: {}", failure.as_str()), false),
            Err(words) => (words, true),
        };
        let words = format!("`{}`: {words}", selector.binding.name);
        let placed = match (refuses, unavailable) {
            (true, true) => Placed::refused(i, Error::PluginUnavailable(words)),
            (true, false) => Placed::refused(i, Error::PluginRejected(words)),
            (false, _) => placer.fall_back(i, &job.messages[i]),
        };
        Placed { judged: Some(judged), ..placed }
    }

    /// The places of a selector's targets.
    fn spots(
        &self,
        state: &State,
        selector: &Selector,
        job: &Job,
        i: usize,
        targets: &[Target],
    ) -> Result<Spots, String> {
        let spot = |target: &Target| {
            let (topic, foreign) = match target.destination.checked_sub(1) {
                None => (state.topics.get(&self.id), false),
                Some(at) => {
                    let name = selector.destinations.get(usize::from(at)).ok_or("no such destination")?;
                    let topic = state.topic(job.tenant, name).ok_or_else(|| format!("no topic `{name}`"))?;
                    (Some(topic), topic.id != self.id)
                }
            };
            let topic = topic.ok_or("the topic is gone")?;
            let queue = target.queue.unwrap_or_else(|| by_slot(topic, &job.messages[i]));
            if queue.0 >= topic.queues() {
                return Err(format!("`{}` has no queue {queue}", topic.name));
            }
            if job.messages[i].body.len() > topic.config.max_message_bytes as usize {
                return Err(format!("the message is too large for `{}`", topic.name));
            }
            Ok(Spot {
                topic: topic.id,
                generation: if foreign { topic.generation } else { selector.generation },
                queue,
                name: foreign.then(|| topic.name.clone()),
                source: foreign.then_some(Source { topic: self.id.0, generation: selector.generation.0 }),
            })
        };
        match targets {
            [one] => Ok(Spots::One(spot(one)?)),
            many => Ok(Spots::Many(many.iter().map(spot).collect::<Result<_, String>>()?)),
        }
    }
}

/// Keeps targets within what the plan declares.
fn named(judge: &dyn Judge, verdict: Say) -> Say {
    match verdict {
        Verdict::Answer(targets)
            if targets.iter().any(|target| usize::from(target.destination) > judge.plan().destinations.len()) =>
        {
            Verdict::Failed("names a destination that it did not declare".into())
        }
        other => other,
    }
}
