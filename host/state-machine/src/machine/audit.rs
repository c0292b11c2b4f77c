//! The audit: who changed what. Written by the entry that changed it; bounded for each tenant.

use pointsman_model::{LogIndex, Name, Ordinal, TenantId, limits};

use super::Store;
use super::entry::Entry;
use crate::command::{Author, Object, Target};
use crate::error::Error;
use crate::state::{AuditRow, State};
use crate::table::{self, KeyReader};

/// What a change is about. Made before the change, when what goes is still there.
pub(super) struct Subject {
    tenant: TenantId,
    name: Name,
    target: String,
}

impl Subject {
    /// Of a put; `None` for what no client writes.
    pub(super) fn put(state: &State, tenant: TenantId, object: &Object) -> Option<Self> {
        let target = match object {
            Object::ClusterKey { .. } | Object::Tenant { .. } | Object::Node { .. } => return None,
            Object::TenantHome { name, .. } => {
                let known = state.homes.get(name.as_str()).map(|home| home.id);
                // A new tenant gets the next id.
                let tenant = known.unwrap_or(TenantId(state.counters.tenant + 1));
                return Some(Self { tenant, name: Name::internal(name), target: "tenant".into() });
            }
            Object::Token { id, tenant, .. } => return Self::of_token(state, tenant, id),
            Object::Topic { name, .. } => format!("topics/{name}"),
            Object::Group { name, .. } => format!("groups/{name}"),
            Object::Binding { name, .. } => format!("bindings/{name}"),
            Object::Pause { group, .. } => format!("groups/{group}/pause"),
            Object::Quota(_) => "quota".into(),
            Object::Schedule { name, .. } => format!("schedules/{name}"),
        };
        Self::of(state, tenant, target)
    }

    /// Of a delete.
    pub(super) fn deleted(state: &State, tenant: TenantId, target: &Target) -> Option<Self> {
        let target = match target {
            Target::Topic(name) => format!("topics/{name}"),
            Target::Group(name) => format!("groups/{name}"),
            Target::Binding(name) => format!("bindings/{name}"),
            Target::Schedule(name) => format!("schedules/{name}"),
            Target::PluginVersion(name, version) => return Self::plugin(state, tenant, name, version),
            Target::Token(tenant, id) => return Self::of_token(state, tenant, id),
            // Told when its home is forgotten, which comes last.
            Target::Tenant(_) => return None,
            Target::TenantHome(name) => {
                let tenant = state.homes.get(name.as_str())?.id;
                return Some(Self { tenant, name: Name::internal(name), target: "tenant".into() });
            }
        };
        Self::of(state, tenant, target)
    }

    /// A version of a plugin.
    pub(super) fn plugin(state: &State, tenant: TenantId, name: &str, version: &str) -> Option<Self> {
        Self::of(state, tenant, format!("plugins/{name}/versions/{version}"))
    }

    fn of(state: &State, tenant: TenantId, target: String) -> Option<Self> {
        let name = state.tenants.get(&tenant)?.name.clone();
        Some(Self { tenant, name, target })
    }

    fn of_token(state: &State, tenant: &str, id: &str) -> Option<Self> {
        let home = state.homes.get(tenant)?;
        Some(Self { tenant: home.id, name: Name::internal(tenant), target: format!("tokens/{id}") })
    }
}

impl Entry<'_> {
    /// Writes what happened; the tenant's oldest row goes if it has as many as it may.
    pub(super) fn audit(
        &mut self,
        ordinal: Ordinal,
        subject: Subject,
        action: &str,
        author: Author,
    ) -> Result<(), Error> {
        let Subject { tenant, name, target } = subject;
        let row = AuditRow { at: self.now().0, tenant: name.to_string(), author, action: action.into(), target };
        let index = self.meta.index;
        self.changes.put(table::audit_key(index, ordinal), table::encode(&row));
        self.changes.put(table::audit_of_tenant_key(tenant, index, ordinal), table::encode(&()));
        let usage = self.state.usage.entry(tenant).or_default();
        usage.audit_rows += 1;
        self.changes.usage.insert(tenant);
        if usage.audit_rows > limits::AUDIT_ROWS_PER_TENANT_MAX {
            let prefix = table::audit_of_tenant_prefix(tenant);
            let oldest = self.changes.first(self.store, &prefix, &table::after(&prefix), 1)?;
            if let Some((oldest, _)) = oldest.into_iter().next() {
                let (index, ordinal) = place(&oldest)?;
                self.changes.delete(table::audit_key(index, ordinal));
                self.changes.delete(oldest);
                usage.audit_rows -= 1;
            }
        }
        Ok(())
    }
}

/// Index and ordinal of a key of table [`table::AUDIT_OF_TENANT`].
fn place(key: &[u8]) -> Result<(LogIndex, Ordinal), Error> {
    let mut numbers = KeyReader::new(key);
    let _tenant = numbers.u32()?;
    Ok((LogIndex(numbers.u64()?), Ordinal(numbers.u16()?)))
}

/// At most `limit` audit rows, the newest first, from the one after `after` on.
pub(super) fn newest(
    store: &dyn Store,
    after: Option<(LogIndex, Ordinal)>,
    limit: usize,
) -> Result<Vec<(LogIndex, Ordinal, AuditRow)>, Error> {
    let prefix = table::audit_prefix();
    let from = match after {
        Some((index, ordinal)) => table::after(&table::audit_key(index, ordinal)),
        None => prefix.clone(),
    };
    let mut rows = Vec::new();
    store.scan(&from, &table::after(&prefix), &mut |key, value| {
        if rows.len() < limit {
            rows.push((key.to_vec(), value.to_vec()));
        }
        rows.len() < limit
    })?;
    let decoded = rows.iter().map(|(key, value)| {
        let mut numbers = KeyReader::new(key);
        let _tenant = numbers.u32()?;
        Ok((LogIndex(!numbers.u64()?), Ordinal(!numbers.u16()?), table::decode(key, value)?))
    });
    decoded.collect()
}
