//! Plugin components: pieces, and the versions that they become.

use pointsman_model::record::Header;
use pointsman_model::{Name, Ordinal, PluginVersionId, TenantId, limits};

use super::Store;
use super::audit::Subject;
use super::config::{check_expect, check_quota};
use super::entry::{Entry, Stop};
use crate::command::{Expect, PluginChunk, PluginCommit};
use crate::error::Error;
use crate::outcome::{Outcome, Refusal};
use crate::state::{PluginVersion, State};
use crate::table;

impl Entry<'_> {
    pub(super) fn plugin_chunk(&mut self, header: &Header, piece: PluginChunk, body: &[u8]) -> Result<Outcome, Stop> {
        self.check_tenant(header.tenant)?;
        let chunks_max = limits::PLUGIN_BYTES_CAP.div_ceil(limits::PLUGIN_CHUNK_BYTES as u32);
        if body.is_empty() || body.len() > limits::PLUGIN_CHUNK_BYTES || piece.chunk >= chunks_max {
            return Err(Refusal::Malformed(format!("piece {} of {} bytes", piece.chunk, body.len())).into());
        }
        // A version that exists never changes, whatever is sent under its digest.
        if version_of(self.state, header.tenant, &piece.digest).is_none() {
            let key = table::plugin_chunk_key(header.tenant, &piece.digest, piece.chunk);
            self.changes.put(key, table::encode_bytes(body));
        }
        Ok(Outcome::ChunkStored)
    }

    pub(super) fn plugin_commit(
        &mut self,
        ordinal: Ordinal,
        header: &Header,
        commit: PluginCommit,
    ) -> Result<Outcome, Stop> {
        let tenant = header.tenant;
        self.check_tenant(tenant)?;
        let name = Name::parse(&commit.name).map_err(|error| Refusal::Malformed(error.to_string()))?;
        if let Some(held) = self.state.plugin(tenant, &commit.name, &commit.version) {
            if held.commit.digest != commit.digest {
                return Err(Refusal::AlreadyExists(format!("{}@{}", commit.name, commit.version)).into());
            }
            let id = held.id.0;
            return Ok(Outcome::Configured { created: false, unchanged: true, revision: id.into(), id });
        }
        let versions = self.state.plugins.values().filter(|version| version.tenant == tenant).count();
        check_quota("plugins", versions, self.state.quota(tenant).plugins)?;
        self.check_pieces(tenant, &commit)?;
        if let Some(subject) = Subject::plugin(self.state, tenant, &commit.name, &commit.version) {
            self.audit(ordinal, subject, "create", commit.author.clone())?;
        }

        self.state.counters.plugin += 1;
        let id = PluginVersionId(self.state.counters.plugin);
        let versions = self.state.plugins_by_name.entry((tenant, name)).or_default();
        versions.insert(commit.version.clone(), id);
        let version = PluginVersion { id, tenant, commit, created_at: self.meta.stamp };
        self.changes.put(table::plugin_key(tenant, id), table::encode(&table::PluginRow::from(&version)));
        self.changes.config_changed = true;
        self.state.plugins.insert(id, version);
        Ok(Outcome::Configured { created: true, unchanged: false, revision: id.0.into(), id: id.0 })
    }

    /// All pieces must be there, each as long as its place demands.
    fn check_pieces(&self, tenant: TenantId, commit: &PluginCommit) -> Result<(), Stop> {
        if commit.size_bytes == 0 || commit.size_bytes > limits::PLUGIN_BYTES_CAP {
            return Err(Refusal::Malformed(format!("a plugin of {} bytes", commit.size_bytes)).into());
        }
        let piece_bytes = limits::PLUGIN_CHUNK_BYTES as u32;
        for chunk in 0..commit.size_bytes.div_ceil(piece_bytes) {
            let key = table::plugin_chunk_key(tenant, &commit.digest, chunk);
            let Some(value) = self.changes.get(self.store, &key)? else {
                return Err(Refusal::PluginIncomplete.into());
            };
            let piece: &[u8] = table::decode_borrowed(&key, &value)?;
            if piece.len() != (commit.size_bytes - chunk * piece_bytes).min(piece_bytes) as usize {
                return Err(Refusal::PluginIncomplete.into());
            }
        }
        Ok(())
    }

    pub(super) fn delete_plugin(
        &mut self,
        tenant: TenantId,
        expect: &Expect,
        name: &str,
        version: &str,
    ) -> Result<Outcome, Stop> {
        let held = self.state.plugin(tenant, name, version);
        let held = held.ok_or_else(|| Refusal::PluginNotFound(format!("{name}@{version}")))?;
        check_expect(expect, Some(held.id.0.into()))?;
        let (id, digest) = (held.id, held.commit.digest);
        let of_version = self.state.bindings.values().filter(|binding| {
            binding.tenant == tenant && binding.config.plugin == name && binding.config.version == version
        });
        let users: Vec<_> = of_version.map(|binding| binding.name.to_string()).collect();
        if !users.is_empty() {
            return Err(Refusal::InUse(users).into());
        }
        self.state.plugins.remove(&id);
        let key = (tenant, Name::internal(name));
        if let Some(versions) = self.state.plugins_by_name.get_mut(&key) {
            versions.remove(version);
            if versions.is_empty() {
                self.state.plugins_by_name.remove(&key);
            }
        }
        self.changes.delete(table::plugin_key(tenant, id));
        if version_of(self.state, tenant, &digest).is_none() {
            for (key, _) in self.changes.scan(self.store, &table::plugin_chunk_prefix(tenant, &digest))? {
                self.changes.delete(key);
            }
        }
        self.changes.config_changed = true;
        Ok(Outcome::Deleted)
    }
}

/// Some version of the tenant with that digest.
fn version_of<'s>(state: &'s State, tenant: TenantId, digest: &[u8; 32]) -> Option<&'s PluginVersion> {
    state.plugins.values().find(|version| version.tenant == tenant && version.commit.digest == *digest)
}

/// The bytes of a component that some version of the tenant has.
pub(super) fn bytes(
    state: &State,
    store: &dyn Store,
    tenant: TenantId,
    digest: &[u8; 32],
) -> Result<Option<Vec<u8>>, Error> {
    let Some(version) = version_of(state, tenant, digest) else {
        return Ok(None);
    };
    let size = version.commit.size_bytes;
    let mut bytes = Vec::with_capacity(size as usize);
    for chunk in 0..size.div_ceil(limits::PLUGIN_CHUNK_BYTES as u32) {
        let key = table::plugin_chunk_key(tenant, digest, chunk);
        let value = store.get(&key)?.ok_or_else(|| Error::MissingRow { key: key.clone() })?;
        bytes.extend_from_slice(table::decode_borrowed(&key, &value)?);
    }
    Ok(Some(bytes))
}
