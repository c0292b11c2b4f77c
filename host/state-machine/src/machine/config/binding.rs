//! Bindings: a plugin version with its config, attached to a topic or a group.

use pointsman_model::{BindingId, GroupId, TenantId, TopicId};

use super::{Entry, Stop, check_expect, name_of, unchanged};
use crate::command::{BindingConfig, Expect, SlotTarget};
use crate::outcome::{Outcome, Refusal};
use crate::state::Binding;

/// How plugins that come with the broker are named.
const BUILTIN_PREFIX: &str = "builtin/";

/// What a binding judges for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Attached {
    topic: Option<TopicId>,
    group: Option<GroupId>,
}

impl Entry<'_> {
    pub(super) fn put_binding(
        &mut self,
        tenant: TenantId,
        expect: &Expect,
        name: &str,
        config: BindingConfig,
    ) -> Result<Outcome, Stop> {
        self.check_tenant(tenant)?;
        let name = name_of(name)?;
        let existing = self.state.binding(tenant, name.as_str()).cloned();
        check_expect(expect, existing.as_ref().map(|binding| binding.revision))?;
        let attached = self.attached(tenant, &config)?;
        let digest = self.digest_of(tenant, &config)?;
        if let Some(holder) =
            self.state.holder(config.slot, attached.topic, attached.group).filter(|holder| holder.name != name)
        {
            return Err(Refusal::InUse(vec![holder.name.to_string()]).into());
        }
        if let Some(binding) = existing.as_ref().filter(|b| b.config == config && b.digest == digest) {
            return Ok(unchanged(binding.id.0, binding.revision));
        }

        let created = existing.is_none();
        if let Some(old) = existing.as_ref().filter(|old| Attached::of(old).bumps() != attached.bumps()) {
            self.bump_target(old.topic, old.group);
        }
        let id = existing.as_ref().map_or_else(|| self.next_binding(), |old| old.id);
        let created_at = existing.map_or(self.now(), |old| old.created_at);
        let revision = self.next_revision();
        let Attached { topic, group } = attached;
        let generation = self.bump_target(topic, group);
        let shorthand = false;
        self.insert_binding(Binding {
            id,
            tenant,
            name,
            config,
            topic,
            group,
            digest,
            generation,
            revision,
            created_at,
            shorthand,
        });
        Ok(Outcome::Configured { created, unchanged: false, revision, id: id.0 })
    }

    pub(super) fn delete_binding(&mut self, tenant: TenantId, expect: &Expect, name: &str) -> Result<Outcome, Stop> {
        let binding = self.state.binding(tenant, name).ok_or(Refusal::BindingNotFound)?;
        check_expect(expect, Some(binding.revision))?;
        if binding.shorthand {
            let group = binding.group.and_then(|id| self.state.groups.get(&id));
            return Err(Refusal::InUse(group.iter().map(|group| group.name.to_string()).collect()).into());
        }
        let (id, topic, group) = (binding.id, binding.topic, binding.group);
        self.remove_binding(id);
        self.bump_target(topic, group);
        Ok(Outcome::Deleted)
    }

    pub(super) fn next_binding(&mut self) -> BindingId {
        self.state.counters.binding += 1;
        BindingId(self.state.counters.binding)
    }

    /// Looks up the digest of the plugin of a binding, which must be of the binding's kind.
    pub(super) fn digest_of(&self, tenant: TenantId, config: &BindingConfig) -> Result<[u8; 32], Refusal> {
        let allowed = config.slot.policies().contains(&config.on_failure);
        if !allowed {
            return Err(Refusal::Malformed(format!("{:?} on failure of a {:?}", config.on_failure, config.slot)));
        }
        match config.builtin_digest {
            Some(digest) if config.plugin.starts_with(BUILTIN_PREFIX) => return Ok(digest),
            Some(_) => {
                return Err(Refusal::Malformed("a digest for a plugin that is not built in".into()));
            }
            None => {}
        }
        let version = self.state.plugin(tenant, &config.plugin, &config.version);
        let version =
            version.ok_or_else(|| Refusal::PluginNotFound(format!("{}@{}", config.plugin, config.version)))?;
        if version.commit.slot == config.slot { Ok(version.commit.digest) } else { Err(Refusal::WrongSlot) }
    }

    fn attached(&self, tenant: TenantId, config: &BindingConfig) -> Result<Attached, Refusal> {
        let topic = match &config.topic {
            Some(name) => {
                let topic = self.state.topic(tenant, name);
                Some(topic.ok_or_else(|| Refusal::TopicNotFound(name.clone()))?.id)
            }
            None => None,
        };
        let fits = match config.slot.target() {
            SlotTarget::Topic => topic.is_some() && config.group.is_none(),
            SlotTarget::Group => topic.is_none() && config.group.is_some(),
            SlotTarget::GroupTopic => config.group.is_some(),
        };
        if !fits {
            return Err(Refusal::Malformed(format!("not what a {:?} is bound to", config.slot)));
        }
        let group = match &config.group {
            Some(name) => Some(self.state.group(tenant, name).ok_or(Refusal::GroupNotFound)?),
            None => None,
        };
        if let (Some(group), Some(topic)) = (group, topic)
            && !group.topic_ids.contains(&topic)
        {
            return Err(Refusal::TopicNotFound(config.topic.clone().unwrap_or_default()));
        }
        Ok(Attached { topic, group: group.map(|group| group.id) })
    }
}

impl Attached {
    fn of(binding: &Binding) -> Self {
        Self { topic: binding.topic, group: binding.group }
    }

    /// The topic or group whose generation a binding moves.
    fn bumps(self) -> (Option<TopicId>, Option<GroupId>) {
        (self.topic.filter(|_| self.group.is_none()), self.group)
    }
}
