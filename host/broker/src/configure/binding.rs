//! Bindings: which plugin judges what, tried before it is written.

use pointsman_model::judge::Kind;
use pointsman_model::{BindingId, Name, TenantId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{BindingConfig, FailurePolicy, Object, Slot, SlotTarget, Target};
use pointsman_state_machine::state::Binding;

use super::new_name;
use super::page::after;
use crate::broker::Home;
use crate::judging::{Trial, limits_of, on_failure_of};
use crate::lease::check;
use crate::ports::{JudgeStats, LogLine};
use crate::view::{BindingSettings, Page, PageRequest, Precondition, Written};
use crate::{Action, Broker, Call, Error};

impl Broker {
    /// Creates or replaces a binding; its config is tried first.
    ///
    /// # Errors
    /// A bad name or setting, an unknown plugin or target, a config that `init` refuses, a taken place.
    pub async fn put_binding(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        settings: BindingSettings,
        expect: Precondition,
    ) -> Result<Written<Binding>, Error> {
        self.authorize(call, tenant, Action::Admin(name))?;
        // Who may name a binding may not therefore judge everyone's messages.
        for target in settings.topic.iter().chain(&settings.group) {
            self.authorize(call, tenant, Action::Admin(target))?;
        }
        let name = new_name(name)?;
        let home = self.leading_home(tenant)?;
        check_targets(&home, &settings)?;
        let config = self.try_binding(&home, name.as_str(), settings).await?;
        let object = Object::Binding { name: name.to_string(), config };
        let put = self.put(call, &home.shard, home.tenant, expect, object).await.map_err(|error| match error {
            Error::GroupNotFound(_) => Error::invalid("/group", "no such group"),
            other => other,
        })?;
        let object = home.shard.port.state().bindings.get(&BindingId(put.id)).cloned();
        Ok(Written { object: object.ok_or_else(|| Error::BindingNotFound(name.to_string()))?, created: put.created })
    }

    /// Looks up the plugin and lets it see its config.
    async fn try_binding(&self, home: &Home, name: &str, settings: BindingSettings) -> Result<BindingConfig, Error> {
        check_limits(&settings)?;
        let on_failure = settings.on_failure.unwrap_or(default_policy(settings.slot));
        let policies = settings.slot.policies();
        if !policies.contains(&on_failure) {
            let allowed: Vec<_> = policies.iter().map(|policy| on_failure_of(*policy).as_str()).collect();
            return Err(Error::invalid("/on_failure", format!("one of {}", allowed.join(", "))));
        }
        let bench = &self.inner.bench;
        let resolved = bench.resolve(&*home.shard.port, home.tenant, &settings.plugin, Some(&settings.version))?;
        check_kind(settings.slot, resolved.kind)?;
        let trial = Trial {
            name,
            resolved: &resolved,
            config: &settings.config,
            limits: limits_of(settings.fuel, settings.memory_bytes, settings.wall_ms),
            on_failure: on_failure_of(on_failure),
        };
        bench.try_init(home.tenant, &trial).await.map_err(|words| Error::invalid("/config", words))?;
        Ok(BindingConfig {
            slot: settings.slot,
            topic: settings.topic,
            group: settings.group,
            plugin: settings.plugin,
            version: settings.version,
            builtin_digest: resolved.builtin.then_some(resolved.digest),
            config: settings.config.to_vec(),
            keyed: settings.keyed,
            on_failure,
            fuel: settings.fuel,
            memory_bytes: settings.memory_bytes,
            wall_ms: settings.wall_ms,
        })
    }

    /// One binding; `{group}:{topic}` for a filter written in a group.
    ///
    /// # Errors
    /// [`Error::BindingNotFound`].
    pub async fn get_binding(&self, call: &Call, tenant: &str, name: &str) -> Result<Binding, Error> {
        self.authorize(call, tenant, Action::Read)?;
        Ok(self.binding(tenant, name)?.1)
    }

    fn binding(&self, tenant: &str, name: &str) -> Result<(Home, Binding), Error> {
        let home = self.home(tenant)?;
        let found = home.shard.port.state().binding(home.tenant, name).cloned();
        let found = found.ok_or_else(|| home.shard.absent(|| Error::BindingNotFound(name.into())))?;
        Ok((home, found))
    }

    /// The bindings of a tenant by name.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_bindings(&self, call: &Call, tenant: &str, page: &PageRequest) -> Result<Page<Binding>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let home = self.leading_home(tenant)?;
        self.page(&format!("{}/bindings", home.tenant), page, |last, n| {
            let state = home.shard.port.state();
            after(bindings(&state, home.tenant), last, n)
        })
    }

    /// Deletes a binding.
    ///
    /// # Errors
    /// [`Error::InUse`] for a filter written in a group, a failed precondition, a failed write.
    pub async fn delete_binding(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        expect: Precondition,
    ) -> Result<(), Error> {
        self.authorize(call, tenant, Action::Admin(name))?;
        let deleted = self.delete(call, tenant, expect, Target::Binding(name.into())).await;
        deleted.map_err(|error| match error {
            Error::BindingNotFound(_) => Error::BindingNotFound(name.into()),
            other => other,
        })
    }

    /// What a binding's plugin did on this node.
    ///
    /// # Errors
    /// [`Error::BindingNotFound`].
    pub async fn binding_stats(&self, call: &Call, tenant: &str, name: &str) -> Result<JudgeStats, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, binding) = self.binding(tenant, name)?;
        let judge = self.inner.bench.ready(&*home.shard.port, &binding);
        Ok(judge.and_then(Result::ok).map(|judge| judge.stats()).unwrap_or_default())
    }

    /// The last log lines of a binding's plugin on this node.
    ///
    /// # Errors
    /// [`Error::BindingNotFound`].
    pub async fn binding_logs(&self, call: &Call, tenant: &str, name: &str) -> Result<Vec<LogLine>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let (home, binding) = self.binding(tenant, name)?;
        let judge = self.inner.bench.ready(&*home.shard.port, &binding);
        Ok(judge.and_then(Result::ok).map(|judge| judge.logs()).unwrap_or_default())
    }
}

