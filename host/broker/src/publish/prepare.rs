//! Prepare: the messages of a transaction, over several topics, as one unit that nobody sees.
//!
//! Each topic's own judge places its messages, as in a publish; then all records go into one entry. What is stale by then
//! is placed again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use pointsman_model::delay::Delay as Asked;
use pointsman_model::message::NewMessage;
use pointsman_model::{Name, Term, Timestamp, TopicId, hash, limits};
use pointsman_state_machine::command::{CheckTable, CheckVia, Delay, Durability, Place, TransactionMeta};
use pointsman_state_machine::outcome::Refusal;
use pointsman_state_machine::state::TransactionState;

use super::job::{Job, Placed};
use super::receipt::first_refusal;
use super::write::{Half, bytes_of, too_large, write};
use super::{TopicRuntime, check_sizes};
use crate::batcher::{Answer, Request, past_deadline};
use crate::broker::Home;
use crate::error::Error;
use crate::view::{HalfMessage, Prepare, PreparedTransaction};
use crate::{Action, Broker, Call};

/// A transaction on its way.
struct Halves {
    /// One job a topic.
    jobs: Vec<(Arc<Job>, Arc<TopicRuntime>)>,
    /// For each message in the order given: its job, and which message of it.
    order: Vec<(usize, usize)>,
    delays: Vec<Option<Delay>>,
    producer_group: String,
    name: Option<String>,
    fingerprint: u128,
    topic: TopicId,
    check: CheckTable,
}

impl Broker {
    /// Prepares a transaction: its messages are stored, and seen by nobody until it is committed. A name that was used
    /// before finds what was prepared under it.
    ///
    /// # Errors
    /// What refuses the call; the first message that is refused refuses all.
    pub async fn prepare(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
        prepare: Prepare,
    ) -> Result<PreparedTransaction, Error> {
        let home = self.authorize(call, tenant, Action::Publish(topic))?;
        for other in prepare.messages.iter().filter_map(|half| half.topic.as_deref()) {
            self.authorize(call, tenant, Action::Publish(other))?;
        }
        check_sizes(prepare.messages.iter().map(|half| &half.message))?;
        let bytes = prepare.messages.iter().map(|half| half.message.body.len()).sum();
        self.charge_publish(&home, prepare.messages.len(), bytes)?;
        let halves = self.halves(call, &home, topic, prepare)?;
        if let Some(name) = &halves.name
            && let Some(found) = home.shard.port.transaction_by_name(home.tenant, halves.topic, name)?
        {
            // A look that saves log space; `apply` decides.
            if found.fingerprint != halves.fingerprint {
                return Err(Refusal::NameTaken.into());
            }
            return Ok(prepared(&home, found.place, found.state, true));
        }
        for _ in 0..=limits::STALE_RETRIES_MAX {
            if crate::call::now() >= call.deadline {
                return Err(past_deadline());
            }
            let answer = self.submit_halves(call, &home, &halves).await?;
            match first_refusal(answer.outcomes()) {
                None => return Ok(prepared(&home, answer.place(), TransactionState::Prepared, false)),
                Some(Refusal::Stale(_)) => {}
                Some(Refusal::TransactionExists { place, state }) => return Ok(prepared(&home, *place, *state, true)),
                Some(refusal) => return Err(refusal.clone().into()),
            }
        }
        Err(Error::Overloaded("the topics' configuration changes faster than messages are placed".into()))
    }

    fn halves(&self, call: &Call, home: &Home, topic: &str, prepare: Prepare) -> Result<Halves, Error> {
        let (now, scale) = (home.shard.port.now(), self.inner.config.time_scale);
        let state = home.shard.port.state();
        let find = |name: &str| {
            let found = state.topic(home.tenant, name).map(|topic| (topic.id, topic.name.clone()));
            found.ok_or_else(|| home.shard.absent(|| Error::TopicNotFound(name.into())))
        };
        let (own, own_name) = find(topic)?;
        let has_plugin = state.check_back(own).is_some();
        let via = match prepare.via {
            Some(CheckVia::Plugin) if !has_plugin => {
                return Err(Error::invalid("/check/via", "the topic has no check-back binding"));
            }
            Some(via) => via,
            None if has_plugin => CheckVia::Plugin,
            None => CheckVia::Producer,
        };
        let default = |ms: u64| ((ms as f64 * scale).round() as u64).max(1);
        let check = CheckTable {
            after_ms: prepare.after_ms.unwrap_or_else(|| default(limits::CHECK_AFTER_MS_DEFAULT)),
            interval_ms: prepare.interval_ms.unwrap_or_else(|| default(limits::CHECK_INTERVAL_MS_DEFAULT)),
            max: prepare.max.unwrap_or(limits::CHECKS_DEFAULT),
            via,
        };
        let fingerprint = fingerprint(own_name.as_str(), &prepare.messages);
        let mut by_topic: BTreeMap<TopicId, usize> = BTreeMap::new();
        let mut gathered: Vec<(TopicId, Name, Vec<NewMessage>)> = Vec::new();
        let (mut order, mut delays) = (Vec::new(), Vec::new());
        for (i, mut half) in prepare.messages.into_iter().enumerate() {
            let (id, name) = match &half.topic {
                Some(name) => find(name)?,
                None => (own, own_name.clone()),
            };
            delays.push(delay(half.message.delay.take(), i, now, scale)?);
            let job = *by_topic.entry(id).or_insert_with(|| {
                gathered.push((id, name, Vec::new()));
                gathered.len() - 1
            });
            order.push((job, gathered[job].2.len()));
            gathered[job].2.push(half.message);
        }
        drop(state);
        let born = self.inner.clock.wall();
        let jobs = gathered.into_iter().map(|(id, name, messages)| {
            let runtime = home.shard.topic(id);
            let hold = runtime.in_flight().hold(id, &messages);
            let job = Job {
                tenant: home.tenant,
                topic: id,
                name,
                messages,
                dues: Vec::new(),
                run: None,
                half: true,
                atomic: true,
                ack: Durability::Quorum,
                born,
                deadline: call.deadline,
                hold,
            };
            (Arc::new(job), runtime)
        });
        Ok(Halves {
            jobs: jobs.collect(),
            order,
            delays,
            producer_group: prepare.producer_group,
            name: prepare.name,
            fingerprint,
            topic: own,
            check,
        })
    }

