//! World `check-back`.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pointsman_model::judge::{
    CheckAnswer, CheckResponse, Failure, Field, Half as ModelHalf, Kind, OutsideMethod, OutsideRequest, Plan, Verdict,
};
use pointsman_model::limits;
use wasmtime::Store;
use wasmtime::component::{ComponentType, Instance, Lift, Lower, TypedFunc};

use super::{Judged, World, types};
use crate::instance::Guest;

/// World `check-back`: finds out what became of a transaction.
pub(crate) struct CheckBack;

/// `record half`.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Half {
    transaction: String,
    #[component(name = "producer-group")]
    producer_group: String,
    #[component(name = "prepared-at")]
    prepared_at: u64,
    now: u64,
    messages: u16,
    topic: String,
    tag: Option<String>,
    keys: Vec<String>,
    #[component(name = "ordering-key")]
    ordering_key: Option<String>,
    properties: Vec<(String, String)>,
    #[component(name = "content-type")]
    content_type: Option<String>,
    body: Option<Vec<u8>>,
}

/// `variant verdict`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Found {
    #[component(name = "commit")]
    Commit,
    #[component(name = "rollback")]
    Rollback,
    #[component(name = "unknown")]
    Unknown(Option<u64>),
    #[component(name = "ask")]
    Ask(Request),
}

/// `enum method`.
#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "values come from plugins, by their number")]
pub(crate) enum Method {
    #[component(name = "get")]
    Get,
    #[component(name = "post")]
    Post,
}

/// `record request`.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Request {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// `record response`.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What is asked about a transaction.
#[derive(Clone)]
pub(crate) enum Question {
    /// The check itself, the how-manieth.
    Check(Arc<Half>, u16),
    /// What came of a request.
    Answer(Arc<Half>, Came),
}

/// What came of a request: a response, or in words why there is none.
pub(crate) type Came = Arc<Result<Response, String>>;

/// The functions of a check-back.
pub(crate) struct Exports {
    check: TypedFunc<(Arc<Half>, u16), Returned>,
    answer: TypedFunc<(Arc<Half>, Came), Returned>,
}

type Returned = (Result<Found, String>,);

impl Half {
    /// The transaction as a plugin with this plan sees it.
    pub(crate) fn new(half: ModelHalf, plan: &Plan) -> Arc<Self> {
        let body = plan.fields.contains(&Field::Body).then(|| half.body.to_vec());
        Arc::new(Self {
            transaction: half.transaction,
            producer_group: half.producer_group,
            prepared_at: half.prepared_at.0,
            now: half.now.0,
            messages: half.messages,
            topic: half.topic,
            tag: half.tag,
            keys: half.keys,
            ordering_key: half.ordering_key,
            properties: half.properties,
            content_type: half.content_type,
            body,
        })
    }
}

/// What came of a request, as the plugin gets it.
pub(crate) fn response(response: CheckResponse) -> Came {
    Arc::new(match response {
        CheckResponse::Answered { status, headers, body } => Ok(Response { status, headers, body: body.to_vec() }),
        CheckResponse::Failed(words) => Err(words),
    })
}

impl World for CheckBack {
    type Question = Question;
    type Exports = Exports;
    type Decision = CheckAnswer;

    const KIND: Kind = Kind::CheckBack;

    fn exports(store: &mut Store<Guest>, instance: &Instance) -> wasmtime::Result<Exports> {
        let check = instance.get_typed_func(&mut *store, "check")?;
        Ok(Exports { check, answer: instance.get_typed_func(store, "answer")? })
    }

    fn messages(_: &Question) -> usize {
        1
    }

    fn part(question: &Question, _: Range<usize>) -> Question {
        question.clone()
    }

    fn ask(
        exports: &Exports,
        store: &mut Store<Guest>,
        question: Question,
        _: &Plan,
    ) -> wasmtime::Result<Judged<CheckAnswer>> {
        let (found,) = match question {
            Question::Check(half, attempt) => exports.check.call(store, (half, attempt))?,
            Question::Answer(half, response) => exports.answer.call(store, (half, response))?,
        };
        Ok(match found {
            Ok(found) => read(found).map(|answer| vec![Verdict::Answer(answer)]),
            Err(words) => Ok(vec![Verdict::Failed(types::cut(words))]),
        })
    }
}

fn read(found: Found) -> Result<CheckAnswer, Failure> {
    match found {
        Found::Commit => Ok(CheckAnswer::Commit),
        Found::Rollback => Ok(CheckAnswer::Rollback),
        Found::Unknown(Some(after_ms)) if after_ms > limits::CHECK_INTERVAL_MS_MAX => Err(Failure::Output),
        Found::Unknown(after_ms) => Ok(CheckAnswer::Unknown { after_ms }),
        Found::Ask(request) => read_request(request).map(CheckAnswer::Ask).ok_or(Failure::Output),
    }
}

/// The request, if it is within its bounds.
fn read_request(request: Request) -> Option<OutsideRequest> {
    let header_bytes: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let fits = (1..=limits::CHECK_URL_BYTES_MAX).contains(&request.url.len())
        && request.headers.len() <= limits::CHECK_HEADERS_MAX
        && header_bytes <= limits::CHECK_HEADERS_BYTES_MAX
        && request.body.len() <= limits::CHECK_BODY_BYTES_MAX;
    fits.then(|| OutsideRequest {
        method: match request.method {
            Method::Get => OutsideMethod::Get,
            Method::Post => OutsideMethod::Post,
        },
        url: request.url,
        headers: request.headers,
        body: Bytes::from(request.body),
    })
}
