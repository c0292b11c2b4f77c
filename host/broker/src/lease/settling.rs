//! Settling: receipts, and what their consumers say.
//!
//! Acks and nacks are one record of the log, compare-and-set on the attempt. Extensions and releases are leader memory.
//! A receipt of another leader is adopted while it runs.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use pointsman_model::queue_entry::QueueEntry;
use pointsman_model::{TenantId, Timestamp, limits};
use pointsman_state_machine::command::{
    AttemptEnd, DecidedBy, Decision, LeaseRef, RecordRef, SettleItem, SettleOp as Op,
};
use pointsman_state_machine::outcome::{Outcome, Refusal, Settlement};
use pointsman_state_machine::state::Cursor;

use super::GroupRuntime;
use super::ending::Endings;
use super::memory::{Candidate, LeaseMemory, Memory, Place};
use crate::error::Error;
use crate::receipt::Receipt;
use crate::refusal::accepted;
use crate::view::{SettleOp, SettleRequest, SettleResult, SettleStatus};

/// What is known of an item before the log is asked.
enum Item {
    /// Its answer.
    Known(SettleStatus, Option<Timestamp>),
    /// The log says.
    Asked,
    /// The log says whether the lease runs until then.
    Extending(Timestamp),
}

impl GroupRuntime {
    /// Settles items, in order.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        tenant: TenantId,
        requests: Vec<SettleRequest>,
        deadline: Instant,
    ) -> Result<Vec<SettleResult>, Error> {
        let receipts: Vec<_> = requests.iter().map(|request| self.open(tenant, &request.receipt)).collect();
        let now = self.parts.port.now();
        let (items, endings) = {
            let mut memory = self.memory.lock();
            let topics = memory.refresh(self.id, &self.parts)?;
            memory.load(self.id, &self.parts, now)?;
            let mut endings = Endings::begin(&memory).ok_or(Error::NoLeader)?;
            let mut items = Vec::with_capacity(requests.len());
            for (request, receipt) in requests.iter().zip(&receipts) {
                items.push(match receipt {
                    Some(receipt) => self.settle_one(&mut memory, &mut endings, request, receipt, now)?,
                    None => Item::Known(SettleStatus::Invalid, None),
                });
            }
            if !endings.settle.is_empty() {
                endings.take_skips(&mut memory, now);
            }
            drop(memory);
            self.follow(topics);
            (items, endings)
        };
        let settlements = if endings.is_empty() {
            self.wake();
            Vec::new()
        } else {
            self.end_in_turn(endings, deadline).await?
        };
        let mut settlements = settlements.into_iter();
        let results = requests.into_iter().zip(items).map(|(request, item)| {
            let (status, expires_at) = match item {
                Item::Known(status, expires_at) => (status, expires_at),
                Item::Asked => (status_of(settlements.next()), None),
                Item::Extending(until) => match status_of(settlements.next()) {
                    SettleStatus::Settled => (SettleStatus::Extended, Some(until)),
                    other => (other, None),
                },
            };
            SettleResult { receipt: request.receipt, status, expires_at }
        });
        Ok(results.collect())
    }

    /// Writes endings, and decides again where the configuration changed meanwhile.
    async fn end_in_turn(&self, mut endings: Endings, deadline: Instant) -> Result<Vec<Settlement>, Error> {
        for _ in 0..limits::STALE_RETRIES_MAX {
            let answer = self.end(&mut endings, deadline).await?;
            match answer.outcomes().first() {
                Some(Outcome::Refused(Refusal::Stale(_))) => {
                    let mut memory = self.memory.lock();
                    let topics = memory.refresh(self.id, &self.parts)?;
                    endings.renew(&memory);
                    drop(memory);
                    self.follow(topics);
                }
                outcome => {
                    return Ok(match accepted(outcome)? {
                        Outcome::Settled(settled) => settled.clone(),
                        _ => Vec::new(),
                    });
                }
            }
        }
        Err(Error::Overloaded("the configuration changes too fast".into()))
    }

    /// A receipt of this group.
    fn open(&self, tenant: TenantId, text: &str) -> Option<Receipt> {
        let receipt = Receipt::open(text, &self.parts.keys)?;
        let ours = receipt.shard == self.parts.port.id() && receipt.tenant == tenant && receipt.group == self.id;
        ours.then_some(receipt)
    }

    fn settle_one(
        &self,
        memory: &mut Memory,
        endings: &mut Endings,
        request: &SettleRequest,
        receipt: &Receipt,
        now: Timestamp,
    ) -> Result<Item, Error> {
        let place: Place = (receipt.topic, receipt.queue, receipt.offset.0);
        let held = memory.leases.get(&place).is_some_and(|lease| lease.session == receipt.session);
        let ordered = memory.lanes.is_some();
        if !held {
            if ordered {
                // Whoever leads knows all leases of such a group.
                return Ok(Item::Known(self.how_ended_held(receipt)?, None));
            }
            if receipt.session >> 32 == u64::from(memory.nonce) {
                return Ok(Item::Known(self.how_ended(receipt, now)?, None));
            }
            if self.is_sought_since(receipt) {
                return Ok(Item::Known(SettleStatus::LeaseExpired, None));
            }
            if receipt.expires <= now {
                // It may be said again because its first answer was lost with the leader that gave the lease.
                return Ok(Item::Known(self.how_ended(receipt, now)?, None));
            }
            match request.op {
                // The log compares and sets, whoever gave the lease.
                SettleOp::Ack | SettleOp::Nack | SettleOp::DeadLetter => {}
                SettleOp::Extend | SettleOp::Release => {
                    if let Some(status) = self.adopt(memory, receipt, now)? {
                        return Ok(Item::Known(status, None));
                    }
                }
            }
        }
        let lease = memory.leases.get(&place).filter(|lease| lease.session == receipt.session);
        if lease.is_some_and(|lease| lease.expiring || lease.expires <= now) {
            return Ok(Item::Known(SettleStatus::LeaseExpired, None));
        }
        Ok(match request.op {
            SettleOp::Ack => {
                endings.settle.push(SettleItem { lease: lease_ref(receipt), op: Op::Ack });
                Item::Asked
            }
            SettleOp::Nack | SettleOp::DeadLetter => {
                let Some((entry, base)) = self.entry_of(lease, receipt)? else {
                    return Ok(Item::Known(SettleStatus::Invalid, None));
                };
                let (decision, by) = match (request.op, request.delay_ms) {
                    (SettleOp::DeadLetter, _) => (Decision::DeadLetter { reason: None }, DecidedBy::Consumer),
                    (_, Some(delay_ms)) => (Decision::Again { delay_ms }, DecidedBy::Consumer),
                    (_, None) => (Decision::default(), DecidedBy::Table),
                };
                let end = AttemptEnd {
                    decision,
                    by,
                    record: RecordRef::of(&entry),
                    delivered_at: lease.map_or(0, |lease| lease.delivered_at.0),
                    reason: request.reason.clone(),
                    client_id: lease.and_then(|lease| lease.client.as_deref().map(str::to_owned)),
                };
                endings.push_nack(lease_ref(receipt), end, entry, base);
                Item::Asked
            }
            SettleOp::Extend if ordered => {
                let Item::Known(_, Some(until)) = extend(memory, place, request.lease_ms, now) else {
                    return Ok(Item::Known(SettleStatus::LeaseExpired, None));
                };
                endings.settle.push(SettleItem { lease: lease_ref(receipt), op: Op::Extend(until.0) });
                Item::Extending(until)
            }
            SettleOp::Release if ordered => {
                let op = Op::Release(request.delay_ms.unwrap_or_default());
                endings.settle.push(SettleItem { lease: lease_ref(receipt), op });
                Item::Asked
            }
            SettleOp::Extend => extend(memory, place, request.lease_ms, now),
            SettleOp::Release => release(memory, place, request.delay_ms, now),
        })
    }

    /// How a lease that this leader gave has ended.
    fn how_ended(&self, receipt: &Receipt, now: Timestamp) -> Result<SettleStatus, Error> {
        let (topic, queue, offset) = (receipt.topic, receipt.queue, receipt.offset);
        // Its attempt still counts, so it was released, unless it ran out just now or a seek ended it.
        let over = receipt.expires <= now || self.is_sought_since(receipt);
        let open = if over { SettleStatus::LeaseExpired } else { SettleStatus::AlreadySettled };
        if let Some(row) = self.parts.port.retry(self.id, topic, queue, offset)? {
            let ended = row.history.iter().find(|ended| ended.attempt == receipt.attempt);
            return Ok(match ended {
                _ if row.attempt == receipt.attempt => open,
                Some(ended) if !ended.expired => SettleStatus::AlreadySettled,
                _ => SettleStatus::LeaseExpired,
            });
        }
        let settled = {
            let state = self.parts.port.state();
            state.cursor(self.id, topic, queue).is_some_and(|cursor| cursor.is_settled(offset))
        };
        if settled && self.died_of_expiry(receipt)? {
            return Ok(SettleStatus::LeaseExpired);
        }
        Ok(if settled { SettleStatus::AlreadySettled } else { open })
    }

    /// True if the lease ran out and its message is a dead letter since.
    fn died_of_expiry(&self, receipt: &Receipt) -> Result<bool, Error> {
        let port = &self.parts.port;
        if !port.state().dead.contains_key(&self.id) {
            return Ok(false);
        }
        let entry = port.owed_entry(receipt.topic, receipt.queue, receipt.offset)?;
        let Some(entry) = entry else { return Ok(false) };
        let letter = port.dead_letter(self.id, entry.index, entry.ordinal)?;
        let last = letter.and_then(|letter| letter.history.into_iter().next_back());
        Ok(last.is_some_and(|last| last.attempt == receipt.attempt && last.expired))
    }

    /// True if the queue of a lease that is not remembered was sought in its term or later.
    fn is_sought_since(&self, receipt: &Receipt) -> bool {
        let state = self.parts.port.state();
        let cursor = state.cursor(self.id, receipt.topic, receipt.queue);
        cursor.and_then(Cursor::sought).is_some_and(|sought| receipt.term.0 <= sought.term)
    }

    /// How a lease of a group that keeps an order has ended.
    fn how_ended_held(&self, receipt: &Receipt) -> Result<SettleStatus, Error> {
        let (topic, queue, offset) = (receipt.topic, receipt.queue, receipt.offset);
        let port = &self.parts.port;
        let by_word = match port.held(self.id, topic, queue, offset)? {
            Some(row) => row.history.iter().any(|ended| ended.attempt == receipt.attempt && !ended.expired),
            None => port.state().cursor(self.id, topic, queue).is_some_and(|cursor| cursor.is_settled(offset)),
        };
        Ok(if by_word { SettleStatus::AlreadySettled } else { SettleStatus::LeaseExpired })
    }

    /// Takes over a lease of a leader before this one. Answers the status if it is no lease any more.
    fn adopt(&self, memory: &mut Memory, receipt: &Receipt, now: Timestamp) -> Result<Option<SettleStatus>, Error> {
        let (topic, queue, offset) = (receipt.topic, receipt.queue, receipt.offset);
        let place: Place = (topic, queue, offset.0);
        let known = memory.view.as_ref().is_some_and(|view| view.topic(topic).is_some());
        if !known {
            return Ok(Some(SettleStatus::Invalid));
        }
        if memory.leases.contains_key(&place) {
            // Somebody else has it by now.
            return Ok(Some(SettleStatus::LeaseExpired));
        }
        let Some((entry, base)) = self.entry_of(None, receipt)? else { return Ok(Some(SettleStatus::Invalid)) };
        memory.last_turn += 1;
        let (attempt, turn) = (receipt.attempt, memory.last_turn);
        let candidate = Candidate { topic, queue, offset: offset.0, entry, attempt, base, expires_at: None, turn };
        if !self.is_current(&candidate) {
            return Ok(Some(self.how_ended(receipt, now)?));
        }
        memory.ready.retain(|_, ready| ready.place() != place);
        memory.delayed.remove(&place);
        let (session, expires) = (receipt.session, receipt.expires);
        let lease = LeaseMemory { session, expires, delivered_at: now, client: None, candidate, expiring: false };
        memory.leases.insert(place, lease);
        memory.expiries.push(Reverse((expires, place, session)));
        Ok(None)
    }

    /// Where the message of a lease lies, and its attempts before it was last redriven. What another leader gave is
    /// looked up.
    fn entry_of(&self, lease: Option<&LeaseMemory>, receipt: &Receipt) -> Result<Option<(QueueEntry, u16)>, Error> {
        if let Some(lease) = lease {
            return Ok(Some((lease.candidate.entry, lease.candidate.base)));
        }
        let (topic, queue, offset) = (receipt.topic, receipt.queue, receipt.offset);
        let row = self.parts.port.retry(self.id, topic, queue, offset)?;
        let base = row.as_ref().map_or(0, |row| row.base);
        if let Some(record) = row.and_then(|row| row.record) {
            return Ok(Some((record.entry(), base)));
        }
        let found = self.parts.port.owed_entry(topic, queue, offset)?;
        Ok(found.map(|entry| (entry, base)))
    }

    pub(super) fn follow(&self, topics: Option<super::memory::TopicChange>) {
        if let Some((gone, come)) = topics {
            self.parts.watch.unsubscribe(&self.signal, &gone);
            self.parts.watch.subscribe(&self.signal, &come);
        }
    }
}

