//! Stream: a topic in log order, from any place, resumable.

use crate::view::{StreamEvent, StreamRequest};
use crate::{Broker, Call, Error};

/// An open topic stream.
pub struct TopicStream {
    pub(crate) ended: bool,
}

impl TopicStream {
    /// The next event; `None` when the stream has ended. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        self.ended = true;
        None
    }
}

impl Broker {
    /// Opens a stream of a topic.
    ///
    /// # Errors
    /// A permanent refusal: unknown topic, foreign cursor, bad filter, too many streams.
    pub async fn open_stream(
        &self,
        _call: &Call,
        _tenant: &str,
        _topic: &str,
        _request: StreamRequest,
    ) -> Result<TopicStream, Error> {
        Err(Error::NoLeader)
    }
}
