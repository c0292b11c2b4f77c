//! World `retry`.

use std::ops::Range;
use std::sync::Arc;

use pointsman_model::judge::{Failure, Kind, Plan, RetryAnswer, RetryQuestion, Verdict};
use pointsman_model::{Timestamp, limits};
use wasmtime::Store;
use wasmtime::component::{ComponentType, Instance, Lift, Lower, TypedFunc};

use super::{Judged, World, types};
use crate::instance::Guest;

/// World `retry`: decides what becomes of a message whose delivery failed.
pub(crate) struct Retry;

/// `record attempt`.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Attempt {
    topic: String,
    group: String,
    attempt: u16,
    #[component(name = "max-retries")]
    max_retries: u16,
    tag: Option<String>,
    keys: Vec<String>,
    #[component(name = "ordering-key")]
    ordering_key: Option<String>,
    properties: Vec<(String, String)>,
    priority: u8,
    #[component(name = "body-bytes")]
    body_bytes: u32,
    #[component(name = "stored-at")]
    stored_at: u64,
    #[component(name = "first-delivered-at")]
    first_delivered_at: Option<u64>,
    #[component(name = "delivered-at")]
    delivered_at: Option<u64>,
    now: u64,
    expired: bool,
    reason: Option<String>,
    #[component(name = "client-id")]
    client_id: Option<String>,
}

/// `variant decision`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Decision {
    #[component(name = "again")]
    Again(u64),
    #[component(name = "again-scaled")]
    AgainScaled(u64),
    #[component(name = "dead-letter")]
    DeadLetter(Option<String>),
    #[component(name = "drop")]
    Drop,
}

impl From<RetryQuestion> for Attempt {
    fn from(question: RetryQuestion) -> Self {
        let ms = |at: Timestamp| at.0;
        Self {
            topic: question.topic,
            group: question.group,
            attempt: question.attempt,
            max_retries: question.max_retries,
            tag: question.tag,
            keys: question.keys,
            ordering_key: question.ordering_key,
            properties: question.properties,
            priority: question.priority,
            body_bytes: question.body_bytes,
            stored_at: question.stored_at.0,
            first_delivered_at: question.first_delivered_at.map(ms),
            delivered_at: question.delivered_at.map(ms),
            now: question.now.0,
            expired: question.expired,
            reason: question.reason,
            client_id: question.client_id,
        }
    }
}

impl World for Retry {
    type Question = Arc<Attempt>;
    type Exports = TypedFunc<(Arc<Attempt>,), (Result<Decision, String>,)>;
    type Decision = RetryAnswer;

    const KIND: Kind = Kind::Retry;

    fn exports(store: &mut Store<Guest>, instance: &Instance) -> wasmtime::Result<Self::Exports> {
        instance.get_typed_func(store, "decide")
    }

    fn messages(_: &Arc<Attempt>) -> usize {
        1
    }

    fn part(attempt: &Arc<Attempt>, _: Range<usize>) -> Arc<Attempt> {
        Arc::clone(attempt)
    }

    fn ask(
        decide: &Self::Exports,
        store: &mut Store<Guest>,
        attempt: Arc<Attempt>,
        _: &Plan,
    ) -> wasmtime::Result<Judged<RetryAnswer>> {
        let (decision,) = decide.call(store, (attempt,))?;
        Ok(match decision {
            Ok(decision) => read(decision).map(|answer| vec![Verdict::Answer(answer)]),
            Err(words) => Ok(vec![Verdict::Failed(types::cut(words))]),
        })
    }
}

fn read(decision: Decision) -> Result<RetryAnswer, Failure> {
    let (delay_ms, scaled) = match decision {
        Decision::Again(delay_ms) => (delay_ms, false),
        Decision::AgainScaled(delay_ms) => (delay_ms, true),
        Decision::DeadLetter(reason) => {
            let fits = reason.as_ref().is_none_or(|reason| reason.len() <= limits::REASON_BYTES_MAX);
            return if fits { Ok(RetryAnswer::DeadLetter { reason }) } else { Err(Failure::Output) };
        }
        Decision::Drop => return Ok(RetryAnswer::Drop),
    };
    if delay_ms <= limits::DELAY_MS_MAX { Ok(RetryAnswer::Again { delay_ms, scaled }) } else { Err(Failure::Output) }
}
