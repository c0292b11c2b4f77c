//! Configuration: tenants, topics, groups, bindings and plugin versions. Each write is an entry like any other.

mod binding;
pub(crate) mod bootstrap;
mod group;
pub(crate) mod home;
mod node;
pub(crate) mod page;
mod plugin;
mod tenant;
mod topic;

use pointsman_model::record::{Header, kind};
use pointsman_model::{Name, TenantId, name};
use pointsman_state_machine::command::{ConfigDelete, ConfigPut, Durability, Expect, Object, Target};
use pointsman_state_machine::outcome::Outcome;
use serde::Serialize;

use crate::batcher::{Answer, Request};
use crate::refusal::accepted;
use crate::shard::ShardRuntime;
use crate::{Broker, Call, Error};

pub use node::NodeEntry;
pub(crate) use page::after;

/// Who the shard itself is, as a tenant.
pub(crate) const NO_TENANT: TenantId = TenantId(0);

/// What a put came to.
pub(crate) struct Put {
    pub(crate) id: u32,
    pub(crate) created: bool,
}

impl Broker {
    /// Writes one record of its own.
    pub(crate) async fn write<H: Serialize>(
        &self,
        call: &Call,
        shard: &ShardRuntime,
        tenant: TenantId,
        kind: u8,
        head: &H,
        body: &[u8],
    ) -> Result<Answer, Error> {
        self.check_call(call)?;
        let term = shard.port.leadership().ok_or(Error::NoLeader)?;
        let request = Request { tenant, term, deadline: call.deadline, ack: Durability::Quorum };
        let header = Header { kind, tenant, born: self.inner.clock.wall(), ..Header::default() };
        let ticket = shard.parts.batcher.submit(request, body.len(), |writer| writer.write(&header, head, body))?;
        let answer = shard.parts.batcher.wait(ticket, call.deadline).await?;
        accepted(answer.outcomes().first())?;
        Ok(answer)
    }

    /// Creates or replaces an object.
    pub(crate) async fn put(
        &self,
        call: &Call,
        shard: &ShardRuntime,
        tenant: TenantId,
        expect: Expect,
        object: Object,
    ) -> Result<Put, Error> {
        let head = ConfigPut { expect, object, author: call.author() };
        let answer = self.write(call, shard, tenant, kind::CONFIG_PUT, &head, &[]).await?;
        match answer.outcomes().first() {
            Some(Outcome::Configured { created, id, .. }) => Ok(Put { id: *id, created: *created }),
            other => Err(Error::Internal(format!("a put came to {other:?}"))),
        }
    }

    /// Deletes an object.
    async fn delete(&self, call: &Call, tenant: &str, expect: Expect, target: Target) -> Result<(), Error> {
        let home = self.home(tenant)?;
        self.delete_in(call, &home.shard, home.tenant, expect, target).await
    }

    /// Deletes an object of a shard.
    pub(crate) async fn delete_in(
        &self,
        call: &Call,
        shard: &ShardRuntime,
        tenant: TenantId,
        expect: Expect,
        target: Target,
    ) -> Result<(), Error> {
        let head = ConfigDelete { expect, target, author: call.author() };
        self.write(call, shard, tenant, kind::CONFIG_DELETE, &head, &[]).await?;
        Ok(())
    }
}

/// Checks a name that is about to be created.
pub(crate) fn new_name(text: &str) -> Result<Name, Error> {
    Name::parse_new(text).map_err(invalid_name)
}

fn invalid_name(error: name::Error) -> Error {
    Error::InvalidName { pointer: String::new(), detail: error.to_string() }
}

#[cfg(test)]
mod tests;
