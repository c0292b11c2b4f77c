//! Plugin versions: upload, list, read.

use bytes::Bytes;
use pointsman_model::judge::Kind;
use pointsman_model::record::kind;
use pointsman_model::{Name, TenantId, limits};
use pointsman_state_machine::State;
use pointsman_state_machine::command::{Expect, PluginChunk, PluginCommit, Slot, Target};
use pointsman_state_machine::outcome::Outcome;
use pointsman_state_machine::state::PluginVersion;

use super::page::after;
use super::{invalid_name, new_name};
use crate::broker::Home;
use crate::ports::{Builtin, Inspection};
use crate::view::{Page, PageRequest, PluginVersionView, Written};
use crate::{Action, Broker, Call, Error};

/// How built-in plugins are named.
const BUILTIN: &str = "builtin/";

impl Broker {
    /// Uploads a version of a plugin; with `validate_only` it is inspected and not stored.
    ///
    /// # Errors
    /// [`Error::PluginInvalid`], [`Error::PluginTooLarge`], [`Error::AlreadyExists`] with other bytes.
    pub async fn put_plugin(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        version: &str,
        component: Bytes,
        validate_only: bool,
    ) -> Result<Written<PluginVersionView>, Error> {
        self.authorize(call, tenant, Action::PluginWrite)?;
        let name = new_name(name)?;
        let version = semver::Version::parse(version)
            .map_err(|error| Error::invalid("", format!("`{version}` is no semantic version: {error}")))?
            .to_string();
        let home = self.leading_home(tenant)?;
        if component.len() > limits::PLUGIN_BYTES_DEFAULT as usize {
            return Err(Error::PluginTooLarge { limit: limits::PLUGIN_BYTES_DEFAULT });
        }
        let inspection = self.inner.bench.judges().inspect(component.clone()).await.map_err(Error::PluginInvalid)?;
        let slot = slot_of(inspection.kind)?;
        let existing = home.shard.port.state().plugin(home.tenant, name.as_str(), &version).cloned();
        if let Some(existing) = existing {
            if existing.commit.digest != inspection.digest {
                return Err(Error::AlreadyExists(format!("`{name}` {version} exists with other bytes")));
            }
            return Ok(Written { object: uploaded(&existing), created: false });
        }
        let commit = commit(call, &name, &version, slot, &component, inspection);
        if validate_only {
            let version = PluginVersion {
                id: pointsman_model::PluginVersionId(0),
                tenant: home.tenant,
                commit,
                created_at: home.shard.port.now(),
            };
            return Ok(Written { object: uploaded(&version), created: true });
        }
        self.store_plugin(call, &home, &component, commit).await
    }

    /// Writes the pieces, then the version that they become.
    async fn store_plugin(
        &self,
        call: &Call,
        home: &Home,
        component: &Bytes,
        commit: PluginCommit,
    ) -> Result<Written<PluginVersionView>, Error> {
        for (chunk, piece) in (0_u32..).zip(component.chunks(limits::PLUGIN_CHUNK_BYTES)) {
            let head = PluginChunk { digest: commit.digest, chunk };
            self.write(call, &home.shard, home.tenant, kind::PLUGIN_CHUNK, &head, piece).await?;
        }
        let answer = self.write(call, &home.shard, home.tenant, kind::PLUGIN_COMMIT, &commit, &[]).await?;
        let created = matches!(answer.outcomes().first(), Some(Outcome::Configured { created: true, .. }));
        let state = home.shard.port.state();
        let stored = state.plugin(home.tenant, &commit.name, &commit.version);
        let stored = stored.ok_or_else(|| Error::PluginNotFound(commit.name.clone()))?;
        Ok(Written { object: uploaded(stored), created })
    }

    /// One version of a plugin; `builtin/…` for a built-in.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`].
    pub async fn get_plugin_version(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        version: &str,
    ) -> Result<PluginVersionView, Error> {
        let versions = self.get_plugin(call, tenant, name).await?;
        let found = versions.into_iter().find(|view| view.version == version);
        found.ok_or_else(|| Error::PluginNotFound(format!("{name}@{version}")))
    }

