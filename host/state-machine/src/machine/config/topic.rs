//! Topics: create, change, grow, delete.

use pointsman_model::{Generation, QueueId, QueueOffset, TenantId, TopicId, limits};

use super::{Entry, Stop, check_expect, check_quota, name_of, unchanged};
use crate::command::{Expect, TopicConfig};
use crate::outcome::{Outcome, Refusal};
use crate::state::{SlotTable, Topic};
use crate::table;

impl Entry<'_> {
    pub(super) fn put_topic(
        &mut self,
        tenant: TenantId,
        expect: &Expect,
        name: &str,
        mut config: TopicConfig,
    ) -> Result<Outcome, Stop> {
        self.check_tenant(tenant)?;
        let name = name_of(name)?;
        let existing = self.state.topic(tenant, name.as_str());
        check_expect(expect, existing.map(|topic| topic.revision))?;
        let had = existing.map(Topic::queues);
        let queues = config.queues.or(had).unwrap_or(limits::QUEUES_DEFAULT);
        if queues == 0 || queues > limits::QUEUES_MAX {
            return Err(Refusal::Malformed(format!("a topic of {queues} queues")).into());
        }
        if let Some(had) = had.filter(|had| queues < *had) {
            return Err(Refusal::FewerQueues(had).into());
        }
        config.queues = Some(queues);
        if let Some(topic) = existing {
            if topic.config == config {
                return Ok(unchanged(topic.id.0, topic.revision));
            }
            let topic = topic.clone();
            return Ok(self.change_topic(topic, config));
        }

        let topics = self.state.topics.values().filter(|topic| topic.tenant == tenant).count();
        check_quota("topics", topics, self.state.quota(tenant).topics)?;
        self.state.counters.topic += 1;
        let id = TopicId(self.state.counters.topic);
        let revision = self.next_revision();
        let slots = SlotTable::new(queues);
        let (created_at, generation) = (self.now(), Generation::default());
        let topic = Topic { id, tenant, name: name.clone(), config, generation, revision, created_at, slots };
        self.state.topics_by_name.insert((tenant, name), id);
        self.state.topics.insert(id, topic);
        self.bump_topic(id);
        Ok(Outcome::Configured { created: true, unchanged: false, revision, id: id.0 })
    }

    fn change_topic(&mut self, mut topic: Topic, config: TopicConfig) -> Outcome {
        let (id, had) = (topic.id, topic.queues());
        topic.config = config;
        topic.revision = self.next_revision();
        if topic.queues() > had {
            let state = &*self.state;
            topic.slots.grow(had, topic.queues(), |queue| QueueOffset(state.ends(id, queue).latest));
        }
        let revision = topic.revision;
        self.state.topics.insert(id, topic);
        self.bump_topic(id);
        Outcome::Configured { created: false, unchanged: false, revision, id: id.0 }
    }

    pub(super) fn delete_topic(&mut self, tenant: TenantId, expect: &Expect, name: &str) -> Result<Outcome, Stop> {
        let topic = self.state.topic(tenant, name).ok_or_else(|| Refusal::TopicNotFound(name.into()))?;
        check_expect(expect, Some(topic.revision))?;
        let id = topic.id;
        let groups = self.state.groups.values().filter(|group| group.topic_ids.contains(&id)).map(|group| &group.name);
        // A shorthand filter's group is named already.
        let bindings = self.state.bindings.values().filter(|binding| binding.topic == Some(id) && !binding.shorthand);
        let mut users: Vec<_> = groups.chain(bindings.map(|binding| &binding.name)).map(ToString::to_string).collect();
        users.extend(
            self.transactions_of_topic(tenant, id)?.iter().map(|place| place.transaction(self.meta.shard).to_string()),
        );
        if !users.is_empty() {
            return Err(Refusal::InUse(users).into());
        }
        self.drop_parked(tenant, id)?;
        let places = (id, QueueId(0))..=(id, QueueId(u16::MAX));
        let queues: Vec<_> = self.state.queues.range(places).map(|(place, _)| *place).collect();
        for place in queues {
            let bytes = self.state.queues.remove(&place).map_or(0, |ends| ends.bytes);
            self.give_back_stored(tenant, bytes);
            self.changes.delete(table::queue_key(tenant, id, place.1));
        }
        if let Some(topic) = self.state.topics.remove(&id) {
            self.state.topics_by_name.remove(&(tenant, topic.name));
        }
        if self.state.dedup_keys.contains_key(&id) {
            self.state.dedup_left.insert(id, tenant);
        }
        self.changes.delete(table::topic_key(tenant, id));
        self.changes.config_changed = true;
        Ok(Outcome::Deleted)
    }
}
