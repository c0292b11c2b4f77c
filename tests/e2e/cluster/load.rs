//! Publishers and transactions, beside consumers and readers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, Outcome};
use super::consume::{self, Group};
use super::ledger::{Fate, Ledger, TOPICS, Wrong, body_of, place_of};
use super::nodes::Cluster;
use super::watch;
use crate::server::T;

/// Queues of each topic.
pub(crate) const QUEUES: usize = 4;
/// Publishers with keys, each with a queue of its own.
const KEYED: usize = QUEUES;
/// Ordering keys of each of them.
pub(crate) const KEYS: u64 = 8;
const TRANSACTORS: usize = 2;
/// Between two calls of a client: load that a busy machine can bear.
const PACE: Duration = Duration::from_millis(8);

/// Ends the load in two steps.
#[derive(Default)]
pub(crate) struct Stop {
    producers: AtomicBool,
    readers: AtomicBool,
}

impl Stop {
    /// Whether readers shall go on.
    pub(crate) fn reading(&self) -> bool {
        !self.readers.load(Ordering::SeqCst)
    }

    fn producing(&self) -> bool {
        !self.producers.load(Ordering::SeqCst)
    }
}

/// Puts topics and groups, loads the cluster while `faults` runs, then lets the consumers settle all there is.
pub(crate) fn under(cluster: &mut Cluster, ledger: &Ledger, faults: impl FnOnce(&mut Cluster)) {
    for topic in TOPICS {
        cluster.json(1, "PUT", &format!("{T}/topics/{topic}"), &json!({"queues": QUEUES})).expect(201);
    }
    for group in Group::ALL {
        cluster.json(2, "PUT", &format!("{T}/groups/{}", group.name()), &group.body()).expect(201);
    }
    let nodes = cluster.addresses();
    let (nodes, stop) = (&nodes, &Stop::default());
    std::thread::scope(|scope| {
        // Whatever fails, the others must come to an end.
        let ended = End(stop);
        let mut producers = Vec::new();
        for number in 0..KEYED {
            producers.push(scope.spawn(move || publish_with_keys(nodes, ledger, stop, number)));
        }
        for at in 0..nodes.len() {
            producers.push(scope.spawn(move || publish_once(nodes, ledger, stop, at)));
        }
        for number in 0..TRANSACTORS {
            producers.push(scope.spawn(move || transact(nodes, ledger, stop, number)));
        }
        for (number, group) in [Group::Workers, Group::Ordered, Group::Workers].into_iter().enumerate() {
            scope.spawn(move || consume::run(nodes, ledger, stop, group, number));
        }
        for (number, topic) in ["orders", "orders", "stock"].into_iter().enumerate() {
            scope.spawn(move || watch::run(nodes, ledger, stop, topic, number));
        }
        faults(cluster);
        stop.producers.store(true, Ordering::SeqCst);
        for producer in producers {
            producer.join().expect("a producer");
        }
        consume::wait_until_settled(nodes, ledger);
        drop(ended);
    });
}

struct End<'a>(&'a Stop);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.producers.store(true, Ordering::SeqCst);
        self.0.readers.store(true, Ordering::SeqCst);
    }
}

/// One after the other into one queue; an unknown one is repeated with its key until it is known.
fn publish_with_keys(nodes: &[String], ledger: &Ledger, stop: &Stop, number: usize) {
    let mut client = Client::new(nodes, number, ledger);
    let queue = (number % QUEUES).to_string();
    for n in 0_u64.. {
        if !stop.producing() {
            return;
        }
        let (name, key) = (format!("k-{number}-{n}"), format!("key-{number}-{}", n % KEYS));
        let headers = [
            ("Content-Type", "text/plain"),
            ("Idempotency-Key", name.as_str()),
            ("Pm-Queue", &queue),
            ("Pm-Ordering-Key", &key),
        ];
        ledger.note(&name, Fate::Sent, None);
        let begun = Instant::now();
        let path = format!("{T}/topics/orders/messages");
        let answer = client.call("POST", &path, &headers, body_of(&name).as_bytes());
        assert!(matches!(answer.status, 200 | 201), "{name}: {answer}");
        let receipt = answer.json();
        assert_eq!(receipt["durability"], "quorum-fsync", "{receipt}");
        ledger.acknowledge(&name, begun, place_of(&receipt).expect("a place"));
        std::thread::sleep(PACE);
    }
}

