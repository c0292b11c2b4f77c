//! Which scope each route takes, and which node serves it: what `edge` asks before a handler reads query and body.
//!
//! One row a method and path. A route without a row is the operator's alone, and a test says that its row is missing.
//! The broker's use cases ask again (`pointsman_broker::Action`).

use std::collections::HashMap;
use std::sync::LazyLock;

use http::Method;
use pointsman_broker::Action;

use crate::routes;

/// Parameters of the path, in its order.
pub(crate) type Path = [(&'static str, String)];

/// What a route takes. Numbers are places of parameters in the path; 0 is the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// No token.
    Nothing,
    Read,
    Publish(usize),
    PublishSome,
    Consume(usize),
    ConsumeSome,
    Admin(usize),
    AdminTokens,
    PluginWrite,
    Operator,
    CreateTenant,
}

use Need::{
    Admin, AdminTokens, Consume, ConsumeSome, CreateTenant, Nothing, Operator, PluginWrite, Publish, PublishSome, Read,
};

/// Which node serves a route, in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The one that was asked.
    Here,
    /// The one that was asked, if messages are listed by offset; by key the answer must be fresh.
    Browse,
    /// The one that leads the metadata shard.
    Metadata,
    /// The one that leads the home of the tenant.
    Home,
    /// The one that leads the shard of the path.
    Shard,
}

use Place::{Browse, Here, Home, Metadata, Shard};

/// A row of [`NEEDS`].
type Row = (&'static str, &'static str, Need, Place);

