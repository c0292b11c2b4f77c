//! Groups: their topics with positions and filters.
//!
//! A filter written in a group is a binding, `{group}:{topic}`, that comes, changes and goes with the group's puts.

use pointsman_model::{Generation, GroupId, Name, QueueId, QueueOffset, TenantId, TopicId, limits};

use super::{Entry, Stop, check_expect, check_quota, name_of, unchanged};
use crate::command::{BindingConfig, Expect, GroupConfig, Ordering, Slot, Start};
use crate::error::Error;
use crate::outcome::{Outcome, Refusal};
use crate::state::{Binding, Cursor, Group, Retry};
use crate::table;

/// A topic of a group that is about to be written.
struct Member {
    topic: TopicId,
    filter: Option<Filter>,
    start_offsets: Vec<u64>,
}

/// A shorthand filter with its plugin looked up.
struct Filter {
    name: Name,
    config: BindingConfig,
    digest: [u8; 32],
}

impl Entry<'_> {
    pub(super) fn put_group(
        &mut self,
        tenant: TenantId,
        expect: &Expect,
        name: &str,
        mut config: GroupConfig,
    ) -> Result<Outcome, Stop> {
        self.check_tenant(tenant)?;
        let name = name_of(name)?;
        let existing = self.state.group(tenant, name.as_str()).cloned();
        check_expect(expect, existing.as_ref().map(|group| group.revision))?;
        let members = self.members(tenant, &name, &mut config)?;
        let topic_ids: Vec<_> = members.iter().map(|member| member.topic).collect();
        if let Some(group) = &existing {
            if group.config == config && group.topic_ids == topic_ids {
                return Ok(unchanged(group.id.0, group.revision));
            }
            self.check_dropped(group, &topic_ids)?;
        }
        self.check_filters(existing.as_ref(), &members)?;
        if existing.is_none() {
            let groups = self.state.groups.values().filter(|group| group.tenant == tenant).count();
            check_quota("groups", groups, self.state.quota(tenant).groups)?;
        }

        let created = existing.is_none();
        let mut group = existing.unwrap_or_else(|| self.new_group(tenant, name));
        let had = std::mem::replace(&mut group.topic_ids, topic_ids);
        for topic in had.iter().filter(|topic| !group.topic_ids.contains(topic)) {
            self.drop_positions(tenant, group.id, Some(*topic))?;
            self.drop_filter(group.id, *topic);
        }
        for member in members.iter().filter(|member| !had.contains(&member.topic)) {
            self.start(group.id, member, config.start);
        }
        if group.config.ordering != config.ordering {
            self.convert_ordering(tenant, group.id, config.ordering)?;
        }
        group.config = config;
        group.revision = self.next_revision();
        let (id, revision) = (group.id, group.revision);
        self.state.groups_by_name.insert((tenant, group.name.clone()), id);
        self.state.groups.insert(id, group);
        let generation = self.bump_group(id);
        for member in members {
            self.put_filter(tenant, id, member, generation);
        }
        Ok(Outcome::Configured { created, unchanged: false, revision, id: id.0 })
    }

    /// Looks up all that a group names, and brings its settings into the form that is kept: without what only told
    /// where to start, and with filters that name what they judge for.
    fn members(&self, tenant: TenantId, group: &Name, config: &mut GroupConfig) -> Result<Vec<Member>, Refusal> {
        if config.topics.len() > limits::GROUP_TOPICS_MAX {
            return Err(Refusal::Malformed(format!("a group of {} topics", config.topics.len())));
        }
        let mut members: Vec<Member> = Vec::with_capacity(config.topics.len());
        for of_group in &mut config.topics {
            let topic = self.state.topic(tenant, &of_group.topic);
            let topic = topic.ok_or_else(|| Refusal::TopicNotFound(of_group.topic.clone()))?.id;
            if members.iter().any(|member| member.topic == topic) {
                return Err(Refusal::Malformed(format!("topic {} is named twice", of_group.topic)));
            }
            let filter = match &mut of_group.filter {
                Some(shorthand) => {
                    let config = &mut shorthand.binding;
                    config.topic = Some(of_group.topic.clone());
                    config.group = Some(group.to_string());
                    if config.slot != Slot::Filter {
                        return Err(Refusal::WrongSlot);
                    }
                    let digest = self.digest_of(tenant, config)?;
                    let name = Name::internal(&format!("{group}:{}", of_group.topic));
                    Some(Filter { name, config: config.clone(), digest })
                }
                None => None,
            };
            members.push(Member { topic, filter, start_offsets: std::mem::take(&mut of_group.start_offsets) });
        }
        Ok(members)
    }

    /// A topic that the group gives up must not be one that a binding of the user's names.
    fn check_dropped(&self, group: &Group, topics: &[TopicId]) -> Result<(), Refusal> {
        let named = self.state.bindings.values().filter(|b| b.group == Some(group.id) && !b.shorthand);
        let lost = named.filter(|b| b.topic.is_some_and(|topic| !topics.contains(&topic)));
        let users: Vec<_> = lost.map(|binding| binding.name.to_string()).collect();
        if users.is_empty() { Ok(()) } else { Err(Refusal::InUse(users)) }
    }

    /// A filter in the group must not come beside one of the user's for the same topic.
    fn check_filters(&self, group: Option<&Group>, members: &[Member]) -> Result<(), Refusal> {
        let Some(group) = group else { return Ok(()) };
        for member in members.iter().filter(|member| member.filter.is_some()) {
            let holder = self.state.filters.get(&(group.id, Some(member.topic)));
            let holder = holder.and_then(|id| self.state.bindings.get(id));
            if let Some(holder) = holder.filter(|holder| !holder.shorthand) {
                return Err(Refusal::InUse(vec![holder.name.to_string()]));
            }
        }
        Ok(())
    }

    /// A group without settings and topics, not yet in the state.
    fn new_group(&mut self, tenant: TenantId, name: Name) -> Group {
        self.state.counters.group += 1;
        Group {
            id: GroupId(self.state.counters.group),
            tenant,
            name,
            config: GroupConfig {
                topics: Vec::new(),
                start: Start::default(),
                lease_ms: 0,
                max_retries: 0,
                max_inflight: 0,
                dlq_retention_ms: 0,
                ordering: Ordering::None,
            },
            topic_ids: Vec::new(),
            generation: Generation::default(),
            revision: 0,
            created_at: self.now(),
            paused: false,
        }
    }

    /// Stops or restarts the leases of a group. Neither its revision nor its generation moves.
    pub(super) fn pause_group(
        &mut self,
        tenant: TenantId,
        expect: &Expect,
        name: &str,
        paused: bool,
    ) -> Result<Outcome, Stop> {
        let group = self.state.group(tenant, name).ok_or(Refusal::GroupNotFound)?;
        check_expect(expect, Some(group.revision))?;
        let (id, revision, unchanged) = (group.id, group.revision, group.paused == paused);
        if let Some(group) = self.state.groups.get_mut(&id).filter(|_| !unchanged) {
            group.paused = paused;
            self.changes.put(table::group_key(tenant, id), table::encode(&table::GroupRow::from(&*group)));
            self.changes.config_changed = true;
        }
        Ok(Outcome::Configured { created: false, unchanged, revision, id: id.0 })
    }

    /// Puts a group at its start in every queue of a topic that is new to it. A cursor at 0 needs no row.
    fn start(&mut self, group: GroupId, member: &Member, start: Start) {
        let queues = self.state.topics.get(&member.topic).map_or(0, |topic| topic.queues());
        for queue in (0..queues).map(QueueId) {
            let ends = self.state.ends(member.topic, queue);
            let floor = match start {
                Start::Latest => ends.latest,
                Start::Earliest => ends.earliest,
                // A queue that the leader did not see has no message from before.
                Start::Time(_) => {
                    let found = member.start_offsets.get(usize::from(queue.0)).copied().unwrap_or(0);
                    found.clamp(ends.earliest, ends.latest)
                }
            };
            if floor > 0 {
                let place = (group, member.topic, queue);
                self.state.cursors.insert(place, Cursor::at(QueueOffset(floor)));
                self.changes.cursors.entry(place).or_default();
            }
        }
    }

    /// Writes, replaces, keeps or takes away the shorthand filter of a topic.
    fn put_filter(&mut self, tenant: TenantId, group: GroupId, member: Member, generation: Generation) {
        let held = self.state.filters.get(&(group, Some(member.topic)));
        let held = held.and_then(|id| self.state.bindings.get(id)).filter(|binding| binding.shorthand).cloned();
        let Some(filter) = member.filter else {
            if held.is_some() {
                self.drop_filter(group, member.topic);
            }
            return;
        };
        if held.as_ref().is_some_and(|held| held.config == filter.config && held.digest == filter.digest) {
            return;
        }
        let id = held.as_ref().map_or_else(|| self.next_binding(), |held| held.id);
        let binding = Binding {
            id,
            tenant,
            name: filter.name,
            config: filter.config,
            topic: Some(member.topic),
            group: Some(group),
            digest: filter.digest,
            generation,
            revision: self.next_revision(),
            created_at: held.map_or(self.now(), |held| held.created_at),
            shorthand: true,
        };
        self.insert_binding(binding);
    }

    fn drop_filter(&mut self, group: GroupId, topic: TopicId) {
        if let Some(id) = self.state.filters.get(&(group, Some(topic))).copied() {
            self.remove_binding(id);
        }
    }

    pub(super) fn delete_group(&mut self, tenant: TenantId, expect: &Expect, name: &str) -> Result<Outcome, Stop> {
        let group = self.state.group(tenant, name).ok_or(Refusal::GroupNotFound)?;
        check_expect(expect, Some(group.revision))?;
        let id = group.id;
        self.drop_positions(tenant, id, None)?;
        let bindings: Vec<_> = self.state.bindings.values().filter(|b| b.group == Some(id)).map(|b| b.id).collect();
        for binding in bindings {
            self.remove_binding(binding);
        }
        self.changes.delete(table::retrying_key(tenant, id));
        self.drop_dead_letters(tenant, id)?;
        self.changes.delete(table::group_key(tenant, id));
        if let Some(group) = self.state.groups.remove(&id) {
            self.state.groups_by_name.remove(&(tenant, group.name));
        }
        self.changes.config_changed = true;
        Ok(Outcome::Deleted)
    }

    /// Forgets cursors, retry rows and held rows of a group, in one topic or in all.
    fn drop_positions(&mut self, tenant: TenantId, group: GroupId, topic: Option<TopicId>) -> Result<(), Error> {
        let (first, last) = topic.map_or((TopicId(0), TopicId(u32::MAX)), |topic| (topic, topic));
        let places = (group, first, QueueId(0))..=(group, last, QueueId(u16::MAX));
        let places: Vec<_> = self.state.cursors.range(places).map(|(place, _)| *place).collect();
        for place in places {
            let (_, topic, queue) = place;
            self.changes.delete(table::cursor_key(tenant, group, topic, queue));
            let touched = self.changes.cursors.remove(&place).unwrap_or_default();
            let cursor = self.state.cursors.remove(&place).unwrap_or_default();
            for block in touched.into_keys().chain(cursor.block_numbers()) {
                self.changes.delete(table::cursor_block_key(tenant, group, topic, queue, block));
            }
        }
        for (key, value) in self.changes.scan(self.store, &table::retry_prefix(tenant, group, topic))? {
            let retry: Retry = table::decode(&key, &value)?;
            self.drop_retry(tenant, group, &retry);
        }
        self.drop_held(tenant, group, topic, None)
    }
}
