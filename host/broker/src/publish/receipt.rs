//! What became of each message of a call.

use pointsman_model::{LogIndex, MessageId, Ordinal, TenantId};
use pointsman_state_machine::command::Durability;
use pointsman_state_machine::outcome::{Duplicate, Outcome, Published, Refusal};

use super::job::{Decided, Job, Placed, Spot, Spots};
use crate::batcher::{Answer, Early};
use crate::error::Error;
use crate::lookup::id_at;
use crate::ports::Shard;
use crate::view::{PublishReceipt, PublishTarget};

/// The results of a job, as far as they are known.
pub(super) struct Results<'a> {
    job: &'a Job,
    results: Vec<Option<Result<PublishReceipt, Error>>>,
}

impl<'a> Results<'a> {
    pub(super) fn new(job: &'a Job) -> Self {
        Self { job, results: job.messages.iter().map(|_| None).collect() }
    }

    /// Messages without a result.
    pub(super) fn pending(&self) -> Vec<usize> {
        self.results.iter().enumerate().filter(|(_, result)| result.is_none()).map(|(i, _)| i).collect()
    }

    pub(super) fn is_done(&self) -> bool {
        self.results.iter().all(Option::is_some)
    }

    /// Notes what was refused before it was proposed, or found to be stored already.
    ///
    /// # Errors
    /// The first refusal, if the job is atomic.
    pub(super) fn settled_before(&mut self, shard: &dyn Shard, decided: &Decided) -> Result<(), Error> {
        for placed in &decided.placed {
            self.results[placed.message] = match &placed.spots {
                Ok(Spots::One(_) | Spots::Many(_)) => continue,
                Ok(Spots::Stored(before)) => Some(duplicate(shard, self.job.tenant, before)),
                Err(error) if self.job.atomic => return Err(error.clone()),
                Err(error) => Some(Err(error.clone())),
            };
        }
        Ok(())
    }

