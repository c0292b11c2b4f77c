//! Transactions: verdicts, look-ups, and the checks of those that nobody has ended.
//!
//! * [`mod@resolve`]: a verdict becomes an entry; a commit carries the visible copies of all parts.
//! * [`checks`]: the loop of the leader. Every check is an entry first, so that a transaction is asked about as often as its
//!   timetable says, whatever the leader; then a plugin is asked ([`ask`]), or a producer ([`producers`]).
//!
//! How one is prepared is a matter of placing messages: `publish/prepare.rs`.

mod ask;
pub(crate) mod checks;
mod producers;
mod resolve;

use std::time::Duration;

use pointsman_model::{LogIndex, MessageId, Name, Ordinal, QueueId, Timestamp, TransactionId, limits};
use pointsman_state_machine::command::{ResolvedBy, TransactionVerdict};
use pointsman_state_machine::state::{Parked, Part, Transaction, TransactionState};

pub(crate) use checks::Checks;

use crate::broker::Home;
use crate::cursor::{open_list, seal_list};
use crate::lease::check;
use crate::lookup::id_at;
use crate::view::{
    HalfPart, Page, PageRequest, PreparedMessage, ProducerCheck, TransactionStats, TransactionView, Verdict,
};
use crate::{Action, Broker, Call, Error, StreamSlot};
use resolve::Says;

impl Broker {
    /// Ends a transaction. The same verdict again finds it done; `overrule` ends an expired one, too.
    ///
    /// # Errors
    /// [`Error::TransactionNotFound`], [`Error::TransactionResolved`] with the verdict it has, and what keeps the entry out
    /// of the log.
    pub async fn resolve_transaction(
        &self,
        call: &Call,
        tenant: &str,
        id: TransactionId,
        verdict: Verdict,
        overrule: bool,
    ) -> Result<TransactionView, Error> {
        let home = self.authorize(call, tenant, if overrule { Action::Operator } else { Action::PublishSome })?;
        let transaction = self.transaction_of(call, tenant, &home, id)?;
        let verdict = match verdict {
            Verdict::Commit => TransactionVerdict::Commit,
            Verdict::Rollback => TransactionVerdict::Rollback,
        };
        let says = Says { verdict, by: if overrule { ResolvedBy::Operator } else { ResolvedBy::Producer } };
        resolve::resolve(&home.shard.parts, home.tenant, transaction.id(), says, call.deadline).await?;
        let transaction = find(&home, id)?.ok_or(Error::TransactionNotFound)?;
        self.view(&home, transaction, true)
    }

    /// A transaction with its messages.
    ///
    /// # Errors
    /// [`Error::TransactionNotFound`], also for one of another tenant.
    pub async fn get_transaction(
        &self,
        call: &Call,
        tenant: &str,
        id: TransactionId,
    ) -> Result<TransactionView, Error> {
        let home = self.authorize(call, tenant, Action::PublishSome)?;
        let transaction = self.transaction_of(call, tenant, &home, id)?;
        self.view(&home, transaction, true)
    }

    /// Transactions of a tenant, without their messages: those in a state by the time they came into it, or all by the
    /// time they were prepared. Those of topics that the caller may not publish to are left out.
    ///
    /// # Errors
    /// [`Error::InvalidCursor`], a failed read.
    pub async fn list_transactions(
        &self,
        call: &Call,
        tenant: &str,
        state: Option<TransactionState>,
        page: &PageRequest,
    ) -> Result<Page<TransactionView>, Error> {
        let home = self.authorize(call, tenant, Action::PublishSome)?;
        let limit = if page.limit == 0 { limits::PAGE_ITEMS_DEFAULT } else { page.limit };
        check("limit", limit.into(), 1, limits::PAGE_ITEMS_MAX.into())?;
        let route = format!("{tenant}/transactions/{}", state.map_or("", TransactionState::as_str));
        let after = match &page.cursor {
            Some(cursor) => Some(place_of(&open_list(cursor, &route, &self.inner.keys)?)?),
            None => None,
        };
        let mut found = home.shard.port.transactions(home.tenant, state, after, limit as usize + 1)?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next_cursor = match found.last().filter(|_| more) {
            Some(last) => {
                let (index, ordinal) = last.id();
                Some(seal_list(&route, &format!("{}.{index}.{ordinal}", last.since), &self.inner.keys)?)
            }
            None => None,
        };
        found.retain(|transaction| self.may_see(call, tenant, &home, transaction));
        let items = found.into_iter().map(|transaction| self.view(&home, transaction, false));
        Ok(Page { items: items.collect::<Result<_, _>>()?, next_cursor })
    }

