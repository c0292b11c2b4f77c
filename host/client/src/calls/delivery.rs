//! Where a group stands, its dead letters, and what happened to a message.

use pointsman_api_types::dlq::{DeadLetter, RedriveInput, Redriven};
use pointsman_api_types::explain::{Explained, TraceEvent};
use pointsman_api_types::progress::{GroupOffset, Inflight, Lag, Member, Paused, SeekInput, Sought};

use super::Tenant;
use crate::{Error, Request, encode_component};

impl Tenant {
    /// Where a group stands in each queue.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group_offsets(&self, group: &str) -> Result<Vec<GroupOffset>, Error> {
        self.client.list(&self.path(&["groups", group, "offsets"])).await
    }

    /// Lets a group go on elsewhere, whatever its revision.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn seek(&self, group: &str, input: &SeekInput, dry_run: bool) -> Result<Sought, Error> {
        let path = format!("{}?dry_run={dry_run}", self.path(&["groups", group, "seek"]));
        self.client.send(Request::post(path).json(input).header("if-match", "*")).await?.json()
    }

    /// What a group has before it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lag(&self, group: &str) -> Result<Lag, Error> {
        self.client.send(Request::get(self.path(&["groups", group, "lag"]))).await?.json()
    }

    /// The leases of a group that run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn inflight(&self, group: &str) -> Result<Vec<Inflight>, Error> {
        self.client.list(&self.path(&["groups", group, "inflight"])).await
    }

    /// Who leased of a group lately.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn members(&self, group: &str) -> Result<Vec<Member>, Error> {
        self.client.list(&self.path(&["groups", group, "members"])).await
    }

    /// Stops the leases of a group, or lets them go on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pause(&self, group: &str, paused: bool) -> Result<Paused, Error> {
        let verb = if paused { "pause" } else { "resume" };
        self.client.send(Request::post(self.path(&["groups", group, verb]))).await?.json()
    }

    /// The dead letters of a group.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dead_letters(&self, group: &str) -> Result<Vec<DeadLetter>, Error> {
        self.client.list(&self.path(&["groups", group, "dlq"])).await
    }

    /// One of them, by the id of its message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dead_letter(&self, group: &str, id: &str) -> Result<DeadLetter, Error> {
        self.client.send(Request::get(self.path(&["groups", group, "dlq", id]))).await?.json()
    }

    /// Forgets it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_dead_letter(&self, group: &str, id: &str) -> Result<(), Error> {
        self.client.send(Request::delete(self.path(&["groups", group, "dlq", id]))).await?.ok().map(|_| ())
    }

    /// Sends dead letters to their group or topic again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn redrive(&self, group: &str, input: &RedriveInput, dry_run: bool) -> Result<Redriven, Error> {
        let path = format!("{}?dry_run={dry_run}", self.path(&["groups", group, "dlq", "redrive"]));
        self.client.send(Request::post(path).json(input)).await?.json()
    }

    /// Why a group did or did not get a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn explain(&self, id: &str, group: &str) -> Result<Explained, Error> {
        let path = format!("{}?group={}", self.path(&["messages", id, "explain"]), encode_component(group));
        self.client.send(Request::get(path)).await?.json()
    }

    /// What happened to a message, in order of time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn trace(&self, id: &str) -> Result<Vec<TraceEvent>, Error> {
        self.client.list(&self.path(&["messages", id, "trace"])).await
    }
}
