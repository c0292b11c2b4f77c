//! What every handler is told about its request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use pointsman_api_types::Code;
use pointsman_broker::view::{PageRequest, Precondition};
use pointsman_broker::{Broker, Call, Error, Principal};
use pointsman_model::limits;
use pointsman_model::message::check_stored_idempotency_key;

use crate::failure::Failure;
use crate::forward::PaceSlot;
use crate::query::{Query, number_in};
use crate::serve::ConnectionHandle;
use crate::{App, conditional, headers};

/// What `edge` found out before the handler runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) request_id: String,
    /// Who calls; `None` on the open routes.
    pub(crate) principal: Option<Principal>,
    /// Decoded and checked parts of the path.
    pub(crate) path: Vec<(&'static str, String)>,
    /// What is left of the call's time, where it began on another node or waited here.
    pub(crate) remaining: Option<Duration>,
}

impl Admitted {
    /// The tenant of the path.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.path.iter().find(|(name, _)| *name == "tenant").map(|(_, value)| value.as_str())
    }
}

/// A request without its body.
pub(crate) struct Cx {
    pub(crate) app: Arc<App>,
    pub(crate) call: Call,
    pub(crate) headers: HeaderMap,
    pub(crate) connection: ConnectionHandle,
    /// How a stream of leases that goes to another node is paced.
    pub(crate) pace: Option<PaceSlot>,
    path: Vec<(&'static str, String)>,
    raw_query: String,
    /// `Pm-Timeout-Ms`, or what is wrong with it; told at the stage of the query.
    timeout: Result<Duration, Failure>,
}

impl FromRequestParts<Arc<App>> for Cx {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let Admitted { request_id, principal, path, remaining } =
            parts.extensions.remove::<Admitted>().unwrap_or_default();
        let headers = std::mem::take(&mut parts.headers);
        let timeout = timeout(&headers);
        let wait = timeout.as_ref().copied().unwrap_or(Duration::from_millis(limits::TIMEOUT_MS_DEFAULT));
        let wait = remaining.map_or(wait, |remaining| remaining.min(wait));
        Ok(Self {
            app: Arc::clone(app),
            // Open routes tell everyone the same; what asks the broker there is nobody's call.
            call: Call { principal: principal.unwrap_or(Principal::Operator), deadline: now() + wait, request_id },
            headers,
            connection: parts.extensions.remove().unwrap_or_default(),
            pace: parts.extensions.remove(),
            path,
            raw_query: parts.uri.query().unwrap_or_default().to_owned(),
            timeout,
        })
    }
}

/// Now, on the clock of the runtime: a test may stop it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// `Pm-Timeout-Ms`.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Duration, Failure> {
    let Some(text) = headers::text(headers, &headers::TIMEOUT_MS)? else {
        return Ok(Duration::from_millis(limits::TIMEOUT_MS_DEFAULT));
    };
    number_in(text, &(1..=limits::TIMEOUT_MS_MAX))
        .map(Duration::from_millis)
        .map_err(|detail| Failure::invalid("Pm-Timeout-Ms", detail))
}

impl Cx {
    pub(crate) fn broker(&self) -> Arc<Broker> {
        Arc::clone(&self.app.broker)
    }

