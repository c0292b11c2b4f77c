//! Messages that wait for their time.

use http::Method;
use pointsman_api_types::message::Message;
use pointsman_api_types::scheduled::ScheduledInput;

use super::Tenant;
use crate::{Error, Request};

impl Tenant {
    /// All messages of a topic that wait for their time, the earliest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn scheduled(&self, topic: &str) -> Result<Vec<Message>, Error> {
        self.client.list(&self.path(&["topics", topic, "scheduled"])).await
    }

    /// A message that waits for its time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn scheduled_message(&self, id: &str) -> Result<Message, Error> {
        self.client.send(Request::get(self.path(&["scheduled", id]))).await?.json()
    }

    /// Delivers it at another time.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_scheduled(&self, id: &str, input: &ScheduledInput) -> Result<Message, Error> {
        self.client.send(Request::new(Method::PATCH, self.path(&["scheduled", id])).json(input)).await?.json()
    }

    /// Cancels it: it is never delivered.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_scheduled(&self, id: &str) -> Result<(), Error> {
        self.client.send(Request::delete(self.path(&["scheduled", id]))).await?.ok().map(|_| ())
    }
}