/// Without keys, and never repeated: what was surely not done must not be there.
///
/// One such publisher stays at each node: those at nodes that are well tell when the cluster takes writes again, however long
/// others hang at a node that does not answer.
fn publish_once(nodes: &[String], ledger: &Ledger, stop: &Stop, at: usize) {
    let mut client = Client::staying(nodes, at, ledger);
    for n in 0.. {
        if !stop.producing() {
            return;
        }
        let name = format!("o-{at}-{n}");
        ledger.note(&name, Fate::Sent, None);
        let begun = Instant::now();
        let headers = [("Content-Type", "text/plain")];
        match client.once("POST", &format!("{T}/topics/orders/messages"), &headers, body_of(&name).as_bytes()) {
            Outcome::Answered(answer) => {
                let receipt = answer.expect(201);
                assert_eq!(receipt["duplicate"], false, "{receipt}");
                ledger.acknowledge(&name, begun, place_of(&receipt).expect("a place"));
            }
            Outcome::Refused => ledger.note(&name, Fate::Refused, None),
            Outcome::Unknown => {}
        }
        std::thread::sleep(PACE);
    }
}

/// Half messages over two topics: most are committed, some rolled back, some left alone.
fn transact(nodes: &[String], ledger: &Ledger, stop: &Stop, number: usize) {
    let mut client = Client::new(nodes, number, ledger);
    for n in 0_usize.. {
        if !stop.producing() {
            return;
        }
        let names: Vec<String> = (0..=n % 3).map(|part| format!("t-{number}-{n}-{part}")).collect();
        names.iter().for_each(|name| ledger.note(name, Fate::Hidden, None));
        let message = |(part, name): (usize, &String)| json!({"topic": TOPICS[part % 2], "data": body_of(name)});
        let messages: Vec<Value> = names.iter().enumerate().map(message).collect();
        let check = json!({"after_ms": 3_600_000, "interval_ms": 3_600_000, "max": 1});
        let body = json!({"messages": messages, "check": check}).to_string();
        let key = format!("transaction-{number}-{n}");
        let headers =
            [("Content-Type", "application/vnd.pointsman.transaction+json"), ("Idempotency-Key", key.as_str())];
        let answer = client.call("POST", &format!("{T}/topics/orders/transactions"), &headers, body.as_bytes());
        assert!(matches!(answer.status, 200 | 201), "{key}: {answer}");
        let id = answer.json()["transaction"].as_str().expect("an id").to_owned();
        // Long enough for a reader to see what it must not.
        std::thread::sleep(PACE * 2);
        match (n + number) % 6 {
            0..=2 => commit(&mut client, ledger, &id, &names),
            3 | 4 => {
                let answer = client.call("POST", &format!("{T}/transactions/{id}/rollback"), &[], b"");
                assert_eq!(answer.expect(200)["state"], "rolled-back");
            }
            _ => {}
        }
    }
}

fn commit(client: &mut Client<'_>, ledger: &Ledger, id: &str, names: &[String]) {
    names.iter().for_each(|name| ledger.note(name, Fate::Committing, None));
    let answer = client.call("POST", &format!("{T}/transactions/{id}/commit"), &[], b"").expect(200);
    let parts = answer["messages"].as_array().expect("messages");
    if answer["state"] != "committed" || parts.len() != names.len() {
        ledger.wrong(Wrong::Different, format!("commit of {names:?}: {answer}"));
    }
    for (name, part) in names.iter().zip(parts) {
        ledger.note(name, Fate::Acknowledged, place_of(part));
    }
}
