//! Quotas: how much a tenant may use, and how much it has used.
//!
//! What is counted (topics, groups, plugin versions) is decided in `apply`. Rates are this leader's memory: a bucket a
//! tenant that fills on the broker's clock and holds one second's worth, so that a change of leader forgives at most that
//! much. Storage is looked at before a publish is proposed; what is under way at that moment may exceed it by as much.

mod bucket;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use pointsman_model::{TenantId, limits};
use pointsman_state_machine::command::{Expect, Object, Quota};

use crate::access::Action;
use crate::broker::Home;
use crate::view::{Precondition, Usage, Written};
use crate::{Broker, Call, Error};
use bucket::{Bucket, Window};

/// The rates of all tenants.
#[derive(Default)]
pub(crate) struct Meters(RwLock<HashMap<TenantId, Arc<Mutex<Meter>>>>);

/// The rates of one tenant.
#[derive(Default)]
struct Meter {
    messages: Rate,
    bytes: Rate,
    fuel: Rate,
    /// What its plugins had burnt in all when it was looked at last; `None` before the first look.
    fuel_seen: Option<u64>,
}

/// What flows, and what may flow.
#[derive(Default)]
struct Rate {
    bucket: Bucket,
    window: Window,
}

impl Meters {
    fn of(&self, tenant: TenantId) -> Arc<Mutex<Meter>> {
        if let Some(meter) = self.0.read().get(&tenant) {
            return Arc::clone(meter);
        }
        Arc::clone(self.0.write().entry(tenant).or_default())
    }
}

impl Meter {
    /// Takes note of what plugins burnt since the last look. A plugin is charged afterwards.
    fn see_fuel(&mut self, limit: Option<u64>, burnt: u64, now: Duration) {
        let seen = self.fuel_seen.replace(burnt).unwrap_or(burnt);
        let more = burnt.saturating_sub(seen);
        self.fuel.window.count(more, now);
        if let Some(limit) = limit {
            self.fuel.bucket.charge(limit, more, now);
        }
    }
}

impl Broker {
    /// Charges the tenant for messages that are about to be published. All of them, or none and a refusal.
    ///
    /// # Errors
    /// [`Error::RateExceeded`], and [`Error::QuotaExceeded`] for the storage.
    pub(crate) fn charge_publish(&self, home: &Home, messages: usize, bytes: usize) -> Result<(), Error> {
        let (quota, stored) = {
            let state = home.shard.port.state();
            (state.quota(home.tenant), state.stored_bytes.get(&home.tenant).copied().unwrap_or_default())
        };
        let (messages, bytes) = (messages as u64, bytes as u64);
        if quota.storage_bytes.is_some_and(|limit| stored.saturating_add(bytes) > limit) {
            return Err(Error::QuotaExceeded("the tenant's storage is used up".into()));
        }
        let now = self.inner.clock.monotonic();
        let meter = self.inner.meters.of(home.tenant);
        let mut meter = meter.lock();
        if let Some(limit) = quota.messages_per_s {
            meter.messages.bucket.check(limit, messages, now).map_err(|wait| too_fast("messages", limit, wait))?;
        }
        if let Some(limit) = quota.bytes_per_s {
            meter.bytes.bucket.check(limit, bytes, now).map_err(|wait| too_fast("bytes", limit, wait))?;
        }
        if let Some(limit) = quota.messages_per_s {
            meter.messages.bucket.charge(limit, messages, now);
        }
        if let Some(limit) = quota.bytes_per_s {
            meter.bytes.bucket.charge(limit, bytes, now);
        }
        meter.messages.window.count(messages, now);
        meter.bytes.window.count(bytes, now);
        Ok(())
    }

