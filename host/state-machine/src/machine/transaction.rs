//! Transactions: prepared as one unit of parked messages, ended once, by one entry.
//!
//! A commit is a unit: the verdict, then the visible copies of all parts without a delay. Parts with a delay stay parked
//! and wait for their time from then on. What races for a transaction (producers, its plugin, the end of its timetable,
//! an operator) meets here, and the first word counts.

use std::collections::BTreeSet;

use pointsman_model::record::{FLAG_UNIT_CONTINUES, Header, kind};
use pointsman_model::{TenantId, Timestamp, TopicId, hash, limits};

use super::dedup::UnitKeys;
use super::entry::{Entry, Placed, Stop, decode};
use super::publish::Checked as Message;
use crate::command::{
    Cause, Delay, Park, Place, PublishHead, ResolvedBy, TransactionChecked, TransactionMeta, TransactionResolve,
    TransactionVerdict,
};
use crate::error::Error;
use crate::outcome::{Outcome, Refusal};
use crate::state::{Parked, Transaction, TransactionState};
use crate::table;

/// A verdict that was looked at.
enum Checked {
    /// It may be carried out.
    Open(Box<Transaction>),
    /// It was carried out before.
    Repeated(Box<Transaction>),
}

impl Entry<'_> {
    /// Refuses halves that are not the whole of one transaction, and one that was prepared before.
    pub(super) fn check_prepare(&self, unit: &[Placed], parks: &[Option<Park>]) -> Result<(), Stop> {
        let is_half = |park: &Option<Park>| matches!(park, Some(Park::Half(_)));
        let Some(first) = unit.first().filter(|_| parks.iter().any(is_half)) else { return Ok(()) };
        let malformed = |words: &str| Err(Refusal::Malformed(words.into()).into());
        if (0..).zip(parks).any(|(behind, park)| *park != Some(Park::Half(behind))) {
            return malformed("halves and what is no half of the same transaction");
        }
        let Some(meta) = meta_of(first)? else { return malformed("halves of no transaction") };
        for part in &unit[1..] {
            if meta_of(part)?.is_some() {
                return malformed("a transaction within another");
            }
        }
        if meta.delays.iter().any(|(behind, _)| usize::from(*behind) >= unit.len()) {
            return malformed("a delay of no half");
        }
        let tenant = first.header.tenant;
        if unit.iter().any(|part| part.header.tenant != tenant) {
            return malformed("halves of several tenants");
        }
        if self.state.topics.get(&TopicId(meta.topic)).is_none_or(|topic| topic.tenant != tenant) {
            return Err(Refusal::TopicNotFound(String::new()).into());
        }
        self.check_name(tenant, &meta)
    }

    fn check_name(&self, tenant: TenantId, meta: &TransactionMeta<'_>) -> Result<(), Stop> {
        let Some(key) = meta.key else { return Ok(()) };
        let key = table::transaction_name_key(tenant, meta.topic, hash::fingerprint(key.as_bytes()));
        let Some(value) = self.changes.get(self.store, &key)? else { return Ok(()) };
        let (index, ordinal): (u64, u16) = table::decode(&key, &value)?;
        match self.transaction(tenant, (index, ordinal))? {
            Some(found) if found.fingerprint != meta.fingerprint => Err(Refusal::NameTaken.into()),
            Some(found) => Err(Refusal::TransactionExists { place: found.place, state: found.state }.into()),
            None => Err(Error::MissingRow { key }.into()),
        }
    }

    /// Notes a transaction whose halves were parked just now.
    pub(super) fn prepare(&mut self, unit: &[Placed], park: Option<Park>, outcomes: &[Outcome]) -> Result<(), Error> {
        let Some(first) = unit.first().filter(|_| matches!(park, Some(Park::Half(_)))) else { return Ok(()) };
        let Ok(Some(meta)) = meta_of(first) else { return Ok(()) };
        let tenant = first.header.tenant;
        self.forget_old(tenant)?;
        let now = self.now();
        let mut topics = BTreeSet::from([meta.topic]);
        topics.extend(unit.iter().map(|placed| placed.header.topic.0));
        let transaction = Transaction {
            place: Place { term: self.meta.term.0, index: self.meta.index.0, ordinal: first.ordinal.0 },
            topic: meta.topic,
            topics: topics.into_iter().collect(),
            producer_group: meta.producer_group.into(),
            key: meta.key.map(Into::into),
            fingerprint: meta.fingerprint,
            check: meta.check,
            records: unit.len() as u16,
            parts: outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Parked(_))).count() as u16,
            delays: meta.delays,
            prepared_at: now.0,
            state: TransactionState::Prepared,
            since: now.0,
            attempt: 0,
            due: now.plus_ms(meta.check.after_ms).0,
            resolved_by: None,
        };
        let (index, ordinal) = transaction.id();
        if let Some(name) = &transaction.key {
            let key = table::transaction_name_key(tenant, meta.topic, hash::fingerprint(name.as_bytes()));
            self.changes.put(key, table::encode(&(index, ordinal)));
        }
        for topic in &transaction.topics {
            self.changes.put(table::transaction_topic_key(tenant, *topic, index, ordinal), table::encode(&()));
        }
        self.put_transaction(tenant, &transaction);
        self.count_transaction(tenant, transaction.state, true);
        Ok(())
    }

    /// Ends a transaction by a record alone: a rollback, its expiry, or a commit of which nothing is visible yet.
    pub(super) fn resolve(&mut self, header: &Header, resolve: &TransactionResolve) -> Result<Outcome, Stop> {
        match self.check_resolve(header, resolve)? {
            Checked::Repeated(transaction) => Ok(resolved(&transaction, true)),
            Checked::Open(transaction) => {
                if resolve.verdict == TransactionVerdict::Commit {
                    self.check_parts(header.tenant, &transaction, &[])?;
                }
                Ok(self.carry_out(header.tenant, *transaction, resolve)?)
            }
        }
    }

    /// Commits a transaction: all of the unit or nothing.
    pub(super) fn commit(&mut self, unit: &[Placed]) -> Result<(), Error> {
        let Some((first, parts)) = unit.split_first() else { return Ok(()) };
        match self.check_commit(first, parts) {
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Refused(refusal)) => {
                self.refuse_unit(parts, Outcome::Refused(refusal));
                Ok(())
            }
            Ok((Checked::Repeated(transaction), ..)) => {
                self.refuse_unit(parts, resolved(&transaction, true));
                Ok(())
            }
            Ok((Checked::Open(transaction), resolve, facts)) => {
                // Its visible parts take their rows themselves; what is left then waits for its time.
                let at = self.changes.outcomes.len();
                for (placed, facts) in parts.iter().zip(&facts) {
                    let outcome = self.message(placed, facts)?;
                    self.changes.outcomes.push(outcome);
                }
                let outcome = self.carry_out(first.header.tenant, *transaction, &resolve)?;
                self.changes.outcomes.insert(at, outcome);
                Ok(())
            }
        }
    }

    fn refuse_unit(&mut self, parts: &[Placed], outcome: Outcome) {
        self.changes.outcomes.push(outcome);
        for placed in parts {
            let outcome = self.refuse(placed, Refusal::UnitRefused);
            self.changes.outcomes.push(outcome);
        }
    }

    fn check_commit(
        &self,
        first: &Placed,
        parts: &[Placed],
    ) -> Result<(Checked, TransactionResolve, Vec<Message>), Stop> {
        let resolve: TransactionResolve = decode(first.head())?;
        let ends = parts.last().is_some_and(|last| last.header.flags & FLAG_UNIT_CONTINUES == 0);
        if !ends || resolve.verdict != TransactionVerdict::Commit {
            return Err(Refusal::Malformed("a verdict followed by what does not belong to it".into()).into());
        }
        let checked = self.check_resolve(&first.header, &resolve)?;
        let Checked::Open(transaction) = &checked else {
            return Ok((checked, resolve, Vec::new()));
        };
        let mut facts = Vec::with_capacity(parts.len());
        let mut sources = Vec::with_capacity(parts.len());
        for placed in parts {
            if placed.header.kind != kind::PUBLISH_FROM || placed.header.tenant != first.header.tenant {
                return Err(Refusal::Malformed("a commit of other records than messages".into()).into());
            }
            let checked = self.check_message(placed, &UnitKeys::alone())?;
            match checked.facts.origin {
                Some(origin) if origin.cause == Cause::Commit => sources.push(origin.place),
                _ => return Err(Refusal::Malformed("a commit of messages from elsewhere".into()).into()),
            }
            facts.push(checked);
        }
        self.check_parts(first.header.tenant, transaction, &sources)?;
        Ok((checked, resolve, facts))
    }

    /// The visible copies must be those of all parts that are there and have no delay, each once.
    fn check_parts(&self, tenant: TenantId, transaction: &Transaction, sources: &[Place]) -> Result<(), Stop> {
        let parts = self.parts(tenant, transaction)?;
        if parts.len() != usize::from(transaction.parts) {
            // Only an expired one may lose parts: with their topic.
            return Err(Refusal::TopicNotFound(String::new()).into());
        }
        let mut wanted: BTreeSet<Place> = parts.iter().map(|parked| parked.place).collect();
        wanted.retain(|place| transaction.delay(place.ordinal).is_none());
        let whole = sources.len() == wanted.len() && sources.iter().all(|place| wanted.remove(place));
        if whole { Ok(()) } else { Err(Refusal::SourceClosed.into()) }
    }

    fn check_resolve(&self, header: &Header, resolve: &TransactionResolve) -> Result<Checked, Stop> {
        let found = self.transaction(header.tenant, resolve.transaction)?;
        let transaction = Box::new(found.ok_or(Refusal::TransactionNotFound)?);
        if let ResolvedBy::Plugin(_) = resolve.by {
            if header.topic.0 != transaction.topic {
                return Err(Refusal::Malformed("a verdict of another topic's plugin".into()).into());
            }
            self.check_generation(header, header.topic, header.generation)?;
        }
        let wanted = match resolve.verdict {
            TransactionVerdict::Commit => TransactionState::Committed,
            TransactionVerdict::Rollback => TransactionState::RolledBack,
            TransactionVerdict::Expire => TransactionState::Expired,
        };
        let overrules = resolve.by == ResolvedBy::Operator
            && resolve.verdict != TransactionVerdict::Expire
            && self.now().0 <= transaction.since.saturating_add(limits::TRANSACTION_KEPT_MS);
        match transaction.state {
            TransactionState::Prepared if resolve.verdict != TransactionVerdict::Expire => {
                Ok(Checked::Open(transaction))
            }
            TransactionState::Prepared
                if transaction.attempt >= transaction.check.max && transaction.due <= self.now().0 =>
            {
                Ok(Checked::Open(transaction))
            }
            TransactionState::Prepared => Err(Refusal::NotDue.into()),
            state if state == wanted => Ok(Checked::Repeated(transaction)),
            TransactionState::Expired if overrules => Ok(Checked::Open(transaction)),
            state => Err(Refusal::TransactionResolved(state).into()),
        }
    }

    /// Carries a verdict out, but for what becomes visible with it.
    fn carry_out(
        &mut self,
        tenant: TenantId,
        mut transaction: Transaction,
        resolve: &TransactionResolve,
    ) -> Result<Outcome, Error> {
        let state = match resolve.verdict {
            TransactionVerdict::Commit => TransactionState::Committed,
            TransactionVerdict::Rollback => TransactionState::RolledBack,
            TransactionVerdict::Expire => TransactionState::Expired,
        };
        for parked in self.parts(tenant, &transaction)? {
            match state {
                TransactionState::Committed => self.wait_for_delay(tenant, &transaction, parked)?,
                TransactionState::RolledBack => self.discard(tenant, &parked, true)?,
                TransactionState::Expired | TransactionState::Prepared => self.discard(tenant, &parked, false)?,
            }
        }
        self.remove_transaction_rows(tenant, &transaction);
        self.count_transaction(tenant, transaction.state, false);
        (transaction.state, transaction.since) = (state, self.now().0);
        transaction.resolved_by = Some(resolve.by);
        self.put_transaction(tenant, &transaction);
        self.count_transaction(tenant, state, true);
        if state == TransactionState::Expired {
            self.state.transactions.entry(tenant).or_default().discarded += u64::from(transaction.parts);
            self.put_counts(tenant);
        }
        Ok(resolved(&transaction, false))
    }

    /// A part that waits for its time from the commit on.
    fn wait_for_delay(&mut self, tenant: TenantId, transaction: &Transaction, parked: Parked) -> Result<(), Error> {
        let due = match transaction.delay(parked.place.ordinal) {
            Some(Delay::For(ms)) => self.now().plus_ms(ms),
            Some(Delay::Until(at)) => Timestamp(at),
            None => return Ok(()),
        };
        self.wait_until(tenant, parked, due)
    }

    /// Someone is asked about a transaction.
    pub(super) fn checked(&mut self, header: &Header, checked: &TransactionChecked) -> Result<Outcome, Stop> {
        let tenant = header.tenant;
        let found = self.transaction(tenant, checked.transaction)?;
        let mut transaction = found.ok_or(Refusal::TransactionNotFound)?;
        if transaction.state != TransactionState::Prepared {
            return Err(Refusal::TransactionResolved(transaction.state).into());
        }
        let next = checked.attempt == transaction.attempt + 1 && transaction.due <= self.now().0;
        let again = checked.attempt == transaction.attempt && checked.attempt > 0;
        if !(next || again) || checked.attempt > transaction.check.max {
            return Err(Refusal::NotDue.into());
        }
        let (index, ordinal) = transaction.id();
        self.changes.delete(table::transaction_due_key(tenant, transaction.due, index, ordinal));
        transaction.attempt = checked.attempt;
        transaction.due = self.now().plus_ms(checked.wait_ms).0;
        self.put_transaction(tenant, &transaction);
        if next {
            self.state.transactions.entry(tenant).or_default().checks += 1;
            self.put_counts(tenant);
        }
        Ok(Outcome::Checked)
    }

    /// Names of the prepared transactions that keep a topic, the first few.
    pub(super) fn transactions_of_topic(&self, tenant: TenantId, topic: TopicId) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        for key in self.changes.scan(self.store, &table::transaction_topic_prefix(tenant, topic.0))?.keys() {
            let mut numbers = table::KeyReader::new(key);
            let (_tenant, _topic) = (numbers.u32()?, numbers.u32()?);
            if let Some(transaction) = self.transaction(tenant, (numbers.u64()?, numbers.u16()?))? {
                places.push(transaction.place);
            }
            if places.len() >= limits::USERS_NAMED_MAX {
                break;
            }
        }
        Ok(places)
    }

    /// The parts that are not visible, in order.
    fn parts(&self, tenant: TenantId, transaction: &Transaction) -> Result<Vec<Parked>, Error> {
        let mut parts = Vec::with_capacity(usize::from(transaction.parts));
        for place in transaction.places() {
            // One that was committed waits for its time, and is a part no more.
            parts.extend(self.parked(tenant, place)?.filter(|parked| matches!(parked.park, Park::Half(_))));
        }
        Ok(parts)
    }

    pub(super) fn transaction(&self, tenant: TenantId, id: (u64, u16)) -> Result<Option<Transaction>, Error> {
        let key = table::transaction_key(tenant, id.0, id.1);
        let value = self.changes.get(self.store, &key)?;
        value.map(|value| table::decode(&key, &value)).transpose()
    }

    /// Writes the row and those that find it.
    fn put_transaction(&mut self, tenant: TenantId, transaction: &Transaction) {
        let ((index, ordinal), state) = (transaction.id(), transaction.state);
        self.changes.put(table::transaction_key(tenant, index, ordinal), table::encode(transaction));
        let since = table::transaction_since_key(tenant, state, transaction.since, index, ordinal);
        self.changes.put(since, table::encode(&()));
        if state == TransactionState::Prepared {
            let due = table::transaction_due_key(tenant, transaction.due, index, ordinal);
            self.changes.put(due, table::encode(&()));
        }
    }

    /// Takes away the rows that find a transaction by its state.
    fn remove_transaction_rows(&mut self, tenant: TenantId, transaction: &Transaction) {
        let ((index, ordinal), state) = (transaction.id(), transaction.state);
        self.changes.delete(table::transaction_since_key(tenant, state, transaction.since, index, ordinal));
        if state == TransactionState::Prepared {
            self.changes.delete(table::transaction_due_key(tenant, transaction.due, index, ordinal));
            for topic in &transaction.topics {
                self.changes.delete(table::transaction_topic_key(tenant, *topic, index, ordinal));
            }
        }
    }

    fn count_transaction(&mut self, tenant: TenantId, state: TransactionState, came: bool) {
        let counts = self.state.transactions.entry(tenant).or_default();
        let count = &mut counts.by_state[state as usize];
        *count = if came { *count + 1 } else { count.saturating_sub(1) };
        self.put_counts(tenant);
    }

    fn put_counts(&mut self, tenant: TenantId) {
        let counts = self.state.transactions.entry(tenant).or_default();
        self.changes.put(table::transaction_counts_key(tenant), table::encode(counts));
    }

    /// Forgets a few transactions that ended long ago.
    fn forget_old(&mut self, tenant: TenantId) -> Result<(), Error> {
        let Some(end) = self.now().0.checked_sub(limits::TRANSACTION_KEPT_MS) else { return Ok(()) };
        for state in [TransactionState::Committed, TransactionState::RolledBack, TransactionState::Expired] {
            if self.state.transactions.get(&tenant).is_none_or(|counts| counts.of(state) == 0) {
                continue;
            }
            // Those that this entry has forgotten before are in the store still.
            let prefix = table::transaction_since_prefix(tenant, state);
            let from = self.changes.forgotten.get(&prefix).cloned().unwrap_or_else(|| prefix.clone());
            let mut keys = Vec::new();
            self.store.scan(&from, &table::transaction_since_from(tenant, state, end), &mut |key, _| {
                keys.push(key.to_vec());
                keys.len() < limits::TRANSACTIONS_FORGOTTEN_MAX
            })?;
            for key in keys {
                self.forget_transaction(tenant, &key)?;
                self.changes.forgotten.insert(prefix.clone(), table::behind(key));
            }
        }
        Ok(())
    }

    /// Forgets the transaction of a key of table 27, unless this entry has changed it.
    fn forget_transaction(&mut self, tenant: TenantId, key: &[u8]) -> Result<(), Error> {
        let mut numbers = table::KeyReader::new(key);
        let (_tenant, state, since) = (numbers.u32()?, numbers.u8()?, numbers.u64()?);
        let Some(transaction) = self.transaction(tenant, (numbers.u64()?, numbers.u16()?))? else { return Ok(()) };
        if transaction.state as u8 != state || transaction.since != since {
            return Ok(());
        }
        for parked in self.parts(tenant, &transaction)? {
            self.discard(tenant, &parked, true)?;
        }
        self.remove_transaction_rows(tenant, &transaction);
        let (index, ordinal) = transaction.id();
        self.changes.delete(table::transaction_key(tenant, index, ordinal));
        if let Some(name) = &transaction.key {
            self.changes.delete(table::transaction_name_key(
                tenant,
                transaction.topic,
                hash::fingerprint(name.as_bytes()),
            ));
        }
        self.count_transaction(tenant, transaction.state, false);
        Ok(())
    }

    /// A message that will never be visible: its key is free again, and its row goes if nobody may overrule that.
    fn discard(&mut self, tenant: TenantId, parked: &Parked, for_good: bool) -> Result<(), Error> {
        if for_good {
            return self.discard_parked(tenant, parked);
        }
        match parked.dedup {
            Some(id) => self.dedup_forget(tenant, id, parked.place),
            None => Ok(()),
        }
    }
}

fn resolved(transaction: &Transaction, repeated: bool) -> Outcome {
    Outcome::Resolved { place: transaction.place, state: transaction.state, repeated }
}

/// What a record says about the transaction that starts with it.
fn meta_of(placed: &Placed) -> Result<Option<TransactionMeta<'_>>, Refusal> {
    match placed.header.kind {
        kind::PUBLISH_PARKED => decode::<PublishHead<'_>>(placed.head()).map(|head| head.transaction),
        _ => Ok(None),
    }
}
