//! One topic at run time: the order of its publishes, and its judging worker.
//!
//! Without a selector a publish goes straight into an entry. With one it waits for the topic's worker, which takes all
//! that wait, judges them in calls of at most 256 messages, and submits them in the order they came. While anything
//! waits there, publishes that need no judge queue up behind it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::Mutex;
use pointsman_model::{Generation, Term, TopicId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::state::{Binding, Topic};
use tokio::sync::oneshot;

use super::dedup::{Named, is_asked, keyed_by};
use super::inflight::InFlight;
use super::job::{Decided, Job, Placed};
use super::place::Placer;
use super::selector::{Say, Selector};
use super::write::submit;
use crate::batcher::{Batcher, past_deadline};
use crate::error::Error;
use crate::ports::Shard;
use crate::shard::ShardParts;
use crate::timers::Timers;

/// One topic at run time.
pub(crate) struct TopicRuntime {
    pub(super) id: TopicId,
    pub(super) parts: ShardParts,
    round_robin: AtomicU32,
    waiting: Mutex<Waiting>,
    in_flight: Arc<InFlight>,
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

impl TopicRuntime {
    pub(crate) fn new(id: TopicId, parts: ShardParts) -> Self {
        Self { id, parts, round_robin: AtomicU32::new(0), waiting: Mutex::default(), in_flight: Arc::default() }
    }

    pub(super) fn batcher(&self) -> &Arc<Batcher> {
        &self.parts.batcher
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.parts.timers
    }

    /// Idempotency keys under way.
    pub(super) fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    pub(super) fn shard(&self) -> &dyn Shard {
        &*self.parts.port
    }

    /// Places some messages of a job and puts their records into entries.
    pub(super) async fn decide(self: &Arc<Self>, job: &Arc<Job>, mut which: Vec<usize>) -> Result<Decided, Error> {
        let known = self.known(job, &mut which)?;
        if which.is_empty() || (job.atomic && known.iter().any(|placed| placed.spots.is_err())) {
            return Ok(Decided { placed: known, tickets: Vec::new() });
        }
        let mut decided = self.decide_new(job, which).await?;
        // Behind those that have records, which the tickets count.
        decided.placed.extend(known);
        Ok(decided)
    }

    async fn decide_new(self: &Arc<Self>, job: &Arc<Job>, which: Vec<usize>) -> Result<Decided, Error> {
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

    /// The places of messages if none of them needs a plugin.
    fn place_by_rule(&self, job: &Job, which: &[usize]) -> Result<Option<Vec<Placed>>, Error> {
        let state = self.parts.port.state();
        let topic = self.topic_of(&state, job)?;
        let placer = self.placer(&state, topic);
        let asks = state.dedup(self.id).is_some();
        let place = |i: &usize| {
            let placed = placer.place(*i, &job.messages[*i]).filter(|_| !asks || !is_asked(job, *i))?;
            Some(placed.keyed(&job.messages[*i], topic.config.dedup_window_ms))
        };
        Ok(which.iter().map(place).collect())
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
        let now = crate::call::now();
        let (late, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.job.deadline <= now);
        for item in late {
            let _ = item.reply.send(Err(past_deadline()));
        }
        let mut moment = match self.moment() {
            Ok(moment) => moment,
            Err(error) => {
                items.into_iter().for_each(|item| drop(item.reply.send(Err(error.clone()))));
                return;
            }
        };
        let messages = items.iter().flat_map(|item| item.which.iter().map(|i| (&item.job, *i)));
        let messages: Vec<_> = messages.collect();
        let named = match &moment.dedup {
            Some(binding) => self.name_keys(binding, &messages).await,
            None => Vec::new(),
        };
        let says = match &mut moment.selector {
            Some(selector) => self.ask(selector, &messages).await,
            None => Vec::new(),
        };
        drop(messages);
        let mut answers = Answers { named: named.into_iter(), says: says.into_iter() };
        for item in items {
            // Decided as of the moment: refused in another term, and stale under another generation.
            let decided = self.place(&item, &moment, &mut answers);
            let decided = decided.and_then(|placed| submit(self.batcher(), moment.term, &item.job, placed));
            // A caller that went away needs no answer; its records are in the log all the same.
            let _ = item.reply.send(decided);
        }
    }

    /// What judges now.
    fn moment(&self) -> Result<Moment, Error> {
        let term = self.parts.port.leadership().ok_or(Error::NoLeader)?;
        let state = self.parts.port.state();
        let topic = state.topics.get(&self.id);
        Ok(Moment {
            term,
            generation: topic.map(|topic| topic.generation).unwrap_or_default(),
            selector: topic.and_then(|topic| self.selector(&state, topic)),
            dedup: state.dedup(self.id).cloned(),
        })
    }

    /// Places the messages of an item by rule and by what the plugins said.
    fn place(&self, item: &Item, moment: &Moment, answers: &mut Answers) -> Result<Vec<Placed>, Error> {
        let job = &item.job;
        let mut placed = Vec::with_capacity(item.which.len());
        {
            let state = self.parts.port.state();
            let topic = self.topic_of(&state, job)?;
            let keyed = moment.selector.as_ref().map(|selector| selector.binding.config.keyed);
            let placer = Placer { keyed, ..self.placer(&state, topic) };
            for i in &item.which {
                let selector = moment.selector.as_ref().filter(|selector| selector.places(job, *i));
                let said = selector.and_then(|selector| answers.says.next().map(|said| (selector, said)));
                let one = match (placer.place(*i, &job.messages[*i]), said) {
                    // Too large, for one: what a rule refuses no selector saves.
                    (Some(by_rule), _) => by_rule,
                    (None, Some((selector, said))) => self.placed_by(&state, &placer, selector, job, *i, said),
                    // The topic has changed since, so this is stale and decided again.
                    (None, None) => placer.fall_back(*i, &job.messages[*i]),
                };
                let named = moment.dedup.as_ref().filter(|_| is_asked(job, *i)).and_then(|_| answers.named.next());
                let one = one.keyed(&job.messages[*i], topic.config.dedup_window_ms).fenced(moment.generation);
                placed.push(match named {
                    Some(named) => keyed_by(moment, topic.config.dedup_window_ms, one, named),
                    None => one,
                });
            }
        }
        self.look(job, &mut placed)?;
        Ok(placed)
    }
}

/// What judges a topic's messages, all as of one moment.
pub(super) struct Moment {
    /// The term this node leads in.
    term: Term,
    /// The topic's.
    pub(super) generation: Generation,
    selector: Option<Selector>,
    pub(super) dedup: Option<Binding>,
}

/// What the plugins said of the messages they were asked about, in order.
struct Answers {
    named: std::vec::IntoIter<Named>,
    says: std::vec::IntoIter<Result<Say, String>>,
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
