//! From the body of a prepare to halves: one raw message, or an envelope of several over several topics.

use bytes::Bytes;
use pointsman_api_types::transaction::{CheckInput, TransactionInput};
use pointsman_api_types::{Code, Problem, decode};
use pointsman_broker::view::HalfMessage;
use pointsman_model::{limits, name};

use super::batch::payload;
use super::{BatchLimits, describe};
use crate::failure::Failure;

/// An envelope, checked.
pub(crate) struct Envelope {
    pub(crate) messages: Vec<HalfMessage>,
    pub(crate) check: CheckInput,
    pub(crate) producer_group: Option<String>,
}

/// Reads an envelope.
pub(crate) fn parse(body: &Bytes, trace: Option<&str>) -> Result<Envelope, Failure> {
    let input: TransactionInput<'_> = decode(body, limits::JSON_DEPTH_MAX).map_err(Problem::from)?;
    if input.messages.is_empty() {
        return Err(Failure::invalid("/messages", "at least one message"));
    }
    if let Some(group) = &input.producer_group {
        check_name(group, "/producer_group")?;
    }
    let mut counted = BatchLimits::default();
    let mut messages = Vec::with_capacity(input.messages.len());
    for (i, mut input) in input.messages.into_iter().enumerate() {
        let pointer = || format!("/messages/{i}");
        let topic = input.topic.take();
        if let Some(topic) = &topic {
            check_name(topic, &format!("/messages/{i}/topic"))?;
        }
        let content_type = input.content_type.take();
        let (body, content_type) = payload(&mut input, content_type, body, pointer)?;
        counted.add(&body)?;
        let message = describe(input, body, Some(content_type), trace, pointer)?;
        messages.push(HalfMessage { topic, message });
    }
    Ok(Envelope { messages, check: input.check.unwrap_or_default(), producer_group: input.producer_group })
}

/// Refuses what is no name.
pub(crate) fn check_name(text: &str, pointer: &str) -> Result<(), Failure> {
    if name::is_well_formed(text) {
        Ok(())
    } else {
        Err(Failure::at(Code::InvalidName, pointer, name::Error::Malformed.to_string()))
    }
}
