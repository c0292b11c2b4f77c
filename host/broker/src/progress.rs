//! Where a group stands: its offsets, what it has before it ([`lag`]), who leases what, and how it goes on elsewhere
//! ([`seek`]) or not at all (pause).

mod lag;
mod seek;

use pointsman_model::QueueId;
use pointsman_state_machine::command::{Expect, Object};

use crate::access::Action;
use crate::configure::page::after;
use crate::error::Error;
use crate::view::{GroupOffset, InflightView, MemberView, Page, PageRequest, TopicStats};
use crate::{Broker, Call};

impl Broker {
    /// Where a group stands in each of its queues, in order of topic and queue.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`].
    pub async fn group_offsets(&self, call: &Call, tenant: &str, group: &str) -> Result<Vec<GroupOffset>, Error> {
        let (home, group) = self.group_id(call, tenant, group, Action::Read)?;
        let state = home.shard.port.state();
        let mut offsets = Vec::new();
        let topics = state.groups.get(&group).into_iter().flat_map(|group| &group.topic_ids);
        for topic in topics.filter_map(|id| state.topics.get(id)) {
            for queue in (0..topic.queues()).map(QueueId) {
                let ends = state.ends(topic.id, queue);
                let committed = state.floor(group, topic.id, queue).0.clamp(ends.earliest, ends.latest);
                let (earliest, latest) = (ends.earliest, ends.latest);
                offsets.push(GroupOffset { topic: topic.name.to_string(), queue, committed, earliest, latest });
            }
        }
        offsets.sort_by(|a, b| (&a.topic, a.queue).cmp(&(&b.topic, b.queue)));
        Ok(offsets)
    }

    /// What a topic holds, and who reads it.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub async fn topic_stats(&self, call: &Call, tenant: &str, topic: &str) -> Result<TopicStats, Error> {
        let home = self.authorize(call, tenant, Action::Read)?;
        let state = home.shard.port.state();
        let Some(topic) = state.topic(home.tenant, topic) else {
            drop(state);
            return Err(home.shard.absent(|| Error::TopicNotFound(topic.into())));
        };
        let ends: Vec<_> = (0..topic.queues()).map(|queue| state.ends(topic.id, QueueId(queue))).collect();
        let readers = state.groups.values().filter(|group| group.topic_ids.contains(&topic.id));
        let mut groups: Vec<_> = readers.map(|group| group.name.to_string()).collect();
        groups.sort();
        Ok(TopicStats {
            queues: topic.queues(),
            messages: ends.iter().map(|ends| ends.latest - ends.earliest).sum(),
            published: ends.iter().map(|ends| ends.latest).sum(),
            groups,
        })
    }

    /// The leases of a group that run, in order of topic, queue and offset.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], [`Error::NoLeader`], a foreign cursor.
    pub async fn inflight(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        page: &PageRequest,
    ) -> Result<Page<InflightView>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, runtime) = self.group(tenant, group)?;
        let leases = runtime.inflight()?;
        self.page(&format!("{}/{}/inflight", home.tenant, runtime.id()), page, |last, n| {
            let mut keyed: Vec<_> = leases
                .into_iter()
                .map(|lease| (format!("{}/{:05}/{:020}", lease.topic, lease.queue.0, lease.offset.0), lease))
                .collect();
            keyed.sort_by(|a, b| a.0.cmp(&b.0));
            after(keyed.iter().map(|(key, lease)| (key.as_str(), lease.clone())), last, n)
        })
    }

    /// Who leased of a group lately, by `client_id`.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], [`Error::NoLeader`], a foreign cursor.
    pub async fn members(
        &self,
        call: &Call,
        tenant: &str,
        group: &str,
        page: &PageRequest,
    ) -> Result<Page<MemberView>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, runtime) = self.group(tenant, group)?;
        let members = runtime.members()?;
        self.page(&format!("{}/{}/members", home.tenant, runtime.id()), page, |last, n| {
            after(members.iter().map(|member| (member.client_id.as_str(), member.clone())), last, n)
        })
    }

    /// Stops the leases of a group, or lets them go on. Leases that run are not touched.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`], a failed write.
    pub async fn pause(&self, call: &Call, tenant: &str, group: &str, paused: bool) -> Result<(), Error> {
        let home = self.authorize(call, tenant, Action::Admin(group))?;
        let object = Object::Pause { group: group.into(), paused };
        let put = self.put(call, &home.shard, home.tenant, Expect::Anything, object).await;
        let put = put.map_err(|error| match error {
            Error::GroupNotFound(_) => Error::GroupNotFound(group.into()),
            other => other,
        })?;
        home.shard.group(pointsman_model::GroupId(put.id)).look_for_retries();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