    /// A part of the path; the route has it.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.path.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn tenant(&self) -> &str {
        self.path("tenant")
    }

    /// The stage of the query: headers, timeout, parameters. Its refusals come after an unknown tenant.
    pub(crate) async fn query(&self, known: &[&str]) -> Result<Query, Failure> {
        self.query_with(known, &[], false).await
    }

    /// The same, with parameters that may repeat, and `Pm-` headers that describe a message.
    pub(crate) async fn query_with(
        &self,
        known: &[&str],
        repeatable: &[&str],
        describes_message: bool,
    ) -> Result<Query, Failure> {
        match self.query_now(known, repeatable, describes_message) {
            Ok(query) => Ok(query),
            Err(failure) => Err(self.after_tenant(failure).await),
        }
    }

    /// The same where an unknown tenant is no earlier refusal.
    pub(crate) fn query_now(
        &self,
        known: &[&str],
        repeatable: &[&str],
        describes_message: bool,
    ) -> Result<Query, Failure> {
        headers::check(&self.headers, describes_message)?;
        self.timeout.clone()?;
        Query::parse(&self.raw_query, known, repeatable)
    }

    /// Query and form of a call that answers JSON.
    pub(crate) async fn json_query(&self, known: &[&str]) -> Result<Query, Failure> {
        let query = self.query(known).await?;
        self.accept(&["application/json"]).await?;
        Ok(query)
    }

    /// The form of the answer. Its refusal comes after an unknown tenant.
    pub(crate) async fn accept<'a>(&self, offered: &[&'a str]) -> Result<&'a str, Failure> {
        match headers::accept(&self.headers, offered) {
            Ok(kind) => Ok(kind),
            Err(failure) => Err(self.after_tenant(failure).await),
        }
    }

    /// `limit` and `cursor` of a list.
    pub(crate) async fn page(&self, query: &Query) -> Result<PageRequest, Failure> {
        match query.number("limit", 1..=u64::from(limits::PAGE_ITEMS_MAX)) {
            Ok(limit) => Ok(PageRequest {
                limit: limit.map_or(limits::PAGE_ITEMS_DEFAULT, |limit| limit as u32),
                cursor: query.get("cursor").map(str::to_owned),
            }),
            Err(failure) => Err(self.after_tenant(failure).await),
        }
    }

    /// What a cursor of a list of this path is checked against.
    pub(crate) fn list_name(&self, list: &str) -> String {
        self.path.iter().fold(list.to_owned(), |name, (_, part)| name + "/" + part)
    }

    pub(crate) fn precondition(&self) -> Result<Precondition, Failure> {
        conditional::precondition(&self.headers)
    }

    /// `failure`, unless the tenant does not exist, which is told first.
    pub(crate) async fn after_tenant(&self, failure: Failure) -> Failure {
        if self.tenant().is_empty() {
            return failure;
        }
        unknown(self.app.broker.get_tenant(&self.call, self.tenant()).await.err(), failure)
    }

    /// `failure`, unless tenant or topic do not exist.
    pub(crate) async fn after_topic(&self, failure: Failure) -> Failure {
        unknown(self.app.broker.get_topic(&self.call, self.tenant(), self.path("topic")).await.err(), failure)
    }

    /// `failure`, unless tenant or group do not exist.
    pub(crate) async fn after_group(&self, failure: Failure) -> Failure {
        unknown(self.app.broker.get_group(&self.call, self.tenant(), self.path("group")).await.err(), failure)
    }

    /// More time for a call that was asked to wait.
    pub(crate) fn extend_deadline(&mut self, wait: Duration) {
        self.call.deadline += wait;
    }
}

fn unknown(found: Option<Error>, failure: Failure) -> Failure {
    match found {
        Some(error @ (Error::TenantNotFound | Error::TopicNotFound(_) | Error::GroupNotFound(_))) => error.into(),
        _ => failure,
    }
}

/// Refuses a name of the path that is no name, on every method.
pub(crate) fn check_path(path: &[(&'static str, String)], reads: bool) -> Result<(), Failure> {
    for (part, value) in path {
        if *part == "key" {
            let checked = check_stored_idempotency_key(value);
            checked.map_err(|reason| Failure::invalid("", format!("the idempotency key in the path: {reason}")))?;
        }
        let fine = match *part {
            "tenant" | "topic" | "group" | "plugin" | "schedule" | "pg" => pointsman_model::name::is_well_formed(value),
            "binding" => is_binding_name(value, reads),
            _ => true,
        };
        if !fine {
            let detail = format!("the {part} in the path: {}", pointsman_model::name::Error::Malformed);
            return Err(Failure::new(Code::InvalidName, detail));
        }
    }
    Ok(())
}

/// `{group}:{topic}` names the filter written in a group, for reading only.
fn is_binding_name(value: &str, reads: bool) -> bool {
    use pointsman_model::name::is_well_formed;
    match value.split_once(':') {
        Some((group, topic)) => reads && is_well_formed(group) && is_well_formed(topic),
        None => is_well_formed(value),
    }
}
