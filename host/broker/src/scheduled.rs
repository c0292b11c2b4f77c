//! Messages that wait for their time: list, look at, cancel, change.

use pointsman_model::delay::Delay;
use pointsman_model::record::{Header, kind};
use pointsman_model::{LogIndex, MessageId, Ordinal, Timestamp, limits};
use pointsman_state_machine::command::{Durability, Place, TimerChange, TimerOp};
use pointsman_state_machine::outcome::Outcome;
use pointsman_state_machine::state::{Parked, Timer};

use crate::batcher::Request;
use crate::broker::Home;
use crate::cursor::{open_list, seal_list};
use crate::lease::check;
use crate::lookup::id_at;
use crate::refusal::accepted;
use crate::view::{MessageById, Page, PageRequest, ScheduledMessage};
use crate::{Action, Broker, Call, Error};

impl Broker {
    /// Messages of a topic that wait for their time, the earliest first. A page may hold fewer than asked for and still
    /// have a next one: large payloads and other topics' timers end it early.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], [`Error::InvalidCursor`], a failed read.
    pub async fn list_scheduled(
        &self,
        call: &Call,
        tenant: &str,
        topic: &str,
        page: &PageRequest,
    ) -> Result<Page<ScheduledMessage>, Error> {
        self.authorize(call, tenant, Action::Publish(topic))?;
        let limit = if page.limit == 0 { limits::PAGE_ITEMS_DEFAULT } else { page.limit };
        check("limit", limit.into(), 1, limits::PAGE_ITEMS_MAX.into())?;
        let (home, topic) = self.topic(tenant, topic)?;
        let route = format!("{tenant}/{}/scheduled", topic.id);
        let mut after = match &page.cursor {
            Some(cursor) => Some(place_of(&open_list(cursor, &route, &self.inner.keys)?)?),
            None => None,
        };
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut rows = 0;
        loop {
            let step = (limits::PAGE_ITEMS_MAX as usize).min(limits::TIMER_PAGE_ROWS_MAX - rows);
            let timers = home.shard.port.timers(home.tenant, after, step)?;
            let last = timers.len() < step;
            rows += timers.len();
            for timer in timers {
                if timer.topic == topic.id
                    && let Some(found) = scheduled_at(&home, &timer)?
                {
                    bytes += found.record.body.len();
                    let full = items.len() == limit as usize || bytes > limits::LEASE_BYTES_MAX as usize;
                    if full && !items.is_empty() {
                        return self.scheduled_page(items, &route, after);
                    }
                    items.push(found);
                }
                after = Some((timer.due, timer.index, timer.ordinal));
            }
            if last {
                return Ok(Page { items, next_cursor: None });
            }
            if rows >= limits::TIMER_PAGE_ROWS_MAX {
                return self.scheduled_page(items, &route, after);
            }
            tokio::task::yield_now().await;
        }
    }

    fn scheduled_page(
        &self,
        items: Vec<ScheduledMessage>,
        route: &str,
        after: Option<(Timestamp, LogIndex, Ordinal)>,
    ) -> Result<Page<ScheduledMessage>, Error> {
        let seal = |(due, index, ordinal): (Timestamp, LogIndex, Ordinal)| {
            seal_list(route, &format!("{}.{}.{}", due.0, index.0, ordinal.0), &self.inner.keys)
        };
        Ok(Page { items, next_cursor: after.map(seal).transpose()? })
    }

    /// A message that waits for its time.
    ///
    /// # Errors
    /// [`Error::AlreadyDelivered`], [`Error::MessageNotFound`].
    pub async fn get_scheduled(&self, call: &Call, tenant: &str, id: MessageId) -> Result<ScheduledMessage, Error> {
        let home = self.authorize(call, tenant, Action::PublishSome)?;
        let found = self.message_at(&home, id)?;
        self.authorize(call, tenant, Action::Publish(found.topic()))?;
        match found {
            MessageById::Scheduled(scheduled) => Ok(scheduled),
            MessageById::Stored(_) => Err(Error::AlreadyDelivered),
        }
    }