/// Methods, path, need and place. `T` is a tenant's path, `{}` any parameter, `**` the rest.
const NEEDS: &[Row] = &[
    ("GET", "/health/**", Nothing, Here),
    ("GET", "/version", Nothing, Here),
    ("GET", "/metrics", Operator, Here),
    ("GET", "/openapi.json", Read, Here),
    ("GET", "/docs", Read, Here),
    ("GET", "/console/**", Read, Here),
    ("GET", "/v1/whoami", Read, Here),
    ("GET", "/v1/audit", Operator, Here),
    ("GET", "/v1/cluster", Operator, Here),
    ("POST DELETE", "/v1/cluster/nodes/**", Operator, Here),
    ("POST", "/v1/cluster/nodes", Operator, Here),
    ("POST", "/v1/cluster/shards/{}/transfer", Operator, Shard),
    ("GET", "/v1/tenants", Read, Metadata),
    ("GET", "T", Read, Metadata),
    ("PUT", "T", CreateTenant, Metadata),
    ("DELETE", "T", Operator, Metadata),
    ("GET POST", "T/tokens", AdminTokens, Metadata),
    ("GET DELETE", "T/tokens/{}", AdminTokens, Metadata),
    ("GET", "T/quota", Read, Home),
    ("PUT", "T/quota", Operator, Home),
    ("GET", "T/usage", Read, Home),
    ("POST", "T/stream-tickets", Read, Here),
    ("GET", "T/topics", Read, Home),
    ("GET", "T/topics/{}", Read, Home),
    ("PUT PATCH DELETE", "T/topics/{}", Admin(1), Home),
    ("GET", "T/topics/{}/queues", Read, Home),
    ("GET", "T/topics/{}/stats", Read, Home),
    ("GET", "T/topics/{}/offsets", Read, Home),
    ("POST", "T/topics/{}/purge", Admin(1), Home),
    ("POST", "T/topics/{}/messages", Publish(1), Home),
    ("GET", "T/topics/{}/messages", Consume(1), Browse),
    ("GET", "T/topics/{}/stream", Consume(1), Here),
    ("GET", "T/topics/{}/publishes/{}", Publish(1), Home),
    ("GET", "T/topics/{}/scheduled", Publish(1), Home),
    ("POST", "T/topics/{}/transactions", Publish(1), Home),
    ("GET", "T/stream", ConsumeSome, Here),
    ("GET DELETE PATCH", "T/scheduled/{}", PublishSome, Home),
    ("GET", "T/schedules", Read, Home),
    ("GET", "T/schedules/{}", Read, Home),
    ("PUT DELETE", "T/schedules/{}", PublishSome, Home),
    ("GET", "T/transactions", PublishSome, Home),
    ("GET", "T/transactions/{}", PublishSome, Home),
    ("POST", "T/transactions/{}/commit", PublishSome, Home),
    ("POST", "T/transactions/{}/rollback", PublishSome, Home),
    ("POST", "T/producer-groups/{}/checks/lease", PublishSome, Home),
    ("GET", "T/producer-groups/{}/checks", PublishSome, Home),
    ("GET", "T/messages/{}", ConsumeSome, Home),
    ("GET", "T/messages/{}/payload", ConsumeSome, Here),
    ("GET", "T/messages/{}/trace", ConsumeSome, Home),
    ("GET", "T/messages/{}/explain", ConsumeSome, Home),
    ("GET", "T/groups", Read, Home),
    ("GET", "T/groups/{}", Read, Home),
    ("PUT DELETE", "T/groups/{}", Admin(1), Home),
    ("POST", "T/groups/{}/leases", Consume(1), Home),
    ("POST", "T/groups/{}/settle", Consume(1), Home),
    ("GET", "T/groups/{}/stream", Consume(1), Home),
    ("GET", "T/groups/{}/offsets", Read, Home),
    ("GET", "T/groups/{}/lag", Read, Home),
    ("GET", "T/groups/{}/inflight", Read, Home),
    ("GET", "T/groups/{}/members", Read, Home),
    ("POST", "T/groups/{}/seek", Admin(1), Home),
    ("POST", "T/groups/{}/pause", Admin(1), Home),
    ("POST", "T/groups/{}/resume", Admin(1), Home),
    ("GET", "T/groups/{}/dlq", Consume(1), Home),
    ("GET DELETE", "T/groups/{}/dlq/{}", Consume(1), Home),
    ("POST", "T/groups/{}/dlq/redrive", Consume(1), Home),
    ("GET", "T/groups/{}/push", Read, Home),
    ("PUT DELETE", "T/groups/{}/push", Admin(1), Home),
    ("GET", "T/plugins", Read, Home),
    ("GET", "T/plugins/**", Read, Home),
    ("PUT DELETE", "T/plugins/{}/versions/{}", PluginWrite, Home),
    ("POST", "T/plugins/{}/versions/{}/dry-run", PluginWrite, Home),
    ("POST", "T/plugins/{}/replay", PluginWrite, Home),
    ("GET", "T/jobs", Read, Home),
    ("GET", "T/jobs/{}", Read, Home),
    ("DELETE", "T/jobs/{}", PluginWrite, Home),
    ("GET", "T/bindings", Read, Home),
    ("GET", "T/bindings/**", Read, Home),
    ("PUT DELETE", "T/bindings/{}", Admin(1), Home),
    ("POST", "T/bindings/{}/promote", Admin(1), Home),
    ("POST", "T/bindings/{}/rollback", Admin(1), Home),
    ("POST", "T/bindings/{}/quarantine", Admin(1), Home),
    ("POST", "T/bindings/{}/resume", Admin(1), Home),
];

const TENANT: &str = "/v1/tenants/{tenant}";

/// True if a route answers everyone.
pub(crate) fn is_open(route: &str) -> bool {
    row(route, &Method::GET).is_some_and(|(need, _)| need == Nothing)
}

/// What a call of a route does. A method that the route has not got is refused later.
pub(crate) fn action<'a>(route: &str, method: &Method, path: &'a Path) -> Action<'a> {
    let part = |place: usize| path.get(place).map_or("", |(_, value)| value.as_str());
    match row(route, method).map(|(need, _)| need) {
        Some(Nothing | Read) => Action::Read,
        Some(Publish(place)) => Action::Publish(part(place)),
        Some(PublishSome) => Action::PublishSome,
        Some(Consume(place)) => Action::Consume(part(place)),
        Some(ConsumeSome) => Action::ConsumeSome,
        Some(Admin(place)) => Action::Admin(part(place)),
        Some(AdminTokens) => Action::AdminTokens,
        Some(PluginWrite) => Action::PluginWrite,
        Some(CreateTenant) => Action::CreateTenant,
        Some(Operator) | None => Action::Operator,
    }
}

