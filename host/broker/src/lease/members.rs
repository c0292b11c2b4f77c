//! Who leases of a group, and what: the leader's memory, as it is shown.

use std::collections::HashMap;
use std::sync::Arc;

use pointsman_model::{QueueOffset, limits};

use super::GroupRuntime;
use super::memory::{LeaseMemory, Place, View};
use crate::error::Error;
use crate::view::{InflightView, MemberView};

impl GroupRuntime {
    /// Notes that somebody asked for leases. Past the bound those not seen lately are forgotten, and then the new.
    pub(super) fn note_member(&self, client: Option<&Arc<str>>) {
        let Some(client) = client else { return };
        let now = self.parts.port.now();
        let members = &mut self.memory.lock().members;
        if members.len() >= limits::MEMBERS_MAX && !members.contains_key(client) {
            members.retain(|_, seen| now.since_ms(*seen) < limits::MEMBER_SEEN_MS);
            if members.len() >= limits::MEMBERS_MAX {
                return;
            }
        }
        members.insert(Arc::clone(client), now);
    }

    /// The lease of a message, if it runs.
    pub(crate) fn lease_at(&self, place: Place) -> Option<InflightView> {
        let memory = self.memory.lock();
        let lease = memory.leases.get(&place)?;
        shown(memory.view.as_ref()?, lease)
    }

    /// The leases that run, in no order.
    pub(crate) fn inflight(&self) -> Result<Vec<InflightView>, Error> {
        let mut memory = self.memory.lock();
        let topics = memory.refresh(self.id, &self.parts)?;
        memory.load(self.id, &self.parts, self.parts.port.now())?;
        let view = memory.view.as_ref().ok_or(Error::NoLeader)?;
        let shown = memory.leases.values().filter_map(|lease| shown(view, lease));
        let shown = shown.collect();
        drop(memory);
        self.follow(topics);
        Ok(shown)
    }

    /// Who asked for leases lately or has one, by name.
    pub(crate) fn members(&self) -> Result<Vec<MemberView>, Error> {
        let mut leased: HashMap<String, u64> = HashMap::new();
        for lease in self.inflight()? {
            if let Some(client) = lease.client_id {
                *leased.entry(client).or_default() += 1;
            }
        }
        let now = self.parts.port.now();
        let memory = self.memory.lock();
        let mut members: Vec<_> = memory
            .members
            .iter()
            .map(|(client, seen)| MemberView {
                inflight: leased.get(&**client).copied().unwrap_or(0),
                client_id: client.to_string(),
                last_seen_at: *seen,
            })
            .filter(|member| member.inflight > 0 || now.since_ms(member.last_seen_at) < limits::MEMBER_SEEN_MS)
            .collect();
        members.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        Ok(members)
    }
}

fn shown(view: &View, lease: &LeaseMemory) -> Option<InflightView> {
    let candidate = &lease.candidate;
    Some(InflightView {
        topic: view.topic(candidate.topic)?.name.to_string(),
        queue: candidate.queue,
        offset: QueueOffset(candidate.offset),
        attempt: candidate.attempt.saturating_sub(candidate.base),
        client_id: lease.client.as_deref().map(str::to_owned),
        delivered_at: lease.delivered_at,
        expires_at: lease.expires,
    })
}