    /// Notes what an entry's outcomes say. What is stale stays pending.
    ///
    /// # Errors
    /// Why the whole call has no results.
    pub(super) fn apply(
        &mut self,
        shard: &dyn Shard,
        placed: &[Placed],
        answer: Result<Answer, Error>,
    ) -> Result<(), Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.fail(placed, &error),
        };
        if self.job.atomic
            && let Some(refusal) = first_refusal(answer.outcomes())
        {
            return if matches!(refusal, Refusal::Stale(_)) { Ok(()) } else { Err(Error::from(refusal.clone())) };
        }
        // The note of a run comes before its messages.
        let mut outcomes = answer.outcomes().get(usize::from(self.job.run.is_some())..).unwrap_or_default();
        for placed in placed.iter().filter(|placed| !placed.spots().is_empty()) {
            let (own, rest) = outcomes.split_at_checked(placed.spots().len()).unwrap_or_default();
            outcomes = rest;
            self.results[placed.message] = self.result(shard, placed, own);
        }
        Ok(())
    }

    fn result(
        &self,
        shard: &dyn Shard,
        placed: &Placed,
        outcomes: &[Outcome],
    ) -> Option<Result<PublishReceipt, Error>> {
        match first_refusal(outcomes) {
            Some(Refusal::Stale(_)) => return None,
            Some(refusal) => return Some(Err(Error::from(refusal.clone()))),
            None => {}
        }
        if let Some(Outcome::Parked(parked)) = outcomes.first() {
            let mut receipt = self.receipt(placed, id_at(shard.id(), parked.place));
            receipt.durability = Durability::Quorum;
            receipt.duplicate = Some(false);
            return Some(Ok(receipt));
        }
        if let Some(Outcome::Duplicate(before)) = outcomes.first() {
            return Some(duplicate(shard, self.job.tenant, before));
        }
        let published: Vec<Published> = outcomes.iter().filter_map(published).collect();
        let Some(first) = published.first() else {
            return Some(Err(Error::Internal("a publish without an outcome".into())));
        };
        let id = MessageId { shard: shard.id(), term: first.term, index: first.index, ordinal: first.ordinal };
        let mut receipt = self.receipt(placed, id);
        receipt.offset = Some(first.offset);
        receipt.stored_at = Some(first.stored_at);
        receipt.durability = Durability::Quorum;
        receipt.duplicate = Some(false);
        for (target, published) in receipt.targets.iter_mut().zip(&published) {
            target.offset = Some(published.offset);
        }
        Some(Ok(receipt))
    }

    /// Notes where the records lie that are answered early.
    ///
    /// # Errors
    /// Why the whole call has no results.
    pub(super) fn apply_early(
        &mut self,
        shard: &dyn Shard,
        placed: &[Placed],
        heard: Result<Early, Error>,
    ) -> Result<(), Error> {
        let early = match heard {
            Ok(early) => early,
            Err(error) => return self.fail(placed, &error),
        };
        let (term, index) = early.place;
        let mut record = early.records.start;
        for placed in placed.iter().filter(|placed| !placed.spots().is_empty()) {
            let ordinal = Ordinal(record as u16);
            let id = MessageId { shard: shard.id(), term, index, ordinal };
            self.results[placed.message] = Some(Ok(self.receipt(placed, id)));
            record += placed.spots().len() as u32;
        }
        Ok(())
    }

    /// The receipt as far as the placement alone tells.
    fn receipt(&self, placed: &Placed, id: MessageId) -> PublishReceipt {
        let (spots, deliver_at) = (placed.spots(), self.job.due(placed.message));
        let name = |spot: &Spot| spot.name.as_ref().unwrap_or(&self.job.name).to_string();
        let target = |spot: &Spot| PublishTarget { topic: name(spot), queue: spot.queue, offset: None };
        PublishReceipt {
            id: Some(id),
            topic: spots.first().map_or_else(String::new, name),
            // Its queue is the one it is delivered to, so it has none before.
            queue: spots.first().filter(|_| deliver_at.is_none()).map(|spot| spot.queue),
            offset: None,
            stored_at: None,
            deliver_at,
            durability: self.job.ack,
            duplicate: None,
            targets: if spots.len() > 1 { spots.iter().map(target).collect() } else { Vec::new() },
        }
    }

    /// An entry failed. That is the call's answer, unless some of its messages have another one.
    fn fail(&mut self, placed: &[Placed], error: &Error) -> Result<(), Error> {
        if self.job.atomic || self.results.iter().all(Option::is_none) {
            return Err(error.clone());
        }
        for placed in placed.iter().filter(|placed| !placed.spots().is_empty()) {
            self.results[placed.message] = Some(Err(error.clone()));
        }
        Ok(())
    }

    /// What to say when the rest is stale for good.
    pub(super) fn give_up(mut self) -> Result<Vec<Result<PublishReceipt, Error>>, Error> {
        let error = Error::Overloaded("the topic's configuration changes faster than messages are placed".into());
        if self.job.atomic || self.results.iter().all(Option::is_none) {
            return Err(error);
        }
        self.results.iter_mut().filter(|result| result.is_none()).for_each(|result| *result = Some(Err(error.clone())));
        Ok(self.finish())
    }

    /// One result a message.
    pub(super) fn finish(self) -> Vec<Result<PublishReceipt, Error>> {
        let missing = || Err(Error::Internal("a message without a result".into()));
        self.results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }
}

/// The receipt of a message that is stored already: the one it is a duplicate of.
///
/// # Errors
/// A failed read.
pub(super) fn duplicate(shard: &dyn Shard, tenant: TenantId, before: &Duplicate) -> Result<PublishReceipt, Error> {
    let place = before.place;
    let parked = match before.at {
        Some(_) => None,
        None => shard.parked(tenant, LogIndex(place.index), Ordinal(place.ordinal))?,
    };
    let topic = shard.state().topics.get(&before.topic).map(|topic| topic.name.to_string());
    Ok(PublishReceipt {
        id: Some(id_at(shard.id(), place)),
        topic: topic.unwrap_or_default(),
        queue: before.at.map(|(queue, _)| queue),
        offset: before.at.map(|(_, offset)| offset),
        stored_at: before.at.map(|_| before.stored_at),
        deliver_at: parked.and_then(|parked| parked.deliver_at()),
        durability: Durability::Quorum,
        duplicate: Some(true),
        targets: Vec::new(),
    })
}

fn published(outcome: &Outcome) -> Option<Published> {
    match outcome {
        Outcome::Published(published) => Some(*published),
        _ => None,
    }
}

/// Why a unit came to nothing: not that another record of it was refused, but which.
pub(super) fn first_refusal(outcomes: &[Outcome]) -> Option<&Refusal> {
    let refusals = || {
        outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        })
    };
    refusals().find(|refusal| **refusal != Refusal::UnitRefused).or_else(|| refusals().next())
}