    /// All versions of one plugin, the oldest first.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`].
    pub async fn get_plugin(&self, call: &Call, tenant: &str, name: &str) -> Result<Vec<PluginVersionView>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let home = self.leading_home(tenant)?;
        let mut versions: Vec<_> = match name.strip_prefix(BUILTIN) {
            Some(builtin) => self.inner.bench.builtins().iter().filter(|b| b.name == builtin).map(built_in).collect(),
            None => {
                let name = Name::parse(name).map_err(invalid_name)?;
                let state = home.shard.port.state();
                let ids = state.plugins_by_name.get(&(home.tenant, name)).map(|versions| versions.values());
                ids.into_iter().flatten().filter_map(|id| state.plugins.get(id)).map(uploaded).collect()
            }
        };
        if versions.is_empty() {
            return Err(Error::PluginNotFound(name.into()));
        }
        versions.sort_by_key(|view| semver::Version::parse(&view.version).ok());
        Ok(versions)
    }

    /// All versions of all plugins by name, built-ins included.
    ///
    /// # Errors
    /// A foreign cursor.
    pub async fn list_plugins(
        &self,
        call: &Call,
        tenant: &str,
        page: &PageRequest,
    ) -> Result<Page<PluginVersionView>, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let home = self.leading_home(tenant)?;
        let mut all: Vec<_> = self.inner.bench.builtins().iter().map(built_in).collect();
        all.extend(uploads(&home.shard.port.state(), home.tenant));
        // Sorted as pages are cut: by the key that the cursor holds.
        let mut keyed: Vec<_> = all.into_iter().map(|view| (format!("{}@{}", view.name, view.version), view)).collect();
        keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.page(&format!("{}/plugins", home.tenant), page, |last, n| {
            after(keyed.iter().map(|(key, view)| (key.as_str(), view.clone())), last, n)
        })
    }

    /// The bytes of a component.
    ///
    /// # Errors
    /// [`Error::PluginNotFound`], a failed read.
    pub async fn plugin_component(&self, call: &Call, tenant: &str, name: &str, version: &str) -> Result<Bytes, Error> {
        self.authorize(call, tenant, Action::Read)?;
        let home = self.leading_home(tenant)?;
        let resolved = self.inner.bench.resolve(&*home.shard.port, home.tenant, name, Some(version))?;
        Ok(resolved.bytes)
    }

    /// Deletes an uploaded version that nothing uses.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::PluginNotFound`], a failed write.
    pub async fn delete_plugin_version(
        &self,
        call: &Call,
        tenant: &str,
        name: &str,
        version: &str,
    ) -> Result<(), Error> {
        self.authorize(call, tenant, Action::PluginWrite)?;
        self.delete(call, tenant, Expect::Anything, Target::PluginVersion(name.into(), version.into())).await
    }
}

fn slot_of(kind: Kind) -> Result<Slot, Error> {
    match kind {
        Kind::Selector => Ok(Slot::Selector),
        Kind::Filter => Ok(Slot::Filter),
        Kind::Dedup => Ok(Slot::Dedup),
        Kind::Retry => Ok(Slot::Retry),
        Kind::CheckBack => Ok(Slot::CheckBack),
        other => Err(Error::invalid("", format!("plugins of the kind `{other}` are not supported yet"))),
    }
}

fn commit(
    call: &Call,
    name: &Name,
    version: &str,
    slot: Slot,
    component: &Bytes,
    inspection: Inspection,
) -> PluginCommit {
    PluginCommit {
        name: name.to_string(),
        version: version.into(),
        digest: inspection.digest,
        slot,
        // Bounded by the limit checked before.
        size_bytes: component.len() as u32,
        imports: inspection.imports,
        warnings: inspection.warnings,
        compile_ms: inspection.compile_ms,
        author: call.author(),
    }
}

fn uploads(state: &State, tenant: TenantId) -> Vec<PluginVersionView> {
    state.plugins.values().filter(|version| version.tenant == tenant).map(uploaded).collect()
}

fn uploaded(version: &PluginVersion) -> PluginVersionView {
    let commit = &version.commit;
    PluginVersionView {
        name: commit.name.clone(),
        version: commit.version.clone(),
        digest: commit.digest,
        kind: commit.slot.kind(),
        imports: commit.imports.clone(),
        size_bytes: commit.size_bytes.into(),
        compile_ms: commit.compile_ms,
        warnings: commit.warnings.clone(),
        created_at: Some(version.created_at),
    }
}

fn built_in(builtin: &Builtin) -> PluginVersionView {
    PluginVersionView {
        name: format!("{BUILTIN}{}", builtin.name),
        version: builtin.version.clone(),
        digest: builtin.digest,
        kind: builtin.kind,
        imports: Vec::new(),
        size_bytes: builtin.bytes.len() as u64,
        compile_ms: 0,
        warnings: Vec::new(),
        created_at: None,
    }
}
