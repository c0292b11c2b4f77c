//! Schedules.

use pointsman_api_types::schedule::ScheduleInput;
use serde_json::Value;

use super::Tenant;
use crate::{Error, Request};

impl Tenant {
    /// Creates or replaces a schedule.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_schedule(&self, name: &str, schedule: &ScheduleInput<'_>) -> Result<Value, Error> {
        self.client.send(Request::put(self.path(&["schedules", name])).json(schedule)).await?.json()
    }

    /// A schedule.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn schedule(&self, name: &str) -> Result<Value, Error> {
        self.client.send(Request::get(self.path(&["schedules", name]))).await?.json()
    }

    /// All schedules.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn schedules(&self) -> Result<Vec<Value>, Error> {
        self.client.list(&self.path(&["schedules"])).await
    }

    /// Deletes a schedule.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_schedule(&self, name: &str) -> Result<(), Error> {
        self.client.send(Request::delete(self.path(&["schedules", name]))).await?.ok().map(|_| ())
    }
}
