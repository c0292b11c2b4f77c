//! `GET /openapi.json`: OpenAPI 3.1 from the types of the contract and one row an operation.
//!
//! Schemas come from utoipa; paths are put together here, because one row a call (its parameters, body, answers and
//! codes) says what attribute macros on every handler would say in ten times the lines. Tests hold the rows to the
//! router: every route has its rows, every row its route.

mod operations;
mod parameters;
mod schemas;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use pointsman_api_types::Code;
use serde_json::{Map, Value, json};

use operations::{Answer, Input, Operation};
use parameters::PARAMETERS;

/// Codes that any call may answer.
const EVERYWHERE: &[Code] = &[Code::InvalidRequest, Code::Forbidden, Code::NotAcceptable, Code::Internal];
/// Codes of every call that reaches the broker.
const BROKER: &[Code] = &[
    Code::InvalidName,
    Code::Unauthenticated,
    Code::TokenExpired,
    Code::TokenRevoked,
    Code::TenantNotFound,
    Code::NoLeader,
    Code::Overloaded,
    Code::Draining,
    Code::StorageFailed,
];
/// Codes of every call that writes.
const WRITES: &[Code] = &[Code::DiskFull, Code::OutcomeUnknown];
/// Codes of every call with a body.
const BODIES: &[Code] = &[Code::TooDeep, Code::BodyTooLarge, Code::UnsupportedMediaType, Code::RequestTimeout];

/// Method and path of every operation.
#[cfg(test)]
pub(crate) fn operations() -> impl Iterator<Item = (&'static str, &'static str)> {
    operations::all().map(|operation| (operation.method, operation.path))
}

/// The document, made once.
pub(crate) fn document() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| Bytes::from(serde_json::to_vec(&assemble()).unwrap_or_default()));
    DOCUMENT.clone()
}

fn assemble() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations::all() {
        paths.entry(operation.path).or_default().insert(operation.method.to_owned(), described(operation));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pointsman",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A message broker whose every judgement is a WebAssembly plugin.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "security": [{"bearer": []}],
        "components": {
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "`pm_<id>_<secret>`. Not asked for from loopback until a token with the scope `operator` exists.",
            }},
            "schemas": schemas::all(),
            "parameters": PARAMETERS.iter().map(|p| (p.name.to_owned(), p.json())).collect::<Map<_, _>>(),
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": responses(operation),
    });
    if crate::access::is_open(operation.path) {
        value["security"] = json!([]);
    }
    let parameters: Vec<_> = path_parameters(operation.path)
        .chain(operation.parameters.iter().map(|name| json!({"$ref": format!("#/components/parameters/{name}")})))
        .collect();
    if !parameters.is_empty() {
        value["parameters"] = parameters.into();
    }
    if let Some(input) = &operation.input {
        value["requestBody"] = json!({"required": input.required, "content": input_content(input)});
    }
    value
}

fn path_parameters(path: &str) -> impl Iterator<Item = Value> + '_ {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
}

fn input_content(input: &Input) -> Map<String, Value> {
    input.contents.iter().map(|(kind, schema)| ((*kind).to_owned(), content(schema))).collect()
}

/// A media type object; an empty schema name is plain bytes.
fn content(schema: &str) -> Value {
    match schema {
        "" => json!({}),
        name => json!({"schema": {"$ref": format!("#/components/schemas/{name}")}}),
    }
}

fn responses(operation: &Operation) -> Map<String, Value> {
    let mut out = Map::new();
    for Answer { status, description, contents } in operation.answers {
        let mut response = json!({"description": description});
        if !contents.is_empty() {
            let all: Map<_, _> = contents.iter().map(|(kind, schema)| ((*kind).to_owned(), content(schema))).collect();
            response["content"] = all.into();
        }
        out.insert(status.to_string(), response);
    }
    let mut codes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for code in refusals(operation) {
        codes.entry(code.status()).or_default().push(code.as_str());
    }
    for (status, mut names) in codes {
        names.sort_unstable();
        names.dedup();
        let problem = json!({
            "description": format!("Problem: {}", names.join(", ")),
            "content": {"application/problem+json": content("Problem")},
        });
        // A call whose own answer has this status (`/health/ready`) keeps it.
        out.entry(status.to_string()).or_insert(problem);
    }
    out
}

fn refusals(operation: &Operation) -> impl Iterator<Item = Code> + '_ {
    let broker = if operation.path.starts_with("/v1/") { BROKER } else { &[] };
    let writes = broker.iter().chain(WRITES).filter(|_| operation.writes());
    let bodies = if operation.input.is_some() { BODIES } else { &[] };
    EVERYWHERE.iter().chain(broker).chain(writes).chain(bodies).chain(operation.codes).copied()
}

#[cfg(test)]
mod tests;
