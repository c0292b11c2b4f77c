//! `application/vnd.pointsman.frames`: `u32 n · u32 m · m bytes meta · payload`, little-endian, n = 4 + m + payload.

use bytes::{Buf, Bytes};
use pointsman_api_types::decode;
use pointsman_api_types::publish::MessageInput;
use pointsman_model::limits;
use pointsman_model::message::NewMessage;

use super::batch::BYTES_TYPE;
use super::{BatchLimits, describe};
use crate::failure::Failure;

/// The messages of a body of frames. Payloads are slices of it.
pub(crate) fn parse(mut body: Bytes, trace: Option<&str>) -> Result<Vec<NewMessage>, Failure> {
    let mut counted = BatchLimits::default();
    let mut messages = Vec::new();
    while !body.is_empty() {
        let i = messages.len();
        let pointer = || format!("/messages/{i}");
        let (meta, payload) = split(&mut body).ok_or_else(|| misfit(pointer()))?;
        counted.add(&payload)?;
        messages.push(message(&meta, payload, trace, pointer)?);
    }
    if messages.is_empty() {
        return Err(Failure::invalid("/messages", "at least one frame"));
    }
    Ok(messages)
}

/// One frame with its lengths.
pub(crate) fn frame(mut frame: Bytes, trace: Option<&str>) -> Result<NewMessage, Failure> {
    let (meta, payload) = split(&mut frame).ok_or_else(|| misfit(String::new()))?;
    message(&meta, payload, trace, String::new)
}

fn misfit(pointer: String) -> Failure {
    Failure::invalid(pointer, "the lengths of the frame do not fit the body (u32 n, u32 m, meta, payload)")
}

fn message(
    meta: &Bytes,
    payload: Bytes,
    trace: Option<&str>,
    pointer: impl Fn() -> String,
) -> Result<NewMessage, Failure> {
    let mut input = meta_of(meta).map_err(|mut error| {
        error.pointer.insert_str(0, &pointer());
        pointsman_api_types::Problem::from(error)
    })?;
    let misplaced = [("data", input.data.is_some()), ("data_base64", input.data_base64.is_some())];
    if let Some((field, _)) = misplaced.iter().find(|(_, given)| *given) {
        return Err(Failure::invalid(format!("{}/{field}", pointer()), "the payload follows the meta"));
    }
    let content_type = input.content_type.take().unwrap_or_else(|| BYTES_TYPE.to_owned());
    describe(input, payload, Some(content_type), trace, pointer)
}

/// Takes the next frame apart; no length is trusted before it fits.
fn split(body: &mut Bytes) -> Option<(Bytes, Bytes)> {
    if body.len() < 8 {
        return None;
    }
    let n = body.get_u32_le() as usize;
    let m = body.get_u32_le() as usize;
    let rest = n.checked_sub(4)?;
    if rest > body.len() || m > rest {
        return None;
    }
    let meta = body.split_to(m);
    let payload = body.split_to(rest - m);
    Some((meta, payload))
}

fn meta_of(meta: &Bytes) -> Result<MessageInput<'_>, pointsman_api_types::Error> {
    if meta.is_empty() || &meta[..] == b"{}" {
        return Ok(MessageInput::default());
    }
    decode(meta, limits::JSON_DEPTH_MAX)
}
