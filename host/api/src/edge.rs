//! The one middleware: what comes before every handler and after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use pointsman_api_types::Code;
use pointsman_broker::Error;
use pointsman_model::limits;

use crate::context::{self, Admitted};
use crate::failure::Failure;
use crate::{App, access, compress, forward, headers, origin, routes, ticket};

/// Runs a request.
pub(crate) async fn edge(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let method = parts.method.clone();
    let route = parts.extensions.get::<MatchedPath>().and_then(|path| routes::template(path.as_str()));
    let encodings = parts.headers.get(header::ACCEPT_ENCODING).cloned();
    let (request_id, bad_id) = match request_id(&parts.headers) {
        Ok(id) => (id, None),
        Err(failure) => (fresh_request_id(), Some(failure)),
    };
    let admitted = match bad_id {
        Some(failure) => Err(failure),
        None => admit(&app, &mut parts, route).await,
    };
    let answered = match admitted {
        Ok(mut admitted) => {
            admitted.request_id.clone_from(&request_id);
            match &app.config.cluster {
                Some(ports) => {
                    let request = Request::from_parts(parts, body);
                    forward::dispatch(&app, ports, route, admitted, request, next).await
                }
                None => {
                    parts.extensions.insert(admitted);
                    next.run(Request::from_parts(parts, body)).await
                }
            }
        }
        Err(failure) => failure.into_response(),
    };
    let mut response = answered;
    if let Some(failure) = failure_of(&mut response) {
        app.metrics.refused(failure.code());
        response = failure.render(&request_id);
    }
    response = match compress::compress(encodings.as_ref(), response).await {
        Ok(response) => response,
        Err(lost) => lost.render(&request_id),
    };
    if let Ok(id) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    app.metrics.answered(route, &method, response.status(), started.elapsed());
    response
}

/// Origin, names of the path, credentials, tenant, scope: the checks that need no handler.
async fn admit(app: &App, parts: &mut Parts, route: Option<&'static str>) -> Result<Admitted, Failure> {
    let open = route.is_some_and(access::is_open);
    let presented = if open { Presented::Nothing } else { presented(parts)? };
    if !open && matches!(presented, Presented::Nothing) && !app.broker.needs_token() {
        origin::check(&parts.uri, &parts.headers)?;
    }
    let path = match route {
        Some(route) if route.contains('{') => path_parts(parts).await?,
        _ => Vec::new(),
    };
    context::check_path(&path, matches!(parts.method, Method::GET | Method::HEAD))?;
    let Some(route) = route.filter(|_| !open) else {
        return Ok(Admitted { path, ..Admitted::default() });
    };
    let principal = match presented {
        Presented::Nothing => app.broker.authenticate(None)?,
        Presented::Bearer(token) => app.broker.authenticate_fresh(Some(&token)).await?,
        Presented::Ticket(ticket) if ticket::is_stream(route) => {
            app.broker.redeem_ticket(&ticket, parts.uri.path()).await?
        }
        Presented::Ticket(_) => return Err(Error::Unauthenticated("a ticket opens streams only".to_owned()).into()),
    };
    let tenant = path.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value.as_str());
    app.broker.check_access_fresh(&principal, tenant, access::action(route, &parts.method, &path)).await?;
    Ok(Admitted { principal: Some(principal), path, ..Admitted::default() })
}

/// Credentials as they came.
enum Presented {
    Nothing,
    Bearer(String),
    Ticket(String),
}

/// A bearer token of the header, or a ticket of the query, which the handlers never see.
fn presented(parts: &mut Parts) -> Result<Presented, Failure> {
    let ticket = ticket::take(&mut parts.uri)?;
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(ticket.map_or(Presented::Nothing, Presented::Ticket));
    };
    let refused = |detail: &str| Err(Error::Unauthenticated(detail.to_owned()).into());
    if values.next().is_some() || ticket.is_some() {
        return refused("one credential, please");
    }
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(Presented::Bearer(token.trim().to_owned()))
        }
        _ => refused("`Bearer` and a token"),
    }
}

/// The parameters of a matched path.
pub(crate) async fn path_parts(parts: &mut Parts) -> Result<Vec<(&'static str, String)>, Failure> {
    let raw = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| Failure::new(Code::InvalidName, "the path is not UTF-8"))?;
    Ok(raw.iter().map(|(name, value)| (routes::part(name), value.to_owned())).collect())
}

/// The client's own id, or a fresh one.
fn request_id(headers: &HeaderMap) -> Result<String, Failure> {
    let mut values = headers.get_all(headers::REQUEST_ID).iter();
    let Some(value) = values.next() else { return Ok(fresh_request_id()) };
    let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
    if values.next().is_some() || !visible || !(1..=limits::REQUEST_ID_CHARS_MAX).contains(&value.len()) {
        return Err(Failure::invalid("Pm-Request-Id", "1 to 64 visible ASCII characters, once"));
    }
    Ok(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Unique on this node, and hard to mistake for another node's.
fn fresh_request_id() -> String {
    static START: std::sync::LazyLock<u64> = std::sync::LazyLock::new(rand::random);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // An odd constant spreads the counter over all digits: ids of neighbours differ at a glance.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}", START.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// The failure that an answer carries; axum's bare 405 is one, too.
pub(crate) fn failure_of(response: &mut Response) -> Option<Failure> {
    match response.extensions_mut().remove::<Failure>() {
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            let allow = response.headers_mut().remove(header::ALLOW);
            let failure = Failure::new(Code::MethodNotAllowed, "the route has other methods; see Allow");
            Some(allow.into_iter().fold(failure, |failure, allow| failure.with_header(header::ALLOW, allow)))
        }
        failure => failure,
    }
}

/// An answer that no request of a client's own went through: with an id, and problems rendered.
pub(crate) fn plain(mut response: Response) -> Response {
    let request_id = fresh_request_id();
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = failure.render(&request_id);
    }
    if let Ok(id) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
    response
}

/// Any path that no route has.
pub(crate) async fn no_such_route() -> Failure {
    Failure::new(Code::NotFound, "no such route; GET /openapi.json lists them")
}
