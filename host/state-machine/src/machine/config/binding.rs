//! Bindings: a plugin version with its config, attached to a topic or a group.

use pointsman_model::{BindingId, GroupId, TenantId, TopicId};

use super::{Entry, Stop, check_expect, name_of, unchanged};
use crate::command::{BindingConfig, Expect, FailurePolicy, Slot};
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
        if let Some(holder) = self.holder(config.slot, attached).filter(|holder| holder.name != name) {
            return Err(Refusal::InUse(vec![holder.name.to_string()]).into());
        }
        if let Some(binding) = existing.as_ref().filter(|b| b.config == config && b.digest == digest) {
            return Ok(unchanged(binding.id.0, binding.revision));
        }

        let created = existing.is_none();
        if let Some(old) =
            existing.as_ref().filter(|old| Attached::of(old).bumps(old.config.slot) != attached.bumps(config.slot))
        {
            self.bump_target(old.config.slot, old.topic, old.group);
        }
        let id = existing.as_ref().map_or_else(|| self.next_binding(), |old| old.id);
        let created_at = existing.map_or(self.now(), |old| old.created_at);
        let revision = self.next_revision();
        let Attached { topic, group } = attached;
        let generation = self.bump_target(config.slot, topic, group);
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
        let (id, slot, topic, group) = (binding.id, binding.config.slot, binding.topic, binding.group);
        self.remove_binding(id);
        self.bump_target(slot, topic, group);
        Ok(Outcome::Deleted)
    }

    pub(super) fn next_binding(&mut self) -> BindingId {
        self.state.counters.binding += 1;
        BindingId(self.state.counters.binding)
    }

    /// Looks up the digest of the plugin of a binding, which must be of the binding's kind.
    pub(super) fn digest_of(&self, tenant: TenantId, config: &BindingConfig) -> Result<[u8; 32], Refusal> {
        let allowed = match config.slot {
            Slot::Selector => matches!(config.on_failure, FailurePolicy::Hash | FailurePolicy::Refuse),
            Slot::Filter => !matches!(config.on_failure, FailurePolicy::Hash | FailurePolicy::Refuse),
        };
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
        match (config.slot, &config.group) {
            (Slot::Selector, None) if topic.is_some() => Ok(Attached { topic, group: None }),
            (Slot::Selector, _) => Err(Refusal::Malformed("a selector names a topic and no group".into())),
            (Slot::Filter, None) => Err(Refusal::Malformed("a filter names a group".into())),
            (Slot::Filter, Some(group)) => {
                let group = self.state.group(tenant, group).ok_or(Refusal::GroupNotFound)?;
                if topic.is_some_and(|topic| !group.topic_ids.contains(&topic)) {
                    return Err(Refusal::TopicNotFound(config.topic.clone().unwrap_or_default()));
                }
                Ok(Attached { topic, group: Some(group.id) })
            }
        }
    }

    /// The binding that judges there now.
    fn holder(&self, slot: Slot, attached: Attached) -> Option<&Binding> {
        let id = match (slot, attached.topic, attached.group) {
            (Slot::Selector, Some(topic), _) => self.state.selectors.get(&topic),
            (Slot::Filter, topic, Some(group)) => self.state.filters.get(&(group, topic)),
            _ => None,
        };
        id.and_then(|id| self.state.bindings.get(id))
    }
}

impl Attached {
    fn of(binding: &Binding) -> Self {
        Self { topic: binding.topic, group: binding.group }
    }

    /// The topic or group whose generation a binding of that kind moves.
    fn bumps(self, slot: Slot) -> (Option<TopicId>, Option<GroupId>) {
        match slot {
            Slot::Selector => (self.topic, None),
            Slot::Filter => (None, self.group),
        }
    }
}
