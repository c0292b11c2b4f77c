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
use pointsman_model::{TopicId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::state::Topic;
use tokio::sync::oneshot;

use super::job::{Decided, Job, Placed};
use super::place::Placer;
use super::selector::{Say, Selector, fenced};
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
        Self { id, parts, round_robin: AtomicU32::new(0), waiting: Mutex::default() }
    }

    pub(super) fn batcher(&self) -> &Arc<Batcher> {
        &self.parts.batcher
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.parts.timers
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
                let messages = items.iter().flat_map(|item| item.which.iter().map(|i| (&item.job, *i)));
                let says = self.ask(&mut selector, messages.collect()).await;
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
