//! One topic at run time: the order of its publishes, and its judging worker.
//!
//! Without a selector a publish goes straight into an entry. With one it waits for the topic's worker, which takes all
//! that wait, judges them in calls of at most 256 messages, and submits them in the order they came. While anything
//! waits there, publishes that need no judge queue up behind it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use parking_lot::Mutex;
use pointsman_model::judge::{Context, OnFailure, QueueStat, Target, Verdict};
use pointsman_model::{Generation, QueueId, Term, TopicId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Judged, Placement, Source};
use pointsman_state_machine::state::{Binding, Topic};
use tokio::sync::oneshot;

use super::job::{Decided, Job, Placed, Spot, Spots};
use super::place::{Placer, by_slot};
use super::write::submit;
use crate::batcher::{Batcher, past_deadline};
use crate::columns::{Columns, Facts};
use crate::error::Error;
use crate::judging::on_failure_of;
use crate::ports::{Judge, Shard};
use crate::shard::ShardParts;

/// One topic at run time.
pub(crate) struct TopicRuntime {
    id: TopicId,
    parts: ShardParts,
    round_robin: AtomicU32,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    messages: usize,
    /// The worker runs; it may hold items that are not in `items` any more.
    worker: bool,
}

/// A job that waits to be judged.
struct Item {
    job: Arc<Job>,
    which: Vec<usize>,
    reply: oneshot::Sender<Result<Decided, Error>>,
}

/// The selector of a topic and what was true when it was read.
struct Selector {
    binding: Binding,
    generation: Generation,
    term: Term,
    /// Larger messages are refused, unasked.
    body_bytes_max: u32,
    context: Context,
    /// The other topics it declared.
    destinations: Vec<String>,
}

impl Selector {
    /// True if the rules leave a message to the selector.
    fn places(&self, job: &Job, i: usize) -> bool {
        let message = &job.messages[i];
        let by_rule = message.queue.is_some() || (message.ordering_key.is_some() && !self.binding.config.keyed);
        !by_rule && message.body.len() <= self.body_bytes_max as usize
    }
}

/// What a selector said of one message.
type Say = Verdict<Vec<Target>>;

impl TopicRuntime {
    pub(crate) fn new(id: TopicId, parts: ShardParts) -> Self {
        Self { id, parts, round_robin: AtomicU32::new(0), waiting: Mutex::default() }
    }

    pub(super) fn batcher(&self) -> &Arc<Batcher> {
        &self.parts.batcher
    }

    pub(super) fn shard(&self) -> &dyn Shard {
        &*self.parts.port
    }

    /// Places some messages of a job and puts their records into entries.
    pub(super) async fn decide(self: &Arc<Self>, job: &Arc<Job>, which: Vec<usize>) -> Result<Decided, Error> {
        let answer = {
            let mut waiting = self.waiting.lock();
            if !waiting.worker
                && let Some(term) = self.parts.port.leadership()
                && let Some(placed) = self.place_by_rule(job, &which)?
            {
                // Under the lock, so that nobody who came later is first in the log.
                return submit(self.batcher(), term, job, placed);
            }
            if self.parts.port.leadership().is_none() {
                return Err(Error::NoLeader);
            }
            if waiting.messages + which.len() > limits::TOPIC_WAITING_MAX {
                return Err(Error::Overloaded("too many messages of the topic wait to be judged".into()));
            }
            waiting.messages += which.len();
            let (reply, answer) = oneshot::channel();
            waiting.items.push_back(Item { job: Arc::clone(job), which, reply });
            if !waiting.worker {
                waiting.worker = true;
                let topic = Arc::clone(self);
                self.parts.tasks.spawn(async move { topic.work().await });
            }
            answer
        };
        // The worker answers each item; if it is gone, so is the broker.
        answer.await.unwrap_or(Err(Error::Draining))
    }

    /// The places of messages if none of them needs the selector.
    fn place_by_rule(&self, job: &Job, which: &[usize]) -> Result<Option<Vec<Placed>>, Error> {
        let state = self.parts.port.state();
        let topic = self.topic_of(&state, job)?;
        let placer = self.placer(&state, topic);
        Ok(which.iter().map(|i| placer.place(*i, &job.messages[*i])).collect())
    }

