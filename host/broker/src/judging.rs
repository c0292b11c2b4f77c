//! The judges that bindings stand for, bound lazily and kept while the binding stays as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_model::judge::{CallLimits, Kind, OnFailure, Plan};
use pointsman_model::{BindingId, Generation, TenantId};
use pointsman_state_machine::command::FailurePolicy;
use pointsman_state_machine::state::{Binding, State};
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::ports::{Builtin, Judge, JudgeSpec, Judges, Shard};

/// How long a judge that could not be bound is not tried again.
const BIND_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Config of a plugin that is given none.
const NO_CONFIG: &[u8] = b"{}";

/// A judge, or why there is none.
type Bound = Result<Arc<dyn Judge>, String>;

/// All judges of this node.
pub(crate) struct Bench {
    judges: Arc<dyn Judges>,
    builtins: Vec<Builtin>,
    bound: Mutex<HashMap<(pointsman_model::ShardId, BindingId), Arc<Place>>>,
}

/// The judge of one version of a binding.
struct Place {
    revision: u64,
    generation: Generation,
    made: Instant,
    judge: OnceCell<Bound>,
}

impl Place {
    fn is_of(&self, binding: &Binding) -> bool {
        let failed_long_ago =
            matches!(self.judge.get(), Some(Err(_))) && crate::call::now() >= self.made + BIND_AGAIN_AFTER;
        self.revision == binding.revision && self.generation == binding.generation && !failed_long_ago
    }
}

impl Bench {
    pub(crate) fn new(judges: Arc<dyn Judges>) -> Self {
        let builtins = judges.builtins();
        Self { judges, builtins, bound: Mutex::default() }
    }

    pub(crate) fn judges(&self) -> &Arc<dyn Judges> {
        &self.judges
    }

    pub(crate) fn builtins(&self) -> &[Builtin] {
        &self.builtins
    }

    /// A built-in by its name without `builtin/`; the newest version if none is asked for.
    pub(crate) fn builtin(&self, name: &str, version: Option<&str>) -> Option<&Builtin> {
        let of_name = self.builtins.iter().filter(|b| b.name == name && version.is_none_or(|v| b.version == v));
        of_name.max_by_key(|b| semver::Version::parse(&b.version).ok())
    }

    /// The judge of a binding, if it is bound already.
    pub(crate) fn ready(&self, shard: &dyn Shard, binding: &Binding) -> Option<Bound> {
        let bound = self.bound.lock();
        let place = bound.get(&(shard.id(), binding.id)).filter(|place| place.is_of(binding))?;
        place.judge.get().cloned()
    }

    /// The judge of a binding. Binding it compiles the component where this node has not yet.
    ///
    /// # Errors
    /// Why it cannot run here.
    pub(crate) async fn judge(&self, shard: &Arc<dyn Shard>, binding: &Binding) -> Bound {
        let place = self.place(&**shard, binding);
        place.judge.get_or_init(|| self.bind(shard, binding)).await.clone()
    }

    fn place(&self, shard: &dyn Shard, binding: &Binding) -> Arc<Place> {
        let key = (shard.id(), binding.id);
        if let Some(place) = self.bound.lock().get(&key).filter(|place| place.is_of(binding)) {
            return Arc::clone(place);
        }
        // The state is never locked under this lock: others hold it the other way round.
        let alive: Vec<_> = shard.state().bindings.keys().copied().collect();
        let mut bound = self.bound.lock();
        bound.retain(|(of, id), _| *of != shard.id() || alive.binary_search(id).is_ok());
        if let Some(place) = bound.get(&key).filter(|place| place.is_of(binding)) {
            return Arc::clone(place);
        }
        let place = Arc::new(Place {
            revision: binding.revision,
            generation: binding.generation,
            made: crate::call::now(),
            judge: OnceCell::new(),
        });
        bound.insert(key, Arc::clone(&place));
        place
    }

    async fn bind(&self, shard: &Arc<dyn Shard>, binding: &Binding) -> Bound {
        let bytes = self.component(&**shard, binding.tenant, &binding.digest)?;
        self.judges.bind(spec(binding, bytes)).await
    }