/// Which of topic and group a slot names, and that they are there.
fn check_targets(home: &Home, settings: &BindingSettings) -> Result<(), Error> {
    let slot = settings.slot.kind();
    let refused = |pointer: &str, names: &str| Err(Error::invalid(pointer, format!("a {slot} names {names}")));
    match (settings.slot.target(), &settings.topic, &settings.group) {
        (SlotTarget::Topic, None, _) => return refused("/topic", "a topic"),
        (SlotTarget::Topic, _, Some(_)) => return refused("/group", "no group"),
        (SlotTarget::Group | SlotTarget::GroupTopic, _, None) => return refused("/group", "a group"),
        (SlotTarget::Group, Some(_), _) => return refused("/topic", "no topic"),
        _ => {}
    }
    if settings.keyed && settings.slot != Slot::Selector {
        return Err(Error::invalid("/keyed", "only of a selector"));
    }
    let state = home.shard.port.state();
    let topic = settings.topic.as_ref().map(|name| {
        state.topic(home.tenant, name).ok_or_else(|| Error::invalid("/topic", format!("no topic `{name}`")))
    });
    let topic = topic.transpose()?.map(|topic| topic.id);
    if let Some(name) = &settings.group {
        let group = state.group(home.tenant, name);
        let group = group.ok_or_else(|| Error::invalid("/group", format!("no group `{name}`")))?;
        if topic.is_some_and(|topic| !group.topic_ids.contains(&topic)) {
            return Err(Error::invalid("/topic", "not a topic of the group"));
        }
    }
    Ok(())
}

fn check_limits(settings: &BindingSettings) -> Result<(), Error> {
    if settings.config.len() > limits::PLUGIN_CONFIG_BYTES_MAX {
        return Err(Error::invalid("/config", format!("at most {} bytes", limits::PLUGIN_CONFIG_BYTES_MAX)));
    }
    check("/limits/fuel", settings.fuel.unwrap_or(1), 1, limits::PLUGIN_FUEL_CAP)?;
    let memory = settings.memory_bytes.unwrap_or(1).into();
    check("/limits/memory_bytes", memory, 1, limits::PLUGIN_MEMORY_BYTES_CAP.into())?;
    check("/limits/wall_ms", settings.wall_ms.unwrap_or(1).into(), 1, limits::PLUGIN_WALL_MS_CAP.into())
}

/// The slot must be the plugin's kind.
pub(super) fn check_kind(slot: Slot, kind: Kind) -> Result<(), Error> {
    if slot.kind() == kind {
        return Ok(());
    }
    Err(Error::invalid("/slot", format!("the plugin is a {kind}")))
}

/// What a slot does on failure if nothing is said.
pub(super) fn default_policy(slot: Slot) -> FailurePolicy {
    slot.policies()[0]
}

fn bindings(state: &State, tenant: TenantId) -> impl Iterator<Item = (&str, Binding)> {
    let of_tenant = state.bindings_by_name.range((tenant, Name::internal(""))..);
    let of_tenant = of_tenant.take_while(move |((of, _), _)| *of == tenant);
    of_tenant.filter_map(|((_, name), id)| Some((name.as_str(), state.bindings.get(id)?.clone())))
}