    fn topic_of<'a>(&self, state: &'a State, job: &Job) -> Result<&'a Topic, Error> {
        state.topics.get(&self.id).ok_or_else(|| Error::TopicNotFound(job.name.to_string()))
    }

    fn placer<'a>(&'a self, state: &State, topic: &'a Topic) -> Placer<'a> {
        let keyed = state.selector(self.id).map(|binding| binding.config.keyed);
        Placer { topic, round_robin: &self.round_robin, keyed }
    }

    /// Judges what waits until nothing does.
    async fn work(self: Arc<Self>) {
        loop {
            let items = {
                let mut waiting = self.waiting.lock();
                let items = waiting.take();
                if items.is_empty() {
                    waiting.worker = false;
                    return;
                }
                items
            };
            self.judge(items).await;
        }
    }

    /// Judges some items and submits them in order.
    async fn judge(&self, items: Vec<Item>) {
        let now = Instant::now();
        let (late, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.job.deadline <= now);
        for item in late {
            let _ = item.reply.send(Err(past_deadline()));
        }
        let says = match self.selector() {
            Ok(Some(mut selector)) => {
                let says = self.ask(&mut selector, &items).await;
                Some((selector, says))
            }
            Ok(None) => None,
            Err(error) => {
                items.into_iter().for_each(|item| drop(item.reply.send(Err(error.clone()))));
                return;
            }
        };
        let mut says = says.map(|(selector, says)| (selector, says.into_iter()));
        for item in items {
            let decided = self.place(&item, says.as_mut().map(|(selector, says)| (&*selector, says)));
            // Decided as of then: refused in another term, and stale under another generation.
            let term = says.as_ref().map_or_else(|| self.parts.port.leadership(), |(selector, _)| Some(selector.term));
            let decided =
                decided.and_then(|placed| submit(self.batcher(), term.ok_or(Error::NoLeader)?, &item.job, placed));
            // A caller that went away needs no answer; its records are in the log all the same.
            let _ = item.reply.send(decided);
        }
    }

    /// The selector that is bound now.
    fn selector(&self) -> Result<Option<Selector>, Error> {
        let Some(term) = self.parts.port.leadership() else { return Err(Error::NoLeader) };
        let state = self.parts.port.state();
        let Some(topic) = state.topics.get(&self.id) else { return Ok(None) };
        let Some(binding) = state.selector(self.id) else { return Ok(None) };
        let stat = |queue| {
            let ends = state.ends(self.id, QueueId(queue));
            QueueStat { queue: QueueId(queue), messages: ends.latest - ends.earliest }
        };
        let context = Context { attempt_limit: 0, queues: (0..topic.queues()).map(stat).collect() };
        Ok(Some(Selector {
            binding: binding.clone(),
            generation: topic.generation,
            term,
            body_bytes_max: topic.config.max_message_bytes,
            context,
            destinations: Vec::new(),
        }))
    }

    /// Asks the selector about every message that needs it, in order: one call for as many as fit.
    async fn ask(&self, selector: &mut Selector, items: &[Item]) -> Vec<Result<Say, String>> {
        let judge = self.parts.bench.judge(&self.parts.port, &selector.binding).await;
        let needy = items.iter().flat_map(|item| item.which.iter().map(move |i| (&item.job, *i)));
        let needy: Vec<_> = needy.filter(|(job, i)| selector.places(job, *i)).collect();
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
                columns.push(&Facts::new_message(job.name.as_str(), &job.messages[i], job.born, now));
                taken += 1;
            }
            let (n, columns) = columns.finish();
            let mut verdicts = judge.select(selector.context.clone(), n, columns).await;
            verdicts.resize_with(taken, || Verdict::Stopped(pointsman_model::judge::Failure::Output));
            says.extend(verdicts.into_iter().map(|verdict| Ok(named(&*judge, verdict))));
            rest = &rest[taken..];
        }
        says
    }

    /// Places the messages of an item by rule and by what the selector said.
    fn place(
        &self,
        item: &Item,
        mut says: Option<(&Selector, &mut std::vec::IntoIter<Result<Say, String>>)>,
    ) -> Result<Vec<Placed>, Error> {
        let state = self.parts.port.state();
        let topic = self.topic_of(&state, &item.job)?;
        let placer = Placer { keyed: says.as_ref().map(|(s, _)| s.binding.config.keyed), ..self.placer(&state, topic) };
        let mut placed = Vec::with_capacity(item.which.len());
        for i in &item.which {
            let message = &item.job.messages[*i];
            let said = match &mut says {
                Some((selector, says)) if selector.places(&item.job, *i) => says.next().map(|said| (*selector, said)),
                _ => None,
            };
            placed.push(match (placer.place(*i, message), said) {
                // Too large, for one: what a rule refuses no selector saves.
                (Some(by_rule), _) => by_rule,
                (None, Some((selector, said))) => self.placed_by(&state, &placer, selector, &item.job, *i, said),
                // The topic has changed since, so this is stale and decided again.
                (None, None) => fenced(placer.fall_back(*i, message), says.as_ref().map(|(selector, _)| *selector)),
            });
        }
        Ok(placed)
    }

    fn placed_by(
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
                    return Placed {
                        message: i,
                        spots: Ok(spots),
                        placement: Placement::Selector,
                        judged: Some(judged),
                    };
                }
                Err(words) => (words, false),
            },
            Ok(Verdict::Failed(words)) => (words, false),
            Ok(Verdict::Stopped(failure)) => (format!("stopped: {}", failure.as_str()), false),
            Err(words) => (words, true),
        };
        let words = format!("`{}`: {words}", selector.binding.name);
        let mut placed = match (refuses, unavailable) {
            (true, true) => Placed::refused(i, Error::PluginUnavailable(words)),
            (true, false) => Placed::refused(i, Error::PluginRejected(words)),
            (false, _) => placer.fall_back(i, &job.messages[i]),
        };
        placed = fenced(placed, Some(selector));
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

impl Waiting {
    /// What comes next: as many items as fill one call, or one that fills several.
    fn take(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        while let Some(item) = self.items.front() {
            messages += item.which.len();
            bytes += item.which.iter().map(|i| item.job.messages[*i].body.len()).sum::<usize>();
            let over = messages > limits::JUDGE_MESSAGES_MAX || bytes > limits::JUDGE_COLUMN_BYTES_MAX;
            if over && !items.is_empty() {
                break;
            }
            self.messages -= item.which.len();
            items.extend(self.items.pop_front());
        }
        items
    }
}

/// Fenced by what the selector was asked under, also where it gave no answer.
fn fenced(mut placed: Placed, selector: Option<&Selector>) -> Placed {
    if let (Ok(Spots::One(spot)), Some(selector)) = (&mut placed.spots, selector) {
        spot.generation = selector.generation;
    }
    placed
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