    /// The bytes of a component, built in or uploaded.
    fn component(&self, shard: &dyn Shard, tenant: TenantId, digest: &[u8; 32]) -> Result<Bytes, String> {
        if let Some(builtin) = self.builtins.iter().find(|builtin| builtin.digest == *digest) {
            return Ok(builtin.bytes.clone());
        }
        match shard.plugin_bytes(tenant, digest) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err("this release does not have the component".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The component of a plugin version that is about to be bound, with its kind.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`], a failed read.
    pub(crate) fn resolve(
        &self,
        shard: &dyn Shard,
        tenant: TenantId,
        plugin: &str,
        version: Option<&str>,
    ) -> Result<Resolved, Error> {
        if let Some(name) = plugin.strip_prefix("builtin/") {
            let builtin = self.builtin(name, version).ok_or_else(|| not_found(plugin, version))?;
            return Ok(Resolved {
                version: builtin.version.clone(),
                kind: builtin.kind,
                digest: builtin.digest,
                builtin: true,
                bytes: builtin.bytes.clone(),
            });
        }
        let (version, slot, digest) = {
            let state = shard.state();
            let found = match version {
                Some(version) => state.plugin(tenant, plugin, version),
                None => newest(&state, tenant, plugin).and_then(|version| state.plugin(tenant, plugin, &version)),
            };
            let found = found.ok_or_else(|| not_found(plugin, version))?;
            (found.commit.version.clone(), found.commit.slot, found.commit.digest)
        };
        let bytes = self.component(shard, tenant, &digest).map_err(Error::StorageFailed)?;
        Ok(Resolved { version, kind: slot.kind(), digest, builtin: false, bytes })
    }

    /// Tries a config in a fresh instance.
    ///
    /// # Errors
    /// The plugin's words.
    pub(crate) async fn try_init(&self, tenant: TenantId, of: &Trial<'_>) -> Result<Plan, String> {
        self.judges.try_init(of.spec(tenant)).await
    }

    /// A judge of a stream's own filter.
    ///
    /// # Errors
    /// The plugin's words, or why it cannot run here.
    pub(crate) async fn bind_stream(&self, tenant: TenantId, of: &Trial<'_>) -> Bound {
        self.judges.bind(of.spec(tenant)).await
    }
}

fn not_found(plugin: &str, version: Option<&str>) -> Error {
    Error::PluginNotFound(version.map_or_else(|| plugin.into(), |version| format!("{plugin}@{version}")))
}

/// The newest uploaded version of a plugin, by semantic versioning.
fn newest(state: &State, tenant: TenantId, plugin: &str) -> Option<String> {
    let name = pointsman_model::Name::parse(plugin).ok()?;
    let versions = state.plugins_by_name.get(&(tenant, name))?;
    versions.keys().max_by_key(|version| semver::Version::parse(version).ok()).cloned()
}

/// A plugin version with its component.
pub(crate) struct Resolved {
    pub(crate) version: String,
    pub(crate) kind: Kind,
    pub(crate) digest: [u8; 32],
    pub(crate) builtin: bool,
    pub(crate) bytes: Bytes,
}

/// A component with a config, not yet bound.
pub(crate) struct Trial<'a> {
    pub(crate) name: &'a str,
    pub(crate) resolved: &'a Resolved,
    pub(crate) config: &'a [u8],
    pub(crate) limits: CallLimits,
    pub(crate) on_failure: OnFailure,
}

impl Trial<'_> {
    fn spec(&self, tenant: TenantId) -> JudgeSpec {
        JudgeSpec {
            tenant,
            binding: None,
            generation: Generation(0),
            name: self.name.into(),
            kind: self.resolved.kind,
            digest: self.resolved.digest,
            bytes: self.resolved.bytes.clone(),
            config: config_of(self.config),
            limits: self.limits,
            on_failure: self.on_failure,
        }
    }
}

fn config_of(config: &[u8]) -> Bytes {
    if config.is_empty() { Bytes::from_static(NO_CONFIG) } else { Bytes::copy_from_slice(config) }
}

fn spec(binding: &Binding, bytes: Bytes) -> JudgeSpec {
    let config = &binding.config;
    JudgeSpec {
        tenant: binding.tenant,
        binding: Some(binding.id),
        generation: binding.generation,
        name: binding.name.to_string(),
        kind: config.slot.kind(),
        digest: binding.digest,
        bytes,
        config: config_of(&config.config),
        limits: limits_of(config.fuel, config.memory_bytes, config.wall_ms),
        on_failure: on_failure_of(config.on_failure),
    }
}

/// Limits of a call, defaults filled in.
pub(crate) fn limits_of(fuel: Option<u64>, memory_bytes: Option<u32>, wall_ms: Option<u32>) -> CallLimits {
    let default = CallLimits::default();
    CallLimits {
        fuel: fuel.unwrap_or(default.fuel),
        memory_bytes: memory_bytes.unwrap_or(default.memory_bytes),
        wall_ms: wall_ms.unwrap_or(default.wall_ms),
    }
}

/// The policy as the plugin host says it.
pub(crate) fn on_failure_of(policy: FailurePolicy) -> OnFailure {
    match policy {
        FailurePolicy::Hash => OnFailure::Hash,
        FailurePolicy::Refuse => OnFailure::Refuse,
        FailurePolicy::Deliver => OnFailure::Deliver,
        FailurePolicy::Skip => OnFailure::Skip,
        FailurePolicy::Pause => OnFailure::Pause,
        FailurePolicy::Keep => OnFailure::Keep,
        FailurePolicy::Default => OnFailure::Default,
        FailurePolicy::DeadLetter => OnFailure::DeadLetter,
        FailurePolicy::Unknown => OnFailure::Unknown,
    }
}