    /// Lets each topic place its messages, and puts the records of all into one entry.
    async fn submit_halves(&self, call: &Call, home: &Home, halves: &Halves) -> Result<Answer, Error> {
        // What is placed in a later term is proposed in this one, and refused.
        let term = home.shard.port.leadership().ok_or(Error::NoLeader)?;
        let mut placed: Vec<Vec<Placed>> = Vec::with_capacity(halves.jobs.len());
        for (job, runtime) in &halves.jobs {
            let mut decided = runtime.decide(job, (0..job.messages.len()).collect()).await?.placed;
            decided.sort_unstable_by_key(|placed| placed.message);
            placed.push(decided);
        }
        let ticket = submit(home, term, call.deadline, halves, &placed)?;
        home.shard.parts.batcher.wait(ticket, call.deadline).await
    }
}

fn submit(
    home: &Home,
    term: Term,
    deadline: Instant,
    halves: &Halves,
    placed: &[Vec<Placed>],
) -> Result<crate::batcher::Ticket, Error> {
    let mut parts: Vec<(&Job, &Placed)> = Vec::with_capacity(halves.order.len());
    let (mut bytes, mut records, mut delays) = (0, 0, Vec::new());
    for (at, ((job, message), delay)) in halves.order.iter().zip(&halves.delays).enumerate() {
        let (of, placed) = (&*halves.jobs[*job].0, &placed[*job][*message]);
        match &placed.spots {
            Err(Error::InvalidRequest { pointer, detail }) if pointer.starts_with('/') => {
                return Err(Error::invalid(format!("/messages/{at}{pointer}"), detail.clone()));
            }
            Err(error) => return Err(error.clone()),
            Ok(_) => {}
        }
        let spots = placed.spots().len();
        delays.extend(delay.iter().flat_map(|delay| (records..records + spots).map(|record| (record as u16, *delay))));
        bytes += bytes_of(of, placed);
        records += spots;
        parts.push((of, placed));
    }
    // The commit is as large, and one record longer.
    if bytes > limits::ENTRY_BYTES_MAX || records >= limits::ENTRY_RECORDS_MAX {
        return Err(too_large());
    }
    let meta = TransactionMeta {
        producer_group: &halves.producer_group,
        key: halves.name.as_deref(),
        fingerprint: halves.fingerprint,
        topic: halves.topic.0,
        check: halves.check,
        delays,
    };
    let request = Request { tenant: home.tenant, term, deadline, ack: Durability::Quorum };
    let holds: Vec<_> = halves.jobs.iter().filter_map(|(job, _)| job.hold.clone()).collect();
    home.shard.parts.batcher.submit_held(request, Some(Arc::new(holds)), bytes, |writer| {
        let mut half = Half::new(meta);
        for (at, (job, placed)) in parts.iter().enumerate() {
            write(writer, job, placed, at + 1 < parts.len(), Some(&mut half));
        }
    })
}

fn prepared(home: &Home, place: Place, state: TransactionState, repeated: bool) -> PreparedTransaction {
    PreparedTransaction { id: place.transaction(home.shard.port.id()), state, repeated }
}

/// A delay that runs from the commit. A point in time stays one.
fn delay(asked: Option<Asked>, i: usize, now: Timestamp, scale: f64) -> Result<Option<Delay>, Error> {
    let Some(asked) = asked else { return Ok(None) };
    let too_far = |error: pointsman_model::delay::TooFar| {
        Error::invalid(format!("/messages/{i}/{}", asked.field()), error.to_string())
    };
    let due = asked.due(now, scale).map_err(too_far)?;
    Ok(due.map(|due| match asked {
        Asked::At(at) => Delay::Until(at.0),
        Asked::After(_) | Asked::Level(_) => Delay::For(due.since_ms(now)),
    }))
}

/// What a producer prepares, in one number: topics and payloads in their order.
fn fingerprint(topic: &str, halves: &[HalfMessage]) -> u128 {
    let mut all = Vec::new();
    for half in halves {
        let topic = half.topic.as_deref().unwrap_or(topic);
        all.extend_from_slice(&(topic.len() as u64).to_le_bytes());
        all.extend_from_slice(topic.as_bytes());
        all.extend_from_slice(&hash::fingerprint(&half.message.body).to_le_bytes());
    }
    hash::fingerprint(&all)
}