    /// Ids of prepared transactions that keep a topic, the first few.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], a failed read.
    pub async fn topic_transactions(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
    ) -> Result<Vec<TransactionId>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, topic) = self.topic(tenant, topic)?;
        let found = home.shard.port.transactions_of_topic(home.tenant, topic.id, limits::USERS_NAMED_MAX)?;
        Ok(found.iter().map(|transaction| transaction.place.transaction(home.shard.port.id())).collect())
    }

    /// Questions to a producer group, each handed out once: at most `max`, after waiting at most `wait` for a first one.
    ///
    /// # Errors
    /// A failed read.
    pub async fn lease_checks(
        &self,
        call: &Call,
        tenant: &str,
        producer_group: &str,
        max: u32,
        wait: Duration,
    ) -> Result<Vec<ProducerCheck>, Error> {
        let home = self.authorize(call, tenant, Action::PublishSome)?;
        check("max_checks", max.into(), 1, limits::CHECKS_AT_ONCE_MAX as u64)?;
        let until = crate::call::now() + wait;
        let group = home.shard.parts.checks.producers().group(home.tenant, producer_group);
        loop {
            let heard = group.notified();
            let checks = self.take_checks(call, tenant, &home, producer_group, max as usize)?;
            if !checks.is_empty() {
                return Ok(checks);
            }
            tokio::select! {
                () = heard => {}
                () = tokio::time::sleep_until(until.into()) => return Ok(checks),
                () = self.inner.stop.cancelled() => return Ok(checks),
            }
        }
    }

    /// Opens a stream of questions; it counts as open while the answer lives.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] past the number of streams.
    pub async fn open_checks(&self, call: &Call, tenant: &str) -> Result<StreamSlot, Error> {
        let home = self.authorize(call, tenant, Action::PublishSome)?;
        StreamSlot::take(&self.inner.streams, home.tenant, self.connections_max(&home))
    }

    /// How many transactions there are, by shard.
    #[must_use]
    pub fn transaction_stats(&self) -> Vec<TransactionStats> {
        let stats = |shard: &std::sync::Arc<crate::shard::ShardRuntime>| {
            let mut stats = TransactionStats { shard: shard.port.id(), ..TransactionStats::default() };
            for counts in shard.port.state().transactions.values() {
                stats.by_state.iter_mut().zip(counts.by_state).for_each(|(all, more)| *all += more);
                stats.discarded += counts.discarded;
                stats.checks += counts.checks;
            }
            stats
        };
        self.inner.data.iter().map(stats).collect()
    }

    fn take_checks(
        &self,
        call: &Call,
        tenant: &str,
        home: &Home,
        producer_group: &str,
        max: usize,
    ) -> Result<Vec<ProducerCheck>, Error> {
        let (mut checks, mut bytes) = (Vec::new(), 0);
        let producers = home.shard.parts.checks.producers();
        let mut refused = Vec::new();
        while checks.len() < max && (checks.is_empty() || bytes < limits::LEASE_BYTES_DEFAULT as usize) {
            let Some(offer) = producers.take(home.tenant, producer_group) else { break };
            let (index, ordinal) = (LogIndex(offer.transaction.0), Ordinal(offer.transaction.1));
            let found = home.shard.port.transaction(home.tenant, index, ordinal)?;
            // It was ended since, or the next check is due.
            let open =
                |found: &Transaction| found.state == TransactionState::Prepared && found.attempt == offer.attempt;
            let Some(transaction) = found.filter(open) else { continue };
            if !self.may_see(call, tenant, home, &transaction) {
                refused.push(offer);
                continue;
            }
            let messages = prepared_messages(home, &transaction)?;
            bytes += messages.iter().map(|message| message.record.body.len()).sum::<usize>();
            checks.push(ProducerCheck {
                id: transaction.place.transaction(home.shard.port.id()),
                attempt: offer.attempt,
                prepared_at: Timestamp(transaction.prepared_at),
                messages,
            });
        }
        // They wait for someone who may see them.
        producers.put_back(home.tenant, producer_group, refused);
        Ok(checks)
    }

    /// A transaction that the caller may publish to all topics of.
    fn transaction_of(&self, call: &Call, tenant: &str, home: &Home, id: TransactionId) -> Result<Transaction, Error> {
        let found = find(home, id)?.ok_or_else(|| home.shard.absent(|| Error::TransactionNotFound))?;
        for topic in self.topic_names(home, &found) {
            self.authorize(call, tenant, Action::Publish(topic.as_str()))?;
        }
        Ok(found)
    }

    fn may_see(&self, call: &Call, tenant: &str, home: &Home, transaction: &Transaction) -> bool {
        let names = self.topic_names(home, transaction);
        names.iter().all(|name| self.authorize(call, tenant, Action::Publish(name.as_str())).is_ok())
    }

    /// Names of the topics that are there still.
    fn topic_names(&self, home: &Home, transaction: &Transaction) -> Vec<Name> {
        let state = home.shard.port.state();
        let name = |id: &u32| state.topics.get(&pointsman_model::TopicId(*id)).map(|topic| topic.name.clone());
        transaction.topics.iter().filter_map(name).collect()
    }

    fn view(&self, home: &Home, transaction: Transaction, with_parts: bool) -> Result<TransactionView, Error> {
        let shard = home.shard.port.id();
        let parts = if with_parts { Some(home.shard.port.transaction_parts(home.tenant, &transaction)?) } else { None };
        let state = home.shard.port.state();
        let name = |id| state.topics.get(&id).map_or_else(String::new, |topic| topic.name.to_string());
        let part = |part: Part| match part {
            Part::Parked(parked) => HalfPart {
                id: id_at(shard, parked.place),
                topic: name(pointsman_model::TopicId(parked.topic)),
                queue: QueueId(parked.queue),
                offset: None,
            },
            Part::Moved(index, ordinal, moved) => {
                let (topic, queue, offset) = moved.at();
                let id = MessageId { shard, term: pointsman_model::Term(moved.parked_term), index, ordinal };
                HalfPart { id, topic: name(topic), queue, offset: Some(offset) }
            }
        };
        let topic = name(pointsman_model::TopicId(transaction.topic));
        let parts = parts.map(|parts| parts.into_iter().map(part).collect());
        Ok(TransactionView { id: transaction.place.transaction(shard), topic, parts, transaction })
    }
}