    /// Refuses a call that would ask plugins of a tenant that burn too much. Asked where a plugin is bound.
    ///
    /// # Errors
    /// [`Error::RateExceeded`].
    pub(crate) fn check_fuel(&self, home: &Home) -> Result<(), Error> {
        let Some(limit) = home.shard.port.state().quota(home.tenant).plugin_fuel_per_s else {
            return Ok(());
        };
        let burnt = self.inner.bench.judges().fuel(home.tenant);
        let now = self.inner.clock.monotonic();
        let meter = self.inner.meters.of(home.tenant);
        let mut meter = meter.lock();
        meter.see_fuel(Some(limit), burnt, now);
        meter.fuel.bucket.check(limit, 1, now).map_err(|wait| too_fast("plugin fuel", limit, wait))
    }

    /// How many streams a tenant may have open.
    pub(crate) fn connections_max(&self, home: &Home) -> usize {
        let quota = home.shard.port.state().quota(home.tenant);
        quota.connections.map_or(limits::STREAMS_PER_TENANT_MAX, |limit| limit as usize)
    }

    /// What a tenant may use, with its revision; 0 where it was never put.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`].
    pub async fn get_quota(&self, call: &Call, tenant: &str) -> Result<(Quota, u64), Error> {
        let home = self.authorize(call, tenant, Action::Read)?;
        home.shard.port.leadership().ok_or(Error::NoLeader)?;
        let state = home.shard.port.state();
        Ok(state.quotas.get(&home.tenant).copied().unwrap_or_default())
    }

    /// Replaces a quota.
    ///
    /// # Errors
    /// A failed precondition, a failed write.
    pub async fn put_quota(
        &self,
        call: &Call,
        tenant: &str,
        quota: Quota,
        expect: Precondition,
    ) -> Result<Written<(Quota, u64)>, Error> {
        let home = self.authorize(call, tenant, Action::Operator)?;
        // What was never put is there all the same.
        let expect = if expect == Expect::Present { Expect::Anything } else { expect };
        self.put(call, &home.shard, home.tenant, expect, Object::Quota(quota)).await?;
        let state = home.shard.port.state();
        Ok(Written { object: state.quotas.get(&home.tenant).copied().unwrap_or_default(), created: false })
    }

    /// What a tenant uses.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`].
    pub async fn usage(&self, call: &Call, tenant: &str) -> Result<Usage, Error> {
        let home = self.authorize(call, tenant, Action::Read)?;
        home.shard.port.leadership().ok_or(Error::NoLeader)?;
        let now = self.inner.clock.monotonic();
        let burnt = self.inner.bench.judges().fuel(home.tenant);
        let streams = self.inner.streams.tenants.lock().get(&home.tenant).copied().unwrap_or_default();
        let meter = self.inner.meters.of(home.tenant);
        let state = home.shard.port.state();
        let quota = state.quota(home.tenant);
        let mut meter = meter.lock();
        meter.see_fuel(quota.plugin_fuel_per_s, burnt, now);
        let used = state.usage.get(&home.tenant).copied().unwrap_or_default();
        let reserved = state.bindings.values().filter(|binding| binding.tenant == home.tenant);
        let reserved =
            reserved.map(|b| u64::from(b.config.memory_bytes.unwrap_or(limits::PLUGIN_MEMORY_BYTES_DEFAULT)));
        Ok(Usage {
            quota,
            messages: used.messages,
            bytes: used.bytes,
            messages_per_s: meter.messages.window.rate(now),
            bytes_per_s: meter.bytes.window.rate(now),
            storage_bytes: state.stored_bytes.get(&home.tenant).copied().unwrap_or_default(),
            topics: state.topics.values().filter(|topic| topic.tenant == home.tenant).count() as u64,
            groups: state.groups.values().filter(|group| group.tenant == home.tenant).count() as u64,
            plugins: state.plugins.values().filter(|version| version.tenant == home.tenant).count() as u64,
            connections: streams as u64,
            plugin_fuel_per_s: meter.fuel.window.rate(now),
            plugin_memory_bytes: reserved.sum(),
        })
    }
}

fn too_fast(what: &str, limit: u64, wait: Duration) -> Error {
    // Rounded up: who waits so long is let in.
    let retry_after_ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1);
    Error::RateExceeded { detail: format!("the tenant may use {limit} a second of {what}"), retry_after_ms }
}

#[cfg(test)]
mod tests;
