//! Typed state from stored rows.

use std::collections::btree_map::Entry as Place;

use pointsman_model::{
    BindingId, GroupId, LogIndex, LogPosition, NodeId, PluginVersionId, QueueId, QueueOffset, TenantId, Timestamp,
    TopicId,
};

use super::Store;
use crate::error::Error;
use crate::state::{Cursor, QueueEnds, State};
use crate::table::{self, KeyReader, damaged, decode};

/// Reads every table that lives in memory.
pub(super) fn load(store: &dyn Store) -> Result<State, Error> {
    let mut state = State::default();
    each(store, table::SHARD, |key, value, _| {
        decode::<table::ShardRow>(key, value)?.load(&mut state);
        Ok(())
    })?;
    load_tenants(&mut state, store)?;
    load_objects(&mut state, store)?;
    load_progress(&mut state, store)?;
    Ok(state)
}

/// Visits the rows of a table: key, value, and the numbers of the key behind the table.
fn each(
    store: &dyn Store,
    table: u8,
    mut visit: impl FnMut(&[u8], &[u8], &mut KeyReader<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut result = Ok(());
    store.scan(&[table], &[table + 1], &mut |key, value| {
        result = visit(key, value, &mut KeyReader::new(key));
        result.is_ok()
    })?;
    result
}

fn load_tenants(state: &mut State, store: &dyn Store) -> Result<(), Error> {
    each(store, table::TENANT, |key, value, numbers| {
        let tenant = decode::<table::TenantRow>(key, value)?.load(TenantId(numbers.u32()?));
        if !tenant.closed {
            state.tenants_by_name.insert(tenant.name.clone(), tenant.id);
        }
        state.tenants.insert(tenant.id, tenant);
        Ok(())
    })?;
    each(store, table::TENANT_HOME, |key, value, numbers| {
        let (name, home) = decode::<table::HomeRow>(key, value)?.load(TenantId(numbers.u32()?));
        state.homes.insert(name, home);
        Ok(())
    })?;
    each(store, table::CLUSTER_KEY, |key, value, numbers| {
        let _tenant = numbers.u32()?;
        state.cluster_keys.insert(numbers.u8()?, decode(key, value)?);
        Ok(())
    })?;
    each(store, table::NODE, |key, value, numbers| {
        let _tenant = numbers.u32()?;
        state.nodes.insert(NodeId(numbers.u32()?), decode::<table::NodeRow>(key, value)?.load());
        Ok(())
    })?;
    each(store, table::TOKEN, |key, value, numbers| {
        let _tenant = numbers.u32()?;
        let token = decode::<table::TokenRow>(key, value)?.load(numbers.text()?).ok_or_else(|| damaged(key))?;
        state.operator_tokens += usize::from(token.is_operator() && token.revoked_at.is_none());
        state.tokens.insert(token.id.to_string(), token);
        Ok(())
    })?;
    each(store, table::SCHEDULE, |key, value, numbers| {
        let (tenant, id) = (TenantId(numbers.u32()?), numbers.u32()?);
        let schedule = decode::<table::ScheduleRow>(key, value)?.load(tenant, id);
        state.schedules_by_name.insert((tenant, schedule.name.clone()), id);
        state.schedules.insert(id, schedule);
        Ok(())
    })?;
    each(store, table::SCHEDULE_RUN, |key, value, numbers| {
        let (_tenant, id) = (numbers.u32()?, numbers.u32()?);
        let (next, last): (Option<u64>, Option<u64>) = decode(key, value)?;
        let schedule = state.schedules.get_mut(&id).ok_or_else(|| damaged(key))?;
        (schedule.next, schedule.last) = (next.map(Timestamp), last.map(Timestamp));
        Ok(())
    })?;
    each(store, table::QUOTA, |key, value, numbers| {
        state.quotas.insert(TenantId(numbers.u32()?), decode(key, value)?);
        Ok(())
    })?;
    each(store, table::USAGE, |key, value, numbers| {
        state.usage.insert(TenantId(numbers.u32()?), decode(key, value)?);
        Ok(())
    })
}

fn load_objects(state: &mut State, store: &dyn Store) -> Result<(), Error> {
    each(store, table::TOPIC, |key, value, numbers| {
        let (tenant, id) = (TenantId(numbers.u32()?), TopicId(numbers.u32()?));
        let topic = decode::<table::TopicRow>(key, value)?.load(tenant, id).ok_or_else(|| damaged(key))?;
        state.topics_by_name.insert((tenant, topic.name.clone()), id);
        state.topics.insert(id, topic);
        Ok(())
    })?;
    each(store, table::GROUP, |key, value, numbers| {
        let (tenant, id) = (TenantId(numbers.u32()?), GroupId(numbers.u32()?));
        let group = decode::<table::GroupRow>(key, value)?.load(tenant, id);
        state.groups_by_name.insert((tenant, group.name.clone()), id);
        state.groups.insert(id, group);
        Ok(())
    })?;
    each(store, table::BINDING, |key, value, numbers| {
        let (tenant, id) = (TenantId(numbers.u32()?), BindingId(numbers.u32()?));
        let binding = decode::<table::BindingRow>(key, value)?.load(tenant, id);
        state.bindings_by_name.insert((tenant, binding.name.clone()), id);
        if !state.set_holder(&binding, Some(id)) {
            return Err(damaged(key));
        }
        state.bindings.insert(id, binding);
        Ok(())
    })?;
    each(store, table::PLUGIN, |key, value, numbers| {
        let (tenant, id) = (TenantId(numbers.u32()?), PluginVersionId(numbers.u32()?));
        let version = decode::<table::PluginRow>(key, value)?.load(tenant, id);
        let name = pointsman_model::Name::internal(&version.commit.name);
        let versions = state.plugins_by_name.entry((tenant, name)).or_default();
        versions.insert(version.commit.version.clone(), id);
        state.plugins.insert(id, version);
        Ok(())
    })
}

fn load_progress(state: &mut State, store: &dyn Store) -> Result<(), Error> {
    each(store, table::QUEUE, |key, value, numbers| {
        let (tenant, topic) = (TenantId(numbers.u32()?), TopicId(numbers.u32()?));
        let ends: QueueEnds = decode(key, value)?;
        // A tenant that stores nothing has no entry.
        if ends.bytes > 0 {
            *state.stored_bytes.entry(tenant).or_default() += ends.bytes;
        }
        state.queues.insert((topic, QueueId(numbers.u16()?)), ends);
        Ok(())
    })?;
    each(store, table::CURSOR, |key, value, numbers| {
        let (_tenant, group, topic) = (numbers.u32()?, GroupId(numbers.u32()?), TopicId(numbers.u32()?));
        let (floor, sought) = decode(key, value)?;
        let cursor = Cursor::sought_at(QueueOffset(floor), sought);
        state.cursors.insert((group, topic, QueueId(numbers.u16()?)), cursor);
        Ok(())
    })?;
    each(store, table::CURSOR_BLOCK, |key, value, numbers| {
        let (_tenant, group, topic) = (numbers.u32()?, GroupId(numbers.u32()?), TopicId(numbers.u32()?));
        let (queue, block) = (QueueId(numbers.u16()?), numbers.u64()?);
        let bytes = table::decode_block(key, value)?;
        match state.cursors.entry((group, topic, queue)) {
            Place::Occupied(mut cursor) => cursor.get_mut().load_block(block, bytes),
            Place::Vacant(_) => return Err(damaged(key)),
        }
        Ok(())
    })?;
    each(store, table::RETRYING, |key, value, numbers| {
        let (_tenant, group) = (numbers.u32()?, GroupId(numbers.u32()?));
        state.retrying.insert(group, decode(key, value)?);
        Ok(())
    })?;
    each(store, table::DEDUP_COUNT, |key, value, numbers| {
        let (tenant, topic) = (TenantId(numbers.u32()?), TopicId(numbers.u32()?));
        state.dedup_keys.insert(topic, decode(key, value)?);
        if !state.topics.contains_key(&topic) {
            state.dedup_left.insert(topic, tenant);
        }
        Ok(())
    })?;
    each(store, table::TIMERS, |key, value, numbers| {
        state.timers.insert(TenantId(numbers.u32()?), decode(key, value)?);
        Ok(())
    })?;
    each(store, table::DEAD_COUNT, |key, value, numbers| {
        let (_tenant, group) = (numbers.u32()?, GroupId(numbers.u32()?));
        state.dead.insert(group, decode(key, value)?);
        Ok(())
    })?;
    each(store, table::RELEASED, |key, value, _| {
        state.released = decode(key, value)?;
        Ok(())
    })?;
    each(store, table::SEGMENT, |key, value, numbers| {
        let (_shard, base) = (numbers.u32()?, LogPosition(numbers.u64()?));
        // One that was given up may have its row for a while.
        if base >= state.released.base() {
            state.segments.insert(base, LogIndex(decode(key, value)?));
        }
        Ok(())
    })?;
    each(store, table::TRANSACTION_COUNTS, |key, value, numbers| {
        state.transactions.insert(TenantId(numbers.u32()?), decode(key, value)?);
        Ok(())
    })
}