/// A transaction by its id.
fn find(home: &Home, id: TransactionId) -> Result<Option<Transaction>, Error> {
    let TransactionId(first) = id;
    if first.shard != home.shard.port.id() {
        return Ok(None);
    }
    let found = home.shard.port.transaction(home.tenant, first.index, first.ordinal)?;
    Ok(found.filter(|found| found.place.term == first.term.0))
}

/// The place in a list that a cursor holds.
fn place_of(text: &str) -> Result<(Timestamp, LogIndex, Ordinal), Error> {
    let refused = || Error::InvalidCursor { detail: "not a cursor of this list".into() };
    let mut numbers = text.split('.');
    let mut next = || numbers.next().and_then(|number| number.parse::<u64>().ok()).ok_or_else(refused);
    let (since, index, ordinal) = (next()?, next()?, next()?);
    Ok((Timestamp(since), LogIndex(index), Ordinal(u16::try_from(ordinal).map_err(|_| refused())?)))
}

/// The messages of a transaction that nobody sees yet.
fn prepared_messages(home: &Home, transaction: &Transaction) -> Result<Vec<PreparedMessage>, Error> {
    let mut messages = Vec::new();
    for part in home.shard.port.transaction_parts(home.tenant, transaction)? {
        if let Part::Parked(parked) = part {
            messages.extend(prepared_message(home, &parked)?);
        }
    }
    Ok(messages)
}

fn prepared_message(home: &Home, parked: &Parked) -> Result<Option<PreparedMessage>, Error> {
    let topic = pointsman_model::TopicId(parked.topic);
    let name = home.shard.port.state().topics.get(&topic).map(|topic| topic.name.clone());
    let Some(topic) = name else { return Ok(None) };
    let record = home.shard.port.record(&parked.entry())?;
    Ok(Some(PreparedMessage { id: id_at(home.shard.port.id(), parked.place), topic, record }))
}

#[cfg(test)]
mod tests;
