//! Metrics of the edge. Labels come from closed sets only: route templates, methods, status classes, codes.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, StatusCode};
use pointsman_api_types::Code;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::App;

/// `/metrics` is of this type.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the duration histogram, in seconds.
const DURATION_BUCKETS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    route: &'static str,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    code: &'static str,
}

type Durations = Family<Route, Histogram, fn() -> Histogram>;

/// What the edge counts.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    durations: Durations,
    problems: Family<Refusal, Counter>,
    /// Streams open now.
    pub(crate) streams: Gauge,
    connections: Gauge,
    accepted: Counter,
    accept_errors: Counter,
    body_bytes: Gauge,
    /// Requests that other nodes serve, and that this one serves for others.
    pub(crate) forwarded: Forwarded,
}

/// What becomes of requests between nodes.
#[derive(Default)]
pub(crate) struct Forwarded {
    /// Sent to another node; each try counts.
    pub(crate) sent: Counter,
    /// Requests that were tried again.
    pub(crate) retried: Counter,
    /// Sent, and the answer lost.
    pub(crate) lost: Counter,
    /// Served for another node.
    pub(crate) served: Counter,
    /// Not served for another node, for this one does not lead.
    pub(crate) not_leader: Counter,
}

impl Forwarded {
    fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("forwards_sent", "Requests sent to the node that leads, each try", &self.sent),
            ("forwards_retried", "Requests tried again, here or there", &self.retried),
            ("forwards_lost", "Requests sent whose answer was lost", &self.lost),
            ("forwards_served", "Requests of other nodes served", &self.served),
            ("forwards_not_leader", "Requests of other nodes not served, for this one does not lead", &self.not_leader),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("pointsman_http");
        let requests = Family::default();
        let durations: Durations = Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        let problems = Family::default();
        let (streams, connections, body_bytes) = (Gauge::default(), Gauge::default(), Gauge::default());
        let (accepted, accept_errors) = (Counter::default(), Counter::default());
        registry.register("requests", "Requests answered, by status class", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from the request's headers to the answer's",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("problems", "Refusals and failures, by code", problems.clone());
        registry.register("streams", "Streams open now", streams.clone());
        registry.register("connections", "Connections open now", connections.clone());
        registry.register("connections_accepted", "Connections accepted", accepted.clone());
        registry.register("accept_errors", "Accepts that failed", accept_errors.clone());
        registry.register_with_unit("bodies_held", "Request bodies being read", Unit::Bytes, body_bytes.clone());
        let forwarded = Forwarded::default();
        forwarded.register(&mut registry);
        Self {
            registry,
            requests,
            durations,
            problems,
            streams,
            connections,
            accepted,
            accept_errors,
            body_bytes,
            forwarded,
        }
    }

    /// Counts an answer. `route` is `None` where no route fits.
    pub(crate) fn answered(&self, route: Option<&'static str>, method: &Method, status: StatusCode, elapsed: Duration) {
        let (route, method) = (route.unwrap_or("other"), fold(method));
        self.requests.get_or_create_owned(&Answer { route, method, status: class(status) }).inc();
        self.durations.get_or_create_owned(&Route { route, method }).observe(elapsed.as_secs_f64());
    }

    /// Counts a problem that another node told.
    pub(crate) fn refused_elsewhere(&self, code: &str) {
        if let Some(code) = Code::ALL.iter().find(|known| known.as_str() == code) {
            self.refused(*code);
        }
    }

    /// Counts a problem.
    pub(crate) fn refused(&self, code: Code) {
        self.problems.get_or_create_owned(&Refusal { code: code.as_str() }).inc();
    }
}

/// The whole text of `/metrics`.
pub(crate) fn render(app: &App) -> Result<String, fmt::Error> {
    let (metrics, stats) = (&app.metrics, &app.config.stats);
    metrics.connections.set(stats.open.load(Ordering::Relaxed) as i64);
    metrics.body_bytes.set(app.bodies.held() as i64);
    catch_up(&metrics.accepted, stats.accepted.load(Ordering::Relaxed));
    catch_up(&metrics.accept_errors, stats.accept_errors.load(Ordering::Relaxed));
    let mut out = String::new();
    text::encode_registry(&mut out, &metrics.registry)?;
    for source in &app.config.metrics {
        source(&mut out);
    }
    text::encode_eof(&mut out)?;
    Ok(out)
}

/// Brings a counter to a total that is counted elsewhere.
fn catch_up(counter: &Counter, total: u64) {
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

fn fold(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
