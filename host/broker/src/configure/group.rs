//! Groups, and the filters written in them.

use pointsman_model::{GroupId, Name, QueueId, TenantId, Timestamp, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{
    BindingConfig, GroupConfig, GroupTopic, Object, Shorthand, Slot, Start, Target,
};
use pointsman_state_machine::state::Group;

use super::binding::default_policy;
use super::new_name;
use super::page::after;
use crate::broker::Home;
use crate::filter::Filter;
use crate::lease::check;
use crate::view::{FilterSpec, GroupSettings, Page, PageRequest, Precondition, Written};
use crate::{Action, Broker, Call, Error};

impl Broker {
    /// Creates or replaces a group. Filters are tried before anything is written.
    ///
    /// # Errors
    /// A bad name, setting or filter, an unknown topic or plugin, a failed precondition, a failed write.
    pub async fn put_group(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        settings: GroupSettings,
        expect: Precondition,
    ) -> Result<Written<Group>, Error> {
        self.authorize(call, tenant, Action::Admin(name))?;
        let name = new_name(name)?;
        check_group(&settings)?;
        let home = self.leading_home(tenant)?;
        let mut topics = Vec::with_capacity(settings.topics.len());
        for (at, (topic, filter)) in settings.topics.iter().enumerate() {
            topics.push(self.group_topic(&home, name.as_str(), at, topic, filter.as_ref(), settings.start).await?);
        }
        let config = GroupConfig {
            topics,
            start: settings.start,
            lease_ms: settings.lease_ms,
            max_retries: settings.max_retries,
            max_inflight: settings.max_inflight,
            dlq_retention_ms: settings.dlq_retention_ms,
            ordering: settings.ordering,
        };
        let object = Object::Group { name: name.to_string(), config };
        let put = self.put(call, &home.shard, home.tenant, expect, object).await?;
        let object = home.shard.port.state().groups.get(&GroupId(put.id)).cloned();
        Ok(Written { object: object.ok_or_else(|| Error::GroupNotFound(name.to_string()))?, created: put.created })
    }

    /// One topic of a group, its filter tried and pinned.
    async fn group_topic(
        &self,
        home: &Home,
        group: &str,
        at: usize,
        topic: &str,
        filter: Option<&FilterSpec>,
        start: Start,
    ) -> Result<GroupTopic, Error> {
        let found = home.shard.port.state().topic(home.tenant, topic).map(|topic| (topic.id, topic.queues()));
        let (id, queues) = found.ok_or_else(|| Error::TopicNotFound(topic.into()))?;
        let filter = match filter {
            Some(spec) => {
                let pointer = format!("/topics/{at}/filter");
                let filter = self.try_filter(home, &format!("{group}:{topic}"), &pointer, spec).await?;
                Some(shorthand(group, topic, spec, filter))
            }
            None => None,
        };
        let start_offsets = match start {
            Start::Time(time) => {
                let offset = |queue| home.shard.port.offset_at(id, QueueId(queue), Timestamp(time)).map(|at| at.0);
                (0..queues).map(offset).collect::<Result<_, _>>()?
            }
            Start::Latest | Start::Earliest => Vec::new(),
        };
        Ok(GroupTopic { topic: topic.into(), filter, start_offsets })
    }

    /// One group.
    ///
    /// # Errors
    /// [`Error::GroupNotFound`].
    pub async fn get_group(&self, call: &Call, tenant: &str, name: &str) -> Result<Group, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let home = self.home(tenant)?;
        let found = home.shard.port.state().group(home.tenant, name).cloned();
        found.ok_or_else(|| home.shard.absent(|| Error::GroupNotFound(name.into())))
    }

    /// The groups of a tenant by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_groups(&self, call: &Call, tenant: &str, page: &PageRequest) -> Result<Page<Group>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let home = self.leading_home(tenant)?;
        self.page(&format!("{}/groups", home.tenant), page, |last, n| {
            let state = home.shard.port.state();
            after(groups(&state, home.tenant), last, n)
        })
    }

    /// Deletes a group with its bindings, cursors and retry set.
    ///
    /// # Errors
    /// A failed precondition, a failed write.
    pub async fn delete_group(&self, call: &Call, tenant: &str, name: &str, expect: Precondition) -> Result<(), Error> {
        self.authorize(call, tenant, Action::Admin(name))?;
        let deleted = self.delete(call, tenant, expect, Target::Group(name.into())).await;
        deleted.map_err(|error| match error {
            Error::GroupNotFound(_) => Error::GroupNotFound(name.into()),
            other => other,
        })
    }
}

fn check_group(settings: &GroupSettings) -> Result<(), Error> {
    let topics = &settings.topics;
    if topics.is_empty() || topics.len() > limits::GROUP_TOPICS_MAX {
        return Err(Error::invalid("/topics", format!("1 to {} topics", limits::GROUP_TOPICS_MAX)));
    }
    for (at, (topic, _)) in topics.iter().enumerate() {
        if topics[..at].iter().any(|(other, _)| other == topic) {
            return Err(Error::invalid(format!("/topics/{at}/topic"), "named twice"));
        }
    }
    check("/lease_ms", settings.lease_ms, limits::LEASE_MS_MIN, limits::LEASE_MS_MAX)?;
    check("/max_retries", settings.max_retries.into(), 0, limits::RETRIES_MAX.into())?;
    check("/max_inflight", settings.max_inflight.into(), 1, limits::INFLIGHT_MAX.into())?;
    check("/dlq_retention_ms", settings.dlq_retention_ms, 1, limits::RETENTION_MS_MAX_DEFAULT)
}

/// The binding that a filter written in a group stands for.
fn shorthand(group: &str, topic: &str, spec: &FilterSpec, filter: Filter) -> Shorthand {
    let tags = match spec {
        FilterSpec::Tags(expression) => Some(expression.clone()),
        FilterSpec::Plugin { .. } => None,
    };
    let binding = BindingConfig {
        slot: Slot::Filter,
        topic: Some(topic.into()),
        group: Some(group.into()),
        plugin: filter.plugin,
        version: filter.resolved.version,
        builtin_digest: filter.resolved.builtin.then_some(filter.resolved.digest),
        config: filter.config,
        keyed: false,
        on_failure: default_policy(Slot::Filter),
        fuel: None,
        memory_bytes: None,
        wall_ms: None,
    };
    Shorthand { tags, binding }
}

fn groups(state: &State, tenant: TenantId) -> impl Iterator<Item = (&str, Group)> {
    let of_tenant = state.groups_by_name.range((tenant, Name::internal(""))..);
    let of_tenant = of_tenant.take_while(move |((of, _), _)| *of == tenant);
    of_tenant.filter_map(|((_, name), id)| Some((name.as_str(), state.groups.get(id)?.clone())))
}