/// More time, up to 12 h from the delivery on.
fn extend(memory: &mut Memory, place: Place, lease_ms: Option<u64>, now: Timestamp) -> Item {
    let lease_ms = lease_ms.or_else(|| memory.view.as_ref().map(|view| view.lease_ms));
    let Some(lease) = memory.leases.get_mut(&place) else { return Item::Known(SettleStatus::LeaseExpired, None) };
    let end = lease.delivered_at.plus_ms(limits::LEASE_MS_MAX);
    lease.expires = now.plus_ms(lease_ms.unwrap_or(limits::LEASE_MS_DEFAULT)).min(end);
    let (expires, session) = (lease.expires, lease.session);
    memory.expiries.push(Reverse((expires, place, session)));
    Item::Known(SettleStatus::Extended, Some(expires))
}

/// Gives a message back, uncounted.
fn release(memory: &mut Memory, place: Place, delay_ms: Option<u64>, now: Timestamp) -> Item {
    let Some(lease) = memory.leases.remove(&place) else { return Item::Known(SettleStatus::LeaseExpired, None) };
    if let Some(delay) = delay_ms.filter(|delay| *delay > 0) {
        memory.delayed.insert(place, (now.plus_ms(delay), lease.candidate));
    } else {
        memory.put_back(lease.candidate);
    }
    Item::Known(SettleStatus::Settled, None)
}

fn lease_ref(receipt: &Receipt) -> LeaseRef {
    let Receipt { topic, queue, offset, attempt, .. } = *receipt;
    LeaseRef { topic: topic.0, queue: queue.0, offset: offset.0, attempt }
}

fn status_of(settlement: Option<Settlement>) -> SettleStatus {
    match settlement {
        Some(Settlement::AlreadySettled) => SettleStatus::AlreadySettled,
        Some(Settlement::Expired) => SettleStatus::LeaseExpired,
        Some(Settlement::Unknown) | None => SettleStatus::Invalid,
        // With a full retry set a nack gives the message back after its delay, uncounted.
        Some(Settlement::Settled | Settlement::DeadLettered | Settlement::RetrySetFull) => SettleStatus::Settled,
    }
}
