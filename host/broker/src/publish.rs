//! Publish: from messages to records of the log.

use crate::view::{Publish, PublishReceipt};
use crate::{Broker, Call, Error};

impl Broker {
    /// Publishes messages, in order. One result a message; with `atomic` the first refusal is the answer.
    ///
    /// # Errors
    /// What refuses the call as a whole; what refuses one message is its own result.
    pub async fn publish(
        &self,
        _call: &Call,
        _tenant: &str,
        _topic: &str,
        _publish: Publish,
    ) -> Result<Vec<Result<PublishReceipt, Error>>, Error> {
        Err(Error::NoLeader)
    }
}