    /// Cancels a message that waits for its time: it is never delivered.
    ///
    /// # Errors
    /// As [`Self::get_scheduled`], and what keeps the change out of the log.
    pub async fn cancel_scheduled(&self, call: &Call, tenant: &str, id: MessageId) -> Result<(), Error> {
        let found = self.get_scheduled(call, tenant, id).await?;
        self.change_timer(call, tenant, &found, TimerOp::Cancel).await.map(|_| ())
    }

    /// Delivers a message that waits for its time at another time; at once if that is now or past.
    ///
    /// # Errors
    /// As [`Self::get_scheduled`], [`Error::InvalidRequest`] for a time too far ahead, and what keeps the change out of
    /// the log.
    pub async fn change_scheduled(
        &self,
        call: &Call,
        tenant: &str,
        id: MessageId,
        delay: Delay,
    ) -> Result<ScheduledMessage, Error> {
        let found = self.get_scheduled(call, tenant, id).await?;
        let invalid = |detail: String| Error::invalid(format!("/{}", delay.field()), detail);
        delay.validate().map_err(invalid)?;
        let now = self.home(tenant)?.shard.port.now();
        let due = delay.due(now, self.inner.config.time_scale).map_err(|error| invalid(error.to_string()))?;
        let deliver_at = due.unwrap_or(now);
        self.change_timer(call, tenant, &found, TimerOp::Due(deliver_at.0)).await?;
        self.home(tenant)?.shard.parts.timers.expect(deliver_at);
        Ok(ScheduledMessage { deliver_at, ..found })
    }

    /// `apply` says whether the message waited still.
    async fn change_timer(
        &self,
        call: &Call,
        tenant: &str,
        found: &ScheduledMessage,
        op: TimerOp,
    ) -> Result<Option<Timestamp>, Error> {
        let home = self.home(tenant)?;
        let term = home.shard.port.leadership().ok_or(Error::NoLeader)?;
        let id = found.id;
        let place = Place { term: id.term.0, index: id.index.0, ordinal: id.ordinal.0 };
        let header = Header {
            kind: kind::TIMER_CHANGE,
            tenant: home.tenant,
            topic: found.record.header.topic,
            born: self.inner.clock.wall(),
            ..Header::default()
        };
        let request = Request { tenant: home.tenant, term, deadline: call.deadline, ack: Durability::Quorum };
        let batcher = &home.shard.parts.batcher;
        let ticket = batcher.submit(request, 0, |writer| writer.write(&header, &TimerChange { place, op }, &[]))?;
        let answer = batcher.wait(ticket, call.deadline).await?;
        match accepted(answer.outcomes().first())? {
            Outcome::TimerChanged { deliver_at } => Ok(*deliver_at),
            other => Err(Error::Internal(format!("a timer change came to {other:?}"))),
        }
    }
}

/// The message of a timer, unless it was delivered or changed since.
fn scheduled_at(home: &Home, timer: &Timer) -> Result<Option<ScheduledMessage>, Error> {
    let parked = home.shard.port.parked(home.tenant, timer.index, timer.ordinal)?;
    let parked = parked.filter(|parked| parked.deliver_at() == Some(timer.due));
    parked.map_or(Ok(None), |parked| scheduled(home, &parked))
}

/// A parked message as readers see it; `None` for one that waits for no time, or whose topic is gone.
pub(crate) fn scheduled(home: &Home, parked: &Parked) -> Result<Option<ScheduledMessage>, Error> {
    let port = &home.shard.port;
    let Some(deliver_at) = parked.deliver_at() else { return Ok(None) };
    let record = port.record(&parked.entry())?;
    let topic = port.state().topics.get(&record.header.topic).map(|topic| topic.name.clone());
    let id = id_at(port.id(), parked.place);
    Ok(topic.map(|topic| ScheduledMessage { id, topic, deliver_at, record }))
}

/// The place that a cursor holds.
fn place_of(text: &str) -> Result<(Timestamp, LogIndex, Ordinal), Error> {
    let mut parts = text.split('.');
    let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
    let place = (|| Some((Timestamp(next()?), LogIndex(next()?), Ordinal(u16::try_from(next()?).ok()?))))();
    place.ok_or_else(|| Error::InvalidCursor { detail: "not a cursor of this list".into() })
}

#[cfg(test)]
mod tests;
