//! What a decision costs: natively, and in the sandbox once its instance is warm, at full batches.
//!
//! The quickest of many rounds counts: what else the machine does then stays out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_model::judge::{CallLimits, Kind, OnFailure};
use pointsman_model::{BindingId, Generation, TenantId, limits};
use pointsman_plugin_host::{Builtin, PluginHost, Spec};

use super::QUEUES;
use super::input::Event;
use crate::commands::Failure;
use crate::sample::{self, Sample};

/// How long is measured.
const MEASURE_FOR: Duration = Duration::from_millis(50);
/// Sandbox calls of one round.
const ROUND_CALLS: usize = 8;
/// Calls before, so that the instance is there and audited.
const WARM_UP_CALLS: u32 = 3;

/// Nanoseconds a decision of an example that this sandbox has compiled, over batches of the greatest size.
pub(super) fn sandbox_ns(
    host: &PluginHost,
    example: &Builtin,
    config: Bytes,
    events: &[Event],
) -> Result<f64, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    let spec = Spec {
        tenant: TenantId(u32::MAX),
        binding: BindingId(0),
        generation: Generation(0),
        digest: example.digest,
        kind: example.kind,
        config,
        limits: CallLimits::default(),
        on_failure: OnFailure::Refuse,
    };
    let plan = host.try_init_now(&spec).map_err(|error| refused(&error))?;
    let bound = host.bind(spec, plan).map_err(|error| refused(&error))?;
    let samples: Vec<Sample> = events.iter().cycle().take(limits::JUDGE_MESSAGES_MAX).map(sample).collect();
    let columns = sample::columns(&samples, bound.plan());
    let context = sample::context(QUEUES);
    let call = || match example.kind {
        Kind::Filter => host.filter_now(&bound, columns.clone(), samples.len()).map(drop),
        Kind::Dedup => host.dedup_now(&bound, columns.clone(), samples.len()).map(drop),
        _ => host.select_now(&bound, &context, columns.clone(), samples.len()).map(drop),
    };
    for _ in 0..WARM_UP_CALLS {
        call().map_err(|error| refused(&error))?;
    }
    let mut failure = None;
    let ns = quickest_ns(ROUND_CALLS * samples.len(), || failure = (0..ROUND_CALLS).try_for_each(|_| call()).err());
    failure.map_or(Ok(ns), |error| Err(refused(&error)))
}

/// Nanoseconds of one of the `decisions` that a round makes, in the quickest round.
pub(super) fn quickest_ns(decisions: usize, mut round: impl FnMut()) -> f64 {
    let (begun, mut quickest) = (Instant::now(), Duration::MAX);
    while begun.elapsed() < MEASURE_FOR {
        let started = Instant::now();
        round();
        quickest = quickest.min(started.elapsed());
    }
    (quickest.as_nanos() as f64 / decisions.max(1) as f64 * 10.0).round() / 10.0
}

/// As [`sandbox_ns`], on a thread that may be held up.
pub(super) async fn in_background(
    host: &Arc<PluginHost>,
    example: &'static Builtin,
    config: Bytes,
    events: &[Event],
) -> Result<f64, Failure> {
    let (host, events) =
        (Arc::clone(host), events.iter().take(limits::JUDGE_MESSAGES_MAX).cloned().collect::<Vec<_>>());
    tokio::task::spawn_blocking(move || sandbox_ns(&host, example, config, &events))
        .await
        .map_err(|error| Failure::Refused(error.to_string()))?
}

fn sample(event: &Event) -> Sample {
    Sample {
        tag: event.tag.clone(),
        keys: event.keys.clone(),
        ordering_key: event.ordering_key.clone(),
        properties: event.properties.clone(),
        priority: 0,
        body: event.body.clone().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_plugin_host::HostConfig;

    use super::*;

    #[tokio::test]
    async fn the_examples_that_see_every_message_are_measured() {
        let host = PluginHost::new(HostConfig::default()).expect("a sandbox");
        let events = super::super::input::generate(100);
        let kinds = [Kind::Filter, Kind::Selector, Kind::Dedup];
        for example in pointsman_plugin_host::examples().iter().filter(|example| kinds.contains(&example.kind)) {
            host.compile(example.digest, Bytes::from_static(example.bytes)).await.expect("compiled");
            let config = if example.kind == Kind::Filter { r#"{"accept":["push"]}"# } else { "{}" };
            let ns = sandbox_ns(&host, example, Bytes::from_static(config.as_bytes()), &events).expect("measured");
            assert!(ns > 0.0, "{}", example.name);
        }
    }
}
