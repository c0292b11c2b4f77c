//! Topics.

use pointsman_model::{Name, QueueId, TenantId, Timestamp, TopicId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Object, Target, TopicConfig};
use pointsman_state_machine::state::Topic;

use super::new_name;
use super::page::after;
use crate::broker::Home;
use crate::lease::check;
use crate::view::{Page, PageRequest, Precondition, QueueView, Written};
use crate::{Action, Broker, Call, Error};

impl Broker {
    /// Creates or replaces a topic; `expect` may hold the revision a patch was computed from.
    ///
    /// # Errors
    /// A bad name or setting, a failed precondition, a failed write.
    pub async fn put_topic(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        config: TopicConfig,
        expect: Precondition,
    ) -> Result<Written<Topic>, Error> {
        self.authorize(call, tenant, Action::Admin(name))?;
        let name = new_name(name)?;
        self.check_topic(&config)?;
        let home = self.home(tenant)?;
        let object = Object::Topic { name: name.to_string(), config };
        let put = self.put(call, &home.shard, home.tenant, expect, object).await?;
        let object = home.shard.port.state().topics.get(&TopicId(put.id)).cloned();
        Ok(Written { object: object.ok_or_else(|| Error::TopicNotFound(name.to_string()))?, created: put.created })
    }

    fn check_topic(&self, config: &TopicConfig) -> Result<(), Error> {
        if let Some(queues) = config.queues {
            check("/queues", queues.into(), 1, limits::QUEUES_MAX.into())?;
        }
        check("/retention_ms", config.retention_ms, 1, self.inner.config.retention_ms_max)?;
        check("/max_message_bytes", config.max_message_bytes.into(), 1, limits::MESSAGE_BYTES_CAP.into())?;
        check("/dedup_window_ms", config.dedup_window_ms, 0, limits::DEDUP_WINDOW_MS_MAX)?;
        check("/retention_bytes", config.retention_bytes.unwrap_or(1), 1, u64::MAX)
    }

    /// One topic.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub async fn get_topic(&self, call: &Call, tenant: &str, name: &str) -> Result<Topic, Error> {
        self.authorize(call, tenant, Action::Read)?;
        Ok(self.topic(tenant, name)?.1)
    }

    /// A topic with its home.
    pub(crate) fn topic(&self, tenant: &str, name: &str) -> Result<(Home, Topic), Error> {
        let home = self.home(tenant)?;
        let found = home.shard.port.state().topic(home.tenant, name).cloned();
        let found = found.ok_or_else(|| home.shard.absent(|| Error::TopicNotFound(name.into())))?;
        Ok((home, found))
    }

    /// The topics of a tenant by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_topics(&self, call: &Call, tenant: &str, page: &PageRequest) -> Result<Page<Topic>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let home = self.leading_home(tenant)?;
        self.page(&format!("{}/topics", home.tenant), page, |last, n| {
            let state = home.shard.port.state();
            after(topics(&state, home.tenant), last, n)
        })
    }

    /// The home of a tenant, where this node leads it.
    pub(super) fn leading_home(&self, tenant: &str) -> Result<Home, Error> {
        let home = self.home(tenant)?;
        home.shard.port.leadership().ok_or(Error::NoLeader)?;
        Ok(home)
    }

    /// Deletes a topic that nothing uses.
    ///
    /// # Errors
    /// [`Error::InUse`], a failed precondition, a failed write.
    pub async fn delete_topic(&self, call: &Call, tenant: &str, name: &str, expect: Precondition) -> Result<(), Error> {
        self.authorize(call, tenant, Action::Admin(name))?;
        self.delete(call, tenant, expect, Target::Topic(name.into())).await
    }

    /// The queues of a topic.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub async fn topic_queues(&self, call: &Call, tenant: &str, name: &str) -> Result<Vec<QueueView>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, topic) = self.topic(tenant, name)?;
        let state = home.shard.port.state();
        let view = |queue| {
            let ends = state.ends(topic.id, QueueId(queue));
            QueueView { queue: QueueId(queue), earliest: ends.earliest, latest: ends.latest }
        };
        Ok((0..topic.queues()).map(view).collect())
    }

    /// First offset stored at or after a time, one a queue; the end if there is none.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`], a failed read.
    pub async fn topic_offsets(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        time: Timestamp,
    ) -> Result<Vec<u64>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, topic) = self.topic(tenant, name)?;
        let at = |queue| home.shard.port.offset_at(topic.id, QueueId(queue), time).map(|offset| offset.0);
        Ok((0..topic.queues()).map(at).collect::<Result<_, _>>()?)
    }
}

fn topics(state: &State, tenant: TenantId) -> impl Iterator<Item = (&str, Topic)> {
    let of_tenant = state.topics_by_name.range((tenant, Name::internal(""))..);
    let of_tenant = of_tenant.take_while(move |((of, _), _)| *of == tenant);
    of_tenant.filter_map(|((_, name), id)| Some((name.as_str(), state.topics.get(id)?.clone())))
}