/// Which node serves a route. What no row fits is refused by whoever is asked.
pub(crate) fn place(route: &str, method: &Method) -> Place {
    row(route, method).map_or(Here, |(_, place)| place)
}

fn row(route: &str, method: &Method) -> Option<(Need, Place)> {
    /// The rows of each template, in their order.
    static ROWS: LazyLock<HashMap<&str, Vec<&Row>>> = LazyLock::new(|| {
        let rows = |route| NEEDS.iter().filter(|(_, pattern, ..)| is_of(route, pattern)).collect();
        routes::templates().map(|route| (route, rows(route))).collect()
    });
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let fits = |(methods, ..): &&&Row| methods.split(' ').any(|m| m == method);
    ROWS.get(route)?.iter().find(fits).map(|(.., need, place)| (*need, *place))
}

/// True if a route's template is of that pattern.
fn is_of(route: &str, pattern: &str) -> bool {
    let (route, pattern) = match pattern.strip_prefix('T') {
        Some(pattern) => match route.strip_prefix(TENANT) {
            Some(route) => (route, pattern),
            None => return false,
        },
        None => (route, pattern),
    };
    let mut parts = route.split('/');
    for wanted in pattern.split('/') {
        if wanted == "**" {
            return parts.next().is_some();
        }
        let fits = parts.next().is_some_and(|part| part == wanted || (wanted == "{}" && part.starts_with('{')));
        if !fits {
            return false;
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi;

    #[test]
    fn every_operation_has_its_row() {
        for (method, path) in openapi::operations() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            assert!(row(path, &method).is_some(), "{method} {path} has no row in NEEDS");
        }
    }

    #[test]
    fn patterns() {
        for (route, pattern, fits) in [
            ("/v1/tenants/{tenant}", "T", true),
            ("/v1/tenants", "T", false),
            ("/v1/tenants/{tenant}/topics", "T", false),
            ("/v1/tenants/{tenant}/topics/{topic}", "T/topics/{}", true),
            ("/v1/tenants/{tenant}/topics/{topic}/queues", "T/topics/{}", false),
            ("/v1/tenants/{tenant}/plugins/builtin/{builtin}", "T/plugins/**", true),
            ("/v1/tenants/{tenant}/plugins", "T/plugins/**", false),
            ("/v1/tenants/{tenant}/groups/{group}/dlq/redrive", "T/groups/{}/dlq/{}", false),
            ("/health/live", "/health/**", true),
            ("/healthy", "/health/**", false),
        ] {
            assert_eq!(is_of(route, pattern), fits, "{route} {pattern}");
        }
    }

    #[test]
    fn places() {
        for (method, route, place) in [
            (Method::GET, "/v1/whoami", Here),
            (Method::GET, "/v1/tenants", Metadata),
            (Method::PUT, "/v1/tenants/{tenant}", Metadata),
            (Method::POST, "/v1/tenants/{tenant}/tokens", Metadata),
            (Method::GET, "/v1/tenants/{tenant}/topics/{topic}/stream", Here),
            (Method::GET, "/v1/tenants/{tenant}/topics/{topic}/messages", Browse),
            (Method::HEAD, "/v1/tenants/{tenant}/topics/{topic}/messages", Browse),
            (Method::POST, "/v1/tenants/{tenant}/topics/{topic}/messages", Home),
            (Method::GET, "/v1/tenants/{tenant}/groups/{group}/stream", Home),
            (Method::GET, "/v1/tenants/{tenant}/messages/{id}", Home),
            (Method::GET, "/v1/tenants/{tenant}/messages/{id}/payload", Here),
            (Method::POST, "/v1/cluster/shards/{shard}/transfer", Shard),
            (Method::PATCH, "/v1/whoami", Here),
        ] {
            assert_eq!(super::place(route, &method), place, "{method} {route}");
        }
    }

    #[test]
    fn only_health_and_version_are_open() {
        let open: Vec<_> = openapi::operations().map(|(_, path)| path).filter(|path| is_open(path)).collect();
        assert_eq!(open, ["/health/live", "/health/ready", "/version"]);
    }
}
