//! Tokens, who calls, and stream tickets.

use axum::body::Body;
use axum::response::Response;
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use pointsman_api_types::Time;
use pointsman_api_types::tenant::DryDelete;
use pointsman_api_types::token::{NewToken, Ticket, TicketInput, Token, TokenInput, Whoami};
use pointsman_broker::{Error, Principal, state};
use pointsman_model::{Scope, Timestamp};

use super::{control_body, detached, from_json};
use crate::context::{Cx, check_path};
use crate::failure::Failure;
use crate::{access, answer, conditional, ticket};

fn scopes(scopes: &[Scope]) -> Vec<String> {
    scopes.iter().map(Scope::to_string).collect()
}

fn shown(token: &state::Token) -> Token {
    Token {
        id: token.id.to_string(),
        scopes: scopes(&token.scopes),
        created_at: Time(token.created_at.0),
        expires_at: token.expires_at.map(|at| Time(at.0)),
    }
}

pub(crate) async fn whoami(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let whoami = match &cx.call.principal {
        Principal::Token(bearer) => Whoami {
            tenant: bearer.tenant.as_ref().map(|(_, name)| name.to_string()),
            token: Some(bearer.id.to_string()),
            scopes: scopes(&bearer.scopes),
        },
        _ => Whoami { tenant: None, token: None, scopes: scopes(&[Scope::Operator]) },
    };
    answer::json(StatusCode::OK, &whoami)
}

pub(crate) async fn create(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let input: TokenInput = from_json(&control_body(&cx, body, &[]).await?)?;
    let (broker, call, tenant) = (cx.broker(), cx.call.clone(), cx.tenant().to_owned());
    let expires_at = input.expires_at.map(|at| Timestamp(at.0));
    let new = detached(async move { broker.create_token(&call, &tenant, &input.scopes, expires_at).await }).await?;
    let Token { id, scopes, expires_at, .. } = shown(&new.token);
    let location = format!("/v1/tenants/{}/tokens/{id}", cx.tenant());
    let mut response = answer::json(StatusCode::CREATED, &NewToken { id, token: new.bearer, scopes, expires_at })?;
    let out = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(location) {
        out.insert(header::LOCATION, location);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(crate) async fn get(cx: Cx) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let token = cx.app.broker.get_token(&cx.call, cx.tenant(), cx.path("id")).await?;
    answer::read(&cx.headers, token.revision, &shown(&token))
}

pub(crate) async fn list(cx: Cx) -> Result<Response, Failure> {
    let query = cx.json_query(&["limit", "cursor"]).await?;
    let page = cx.page(&query).await?;
    answer::list(cx.app.broker.list_tokens(&cx.call, cx.tenant(), &page).await?, |token| shown(&token))
}

pub(crate) async fn delete(cx: Cx) -> Result<Response, Failure> {
    let query = cx.query(&["dry_run"]).await?;
    let (dry_run, expect) = (query.flag("dry_run")?, cx.precondition()?);
    if dry_run {
        let token = cx.app.broker.get_token(&cx.call, cx.tenant(), cx.path("id")).await?;
        if !conditional::holds(&expect, token.revision) {
            return Err(Error::PreconditionFailed.into());
        }
        let would = DryDelete { dry_run: true, would: "delete".to_owned(), messages: None, bindings: None };
        return answer::json(StatusCode::OK, &would);
    }
    let (broker, call) = (cx.broker(), cx.call.clone());
    let (tenant, id) = (cx.tenant().to_owned(), cx.path("id").to_owned());
    detached(async move { broker.revoke_token(&call, &tenant, &id, expect).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// A ticket for a stream of this tenant that the caller may open.
pub(crate) async fn ticket(cx: Cx, body: Body) -> Result<Response, Failure> {
    cx.json_query(&[]).await?;
    let input: TicketInput = from_json(&control_body(&cx, body, &[]).await?)?;
    let not_a_stream = || Failure::invalid("/path", "the path of a stream of the tenant, without its query");
    let (route, path) = ticket::stream_of(&input.path).ok_or_else(not_a_stream)?;
    if path.first().is_none_or(|(_, tenant)| tenant != cx.tenant()) {
        return Err(not_a_stream());
    }
    check_path(&path, true).map_err(|_| not_a_stream())?;
    let action = access::action(route, &Method::GET, &path);
    let (ticket, expires_at) = cx.app.broker.create_ticket(&cx.call, cx.tenant(), &input.path, action).await?;
    let mut response = answer::json(StatusCode::CREATED, &Ticket { ticket, expires_at: Time(expires_at.0) })?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
