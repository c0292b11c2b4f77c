//! Which scope each route takes: what `edge` asks before a handler reads query and body.
//!
//! One row a method and path. A route without a row is the operator's alone, and a test says that its row is missing.
//! The broker's use cases ask again (`pointsman_broker::Action`).

use http::Method;
use pointsman_broker::Action;

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

/// Methods, path and need. `T` is a tenant's path, `{}` any parameter, `**` the rest.
const NEEDS: &[(&str, &str, Need)] = &[
    ("GET", "/health/**", Nothing),
    ("GET", "/version", Nothing),
    ("GET", "/metrics", Operator),
    ("GET", "/openapi.json", Read),
    ("GET", "/docs", Read),
    ("GET", "/console/**", Read),
    ("GET", "/v1/whoami", Read),
    ("GET", "/v1/audit", Operator),
    ("GET POST DELETE", "/v1/cluster", Operator),
    ("GET POST DELETE", "/v1/cluster/**", Operator),
    ("GET", "/v1/tenants", Read),
    ("GET", "T", Read),
    ("PUT", "T", CreateTenant),
    ("DELETE", "T", Operator),
    ("GET POST", "T/tokens", AdminTokens),
    ("GET DELETE", "T/tokens/{}", AdminTokens),
    ("GET", "T/quota", Read),
    ("PUT", "T/quota", Operator),
    ("GET", "T/usage", Read),
    ("POST", "T/stream-tickets", Read),
    ("GET", "T/topics", Read),
    ("GET", "T/topics/{}", Read),
    ("PUT PATCH DELETE", "T/topics/{}", Admin(1)),
    ("GET", "T/topics/{}/queues", Read),
    ("GET", "T/topics/{}/stats", Read),
    ("GET", "T/topics/{}/offsets", Read),
    ("POST", "T/topics/{}/purge", Admin(1)),
    ("POST", "T/topics/{}/messages", Publish(1)),
    ("GET", "T/topics/{}/messages", Consume(1)),
    ("GET", "T/topics/{}/stream", Consume(1)),
    ("GET", "T/topics/{}/publishes/{}", Publish(1)),
    ("GET", "T/topics/{}/scheduled", Publish(1)),
    ("POST", "T/topics/{}/transactions", Publish(1)),
    ("GET", "T/stream", ConsumeSome),
    ("GET DELETE PATCH", "T/scheduled/{}", PublishSome),
    ("GET", "T/schedules", Read),
    ("GET", "T/schedules/{}", Read),
    ("PUT DELETE", "T/schedules/{}", PublishSome),
    ("GET", "T/transactions", PublishSome),
    ("GET", "T/transactions/{}", PublishSome),
    ("POST", "T/transactions/{}/commit", PublishSome),
    ("POST", "T/transactions/{}/rollback", PublishSome),
    ("POST", "T/producer-groups/{}/checks/lease", PublishSome),
    ("GET", "T/producer-groups/{}/checks", PublishSome),
    ("GET", "T/messages/{}", ConsumeSome),
    ("GET", "T/messages/{}/payload", ConsumeSome),
    ("GET", "T/messages/{}/trace", ConsumeSome),
    ("GET", "T/messages/{}/explain", ConsumeSome),
    ("GET", "T/groups", Read),
    ("GET", "T/groups/{}", Read),
    ("PUT DELETE", "T/groups/{}", Admin(1)),
    ("POST", "T/groups/{}/leases", Consume(1)),
    ("POST", "T/groups/{}/settle", Consume(1)),
    ("GET", "T/groups/{}/stream", Consume(1)),
    ("GET", "T/groups/{}/offsets", Read),
    ("GET", "T/groups/{}/lag", Read),
    ("GET", "T/groups/{}/inflight", Read),
    ("GET", "T/groups/{}/members", Read),
    ("POST", "T/groups/{}/seek", Admin(1)),
    ("POST", "T/groups/{}/pause", Admin(1)),
    ("POST", "T/groups/{}/resume", Admin(1)),
    ("GET", "T/groups/{}/dlq", Consume(1)),
    ("GET DELETE", "T/groups/{}/dlq/{}", Consume(1)),
    ("POST", "T/groups/{}/dlq/redrive", Consume(1)),
    ("GET", "T/groups/{}/push", Read),
    ("PUT DELETE", "T/groups/{}/push", Admin(1)),
    ("GET", "T/plugins", Read),
    ("GET", "T/plugins/**", Read),
    ("PUT DELETE", "T/plugins/{}/versions/{}", PluginWrite),
    ("POST", "T/plugins/{}/versions/{}/dry-run", PluginWrite),
    ("POST", "T/plugins/{}/replay", PluginWrite),
    ("GET", "T/jobs", Read),
    ("GET", "T/jobs/{}", Read),
    ("DELETE", "T/jobs/{}", PluginWrite),
    ("GET", "T/bindings", Read),
    ("GET", "T/bindings/**", Read),
    ("PUT DELETE", "T/bindings/{}", Admin(1)),
    ("POST", "T/bindings/{}/promote", Admin(1)),
    ("POST", "T/bindings/{}/rollback", Admin(1)),
    ("POST", "T/bindings/{}/quarantine", Admin(1)),
    ("POST", "T/bindings/{}/resume", Admin(1)),
];

const TENANT: &str = "/v1/tenants/{tenant}";

/// True if a route answers everyone.
pub(crate) fn is_open(route: &str) -> bool {
    need(route, &Method::GET) == Some(Nothing)
}

/// What a call of a route does. A method that the route has not got is refused later.
pub(crate) fn action<'a>(route: &str, method: &Method, path: &'a Path) -> Action<'a> {
    let part = |place: usize| path.get(place).map_or("", |(_, value)| value.as_str());
    match need(route, method) {
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

fn need(route: &str, method: &Method) -> Option<Need> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let fits =
        |(methods, pattern, _): &&(&str, &str, Need)| methods.split(' ').any(|m| m == method) && is_of(route, pattern);
    NEEDS.iter().find(fits).map(|(.., need)| *need)
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
            assert!(need(path, &method).is_some(), "{method} {path} has no row in NEEDS");
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
    fn only_health_and_version_are_open() {
        let open: Vec<_> = openapi::operations().map(|(_, path)| path).filter(|path| is_open(path)).collect();
        assert_eq!(open, ["/health/live", "/health/ready", "/version"]);
    }
}
