//! Nanoseconds a plugin decision beside native Rust.
//!
//! `cargo run --release -p pointsman-plugin-host --example decision`
//!
//! Medians of 31 samples of at least 2 ms each, of the thread's CPU time (of wall time through a worker). Gathering the columns from the messages is included, metering by
//! fuel and epoch is on, memory is capped: this is what the broker does, without the broker.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pointsman_model::judge::{CallLimits, Column, Context, OnFailure, QueueStat};
use pointsman_model::{BindingId, Generation, QueueId, TenantId};
use pointsman_plugin_host::{Bound, Builtin, HostConfig, PluginHost, Spec, builtin, examples};
use rustix::time::{ClockId, clock_gettime};

const SAMPLES: usize = 31;
const SAMPLE: Duration = Duration::from_millis(2);
const TAGS: usize = 16;
const WANTED: usize = 8;

struct Message {
    tag: String,
    repository: String,
}

fn main() {
    let messages: Vec<Message> = (0..1024)
        .map(|i: usize| Message {
            tag: format!("order-state-{:02}", i.wrapping_mul(7919) % TAGS),
            repository: format!("organisation-{}/repository-{}", i % 13, i % 101),
        })
        .collect();
    let wanted: Vec<String> = (0..WANTED).map(|i| format!("order-state-{:02}", i * 2)).collect();
    let host = PluginHost::new(HostConfig::default()).expect("a host");
    let expression = format!(r#"{{"expression":"{}"}}"#, wanted.join(" || "));
    let tags = bind(&host, builtin("tags").expect("there"), &expression);
    let by_event = bind(&host, &examples()[0], &format!(r#"{{"accept":{wanted:?},"actions":["opened"]}}"#));
    let router = bind(&host, &examples()[1], "{}");
    let context = Context {
        attempt_limit: 17,
        queues: (0..8).map(|queue| QueueStat { queue: QueueId(queue), messages: 0 }).collect(),
    };

    println!("filter, 8 tags of 16, ns a message");
    let native = median(1024, cpu_time, || {
        for message in &messages {
            black_box(wanted.contains(black_box(&message.tag)));
        }
    });
    println!("  native Rust                       {native:8.1}");
    for n in [1, 4, 16, 64, 256] {
        let ns = median(n, cpu_time, || {
            let columns = vec![tag_column(&messages[..n])];
            black_box(host.filter_now(&tags, columns, n).expect("a good batch"));
        });
        println!("  builtin/tags, batch {n:4}          {ns:8.1}   {:5.1} x native", ns / native);
    }
    for n in [1, 64, 256] {
        let ns = median(n, cpu_time, || {
            let columns = vec![tag_column(&messages[..n]), absent(n)];
            black_box(host.filter_now(&by_event, columns, n).expect("a good batch"));
        });
        println!("  example by-event, batch {n:4}      {ns:8.1}   {:5.1} x native", ns / native);
    }

    println!("selector, queue by hash of the repository, ns a message");
    let native = median(1024, cpu_time, || {
        for message in &messages {
            black_box(fnv(black_box(message.repository.as_bytes())) % 8);
        }
    });
    println!("  native Rust                       {native:8.1}");
    for n in [1, 64, 256] {
        let ns = median(n, cpu_time, || {
            let columns = vec![key_column(&messages[..n])];
            black_box(host.select_now(&router, &context, columns, n).expect("a good batch"));
        });
        println!("  example route-by-repository, {n:4} {ns:8.1}   {:5.1} x native", ns / native);
    }

    println!("the same filter through a worker thread, ns a message");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    for n in [1, 64, 256] {
        let ns = median(n, wall_time, || {
            let columns = vec![tag_column(&messages[..n])];
            black_box(runtime.block_on(host.filter(&tags, columns, n)).expect("a good batch"));
        });
        println!("  builtin/tags, batch {n:4}          {ns:8.1}");
    }
    let stats = tags.stats();
    println!(
        "builtin/tags: {} calls, {} ns a message, {} fuel a message",
        stats.calls,
        stats.ns_per_message,
        stats.fuel / stats.messages
    );
}

fn bind(host: &PluginHost, component: &Builtin, config: &str) -> Arc<Bound> {
    let started = Instant::now();
    host.compile_now(component.digest, component.bytes).expect("it compiles");
    println!(
        "{}: {} KiB, compiled in {} ms",
        component.name,
        component.bytes.len() >> 10,
        started.elapsed().as_millis()
    );
    let spec = Spec {
        tenant: TenantId(1),
        binding: BindingId(1),
        generation: Generation(1),
        digest: component.digest,
        kind: component.kind,
        config: Bytes::copy_from_slice(config.as_bytes()),
        limits: CallLimits::default(),
        on_failure: OnFailure::Deliver,
    };
    let plan = host.try_init_now(&spec).expect("a good config");
    host.bind(spec, plan).expect("compiled")
}

fn tag_column(messages: &[Message]) -> Column {
    let mut column =
        Column { ends: Vec::with_capacity(messages.len()), bytes: Vec::with_capacity(messages.len() * 16) };
    for message in messages {
        column.push(Some(message.tag.as_bytes()));
    }
    column
}

fn key_column(messages: &[Message]) -> Column {
    let mut column =
        Column { ends: Vec::with_capacity(messages.len()), bytes: Vec::with_capacity(messages.len() * 40) };
    for message in messages {
        let key = message.repository.as_bytes();
        column.bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        column.push(Some(key));
    }
    column
}

fn absent(n: usize) -> Column {
    let mut column = Column::default();
    for _ in 0..n {
        column.push(None);
    }
    column
}

/// What the SDK's `hash` does.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The time of this thread on a CPU: what a call costs, whatever else the machine does.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The time on the wall, for what other threads do.
fn wall_time() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Nanoseconds a message of `work`, which handles `n`.
fn median(n: usize, clock: fn() -> Duration, mut work: impl FnMut()) -> f64 {
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let (mut rounds, started) = (0_u32, clock());
            while clock() - started < SAMPLE {
                (0..16).for_each(|_| work());
                rounds += 16;
            }
            (clock() - started).as_nanos() as f64 / f64::from(rounds) / n as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}
