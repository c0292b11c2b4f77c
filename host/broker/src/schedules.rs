//! Schedules: messages that are published again and again. Their runs are in [`run`].

pub(crate) mod cron;
pub(crate) mod run;

use pointsman_model::message::NewMessage;
use pointsman_model::{Name, QueueId, TenantId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Object, ScheduleConfig, ScheduleMessage, Target};
use pointsman_state_machine::state::Schedule;

use crate::configure::{after, new_name};
use crate::view::{Page, PageRequest, Precondition, ScheduleSettings, Written};
use crate::{Action, Broker, Call, Error};
use cron::Timetable;

impl Broker {
    /// Creates or replaces a schedule.
    ///
    /// # Errors
    /// A bad name or setting, [`Error::TopicNotFound`], a failed precondition, a failed write.
    pub async fn put_schedule(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        settings: ScheduleSettings,
        expect: Precondition,
    ) -> Result<Written<Schedule>, Error> {
        let home = self.authorize(call, tenant, Action::Publish(&settings.topic))?;
        let existing = home.shard.port.state().schedule(home.tenant, name).map(|s| s.config.topic.clone());
        if let Some(topic) = existing {
            // Who takes it away from a topic publishes there no more, which is that topic's business too.
            self.authorize(call, tenant, Action::Publish(&topic))?;
        }
        let name = new_name(name)?;
        let ScheduleSettings { cron, timezone, topic, message } = settings;
        if message.body.len() > limits::SCHEDULE_BODY_BYTES_MAX {
            return Err(Error::MessageTooLarge { limit: limits::SCHEDULE_BODY_BYTES_MAX as u32 });
        }
        {
            // What could never be published is refused now, and not at every run.
            let state = home.shard.port.state();
            let found = state.topic(home.tenant, &topic).ok_or_else(|| Error::TopicNotFound(topic.clone()))?;
            if message.queue.is_some_and(|queue| queue.0 >= found.queues()) {
                let detail = format!("the topic has the queues 0 to {}", found.queues() - 1);
                return Err(Error::invalid("/message/queue", detail));
            }
            if message.body.len() > found.config.max_message_bytes as usize {
                return Err(Error::MessageTooLarge { limit: found.config.max_message_bytes });
            }
        }
        let invalid = |(field, detail): cron::Invalid| Error::invalid(format!("/{field}"), detail);
        let next = Timetable::parse(&cron, &timezone).map_err(invalid)?.next(home.shard.port.now());
        let next = next.ok_or_else(|| Error::invalid("/cron", "is never due"))?;
        let config = ScheduleConfig { cron, timezone, topic, message: stored(message) };
        let object = Object::Schedule { name: name.to_string(), config, next: Some(next.0) };
        let put = self.put(call, &home.shard, home.tenant, expect, object).await?;
        let object = home.shard.port.state().schedules.get(&put.id).cloned();
        let object = object.ok_or_else(|| Error::ScheduleNotFound(name.to_string()))?;
        Ok(Written { object, created: put.created })
    }

    /// One schedule.
    ///
    /// # Errors
    /// [`Error::ScheduleNotFound`].
    pub async fn get_schedule(&self, call: &Call, tenant: &str, name: &str) -> Result<Schedule, Error> {
        let home = self.authorize(call, tenant, Action::Read)?;
        let found = home.shard.port.state().schedule(home.tenant, name).cloned();
        found.ok_or_else(|| home.shard.absent(|| Error::ScheduleNotFound(name.into())))
    }

    /// The schedules of a tenant by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_schedules(&self, call: &Call, tenant: &str, page: &PageRequest) -> Result<Page<Schedule>, Error> {
        let home = self.authorize(call, tenant, Action::Read)?;
        home.shard.port.leadership().ok_or(Error::NoLeader)?;
        self.page(&format!("{}/schedules", home.tenant), page, |last, n| {
            let state = home.shard.port.state();
            after(schedules(&state, home.tenant), last, n)
        })
    }

    /// Deletes a schedule. What it published stays.
    ///
    /// # Errors
    /// [`Error::ScheduleNotFound`], a failed precondition, a failed write.
    pub async fn delete_schedule(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        expect: Precondition,
    ) -> Result<(), Error> {
        let home = self.authorize(call, tenant, Action::PublishSome)?;
        let topic = self.get_schedule(call, tenant, name).await?.config.topic;
        self.authorize(call, tenant, Action::Publish(&topic))?;
        let target = Target::Schedule(name.into());
        match self.delete_in(call, &home.shard, home.tenant, expect, target).await {
            // Gone since the look above.
            Err(Error::ScheduleNotFound(_)) => Err(Error::ScheduleNotFound(name.into())),
            done => done,
        }
    }
}

fn schedules(state: &State, tenant: TenantId) -> impl Iterator<Item = (&str, Schedule)> {
    let of_tenant = state.schedules_by_name.range((tenant, Name::internal(""))..);
    let of_tenant = of_tenant.take_while(move |((of, _), _)| *of == tenant);
    of_tenant.filter_map(|((_, name), id)| Some((name.as_str(), state.schedules.get(id)?.clone())))
}

/// What is kept of a message.
fn stored(message: NewMessage) -> ScheduleMessage {
    ScheduleMessage {
        content_type: message.content_type,
        tag: message.tag,
        keys: message.keys,
        ordering_key: message.ordering_key,
        queue: message.queue.map(|queue| queue.0),
        properties: message.properties,
        ttl_ms: message.ttl_ms.unwrap_or_default(),
        priority: message.priority,
        body: message.body.to_vec(),
    }
}

/// The message that a run publishes.
fn message(stored: &ScheduleMessage) -> NewMessage {
    NewMessage {
        content_type: stored.content_type.clone(),
        body: stored.body.clone().into(),
        tag: stored.tag.clone(),
        keys: stored.keys.clone(),
        ordering_key: stored.ordering_key.clone(),
        queue: stored.queue.map(QueueId),
        properties: stored.properties.clone(),
        ttl_ms: Some(stored.ttl_ms).filter(|ttl| *ttl > 0),
        priority: stored.priority,
        ..NewMessage::default()
    }
}

#[cfg(test)]
mod tests;
