//! Consumers that lease, settle, nack and forget.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, Outcome};
use super::ledger::{Ledger, Wrong};
use super::load::{KEYS, Stop};
use super::whole::number;
use crate::server::T;

/// Longer than any call of a client, so that no lease in an answer that came has run out.
const LEASE_MS: u64 = 12_000;
/// What is still to be settled when the producers have stopped.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The groups of the load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Any order.
    Workers,
    /// One message of an ordering key at a time.
    Ordered,
}

impl Group {
    pub(crate) const ALL: [Self; 2] = [Self::Workers, Self::Ordered];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Ordered => "ordered",
        }
    }

    /// What is put.
    pub(crate) fn body(self) -> Value {
        match self {
            Self::Workers => json!({"topics": [{"topic": "orders"}, {"topic": "stock"}], "start": "earliest"}),
            Self::Ordered => json!({"topics": [{"topic": "orders"}], "start": "earliest", "ordering": "key"}),
        }
    }
}

/// Leases and settles until it is told to stop.
pub(crate) fn run(nodes: &[String], ledger: &Ledger, stop: &Stop, group: Group, at: usize) {
    let mut client = Client::new(nodes, at, ledger);
    let mut last = HashMap::new();
    let ask = json!({"max_messages": 100, "wait_ms": 300, "lease_ms": LEASE_MS, "client_id": format!("c{at}")});
    let path = format!("{T}/groups/{}/leases", group.name());
    while stop.reading() {
        let asked = Instant::now();
        let Outcome::Answered(answer) = client.once("POST", &path, &[JSON], ask.to_string().as_bytes()) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let answer = answer.expect(200);
        let mut items = Vec::new();
        for lease in answer["leases"].as_array().expect("leases") {
            let (name, _) = ledger.sight(&lease["message"], group.name());
            look(ledger, group, &name, asked, lease);
            if group == Group::Ordered {
                in_order(ledger, &mut last, &name);
            }
            match number(&lease["message"]["offset"]).expect("an offset") % 50 {
                // Forgets it once; it comes again when the lease has run out. A key would be blocked for as long.
                7 if lease["attempt"] == 1 && group == Group::Workers => {}
                11 | 12 if lease["attempt"] == 1 => {
                    items.push((name, json!({"receipt": lease["receipt"], "op": "nack"})))
                }
                _ => items.push((name, json!({"receipt": lease["receipt"], "op": "ack"}))),
            }
        }
        if !items.is_empty() {
            settle(&mut client, ledger, group, &items);
        }
    }
}

/// A message that was settled before this call was begun must not be in its answer.
fn look(ledger: &Ledger, group: Group, name: &str, asked: Instant, lease: &Value) {
    let mut state = ledger.state();
    state.delivered += 1;
    state.leases.insert((group.name().to_owned(), name.to_owned()), format!("attempt {}", lease["attempt"]));
    let settled = state.settled.get(&(group.name(), name.to_owned())).copied();
    drop(state);
    if settled.is_some_and(|at| at < asked) {
        ledger.wrong(Wrong::Redelivered, format!("{}: {name} at attempt {}", group.name(), lease["attempt"]));
    }
}

/// A message comes when all of its key before it are settled: none is skipped and none goes back.
fn in_order(ledger: &Ledger, last: &mut HashMap<(u64, u64), u64>, name: &str) {
    let mut parts = name.split('-');
    let (Some("k"), Some(producer), Some(n)) = (parts.next(), parts.next(), parts.next()) else { return };
    let (producer, n): (u64, u64) = (producer.parse().expect("a producer"), n.parse().expect("a number"));
    let before = last.insert((producer, n % KEYS), n);
    let next = before.map_or(n % KEYS, |before| before + KEYS);
    if n != next && Some(n) != before {
        ledger.wrong(Wrong::Reordered, format!("ordered: {name} behind number {before:?}"));
    }
}

fn settle(client: &mut Client<'_>, ledger: &Ledger, group: Group, items: &[(String, Value)]) {
    let body = json!({"items": items.iter().map(|(_, item)| item).collect::<Vec<_>>()}).to_string();
    let path = format!("{T}/groups/{}/settle", group.name());
    let answer = client.call("POST", &path, &[JSON], body.as_bytes());
    assert!(matches!(answer.status, 200 | 207), "{answer}");
    let answer = answer.json();
    let now = Instant::now();
    for ((name, item), result) in items.iter().zip(answer["results"].as_array().expect("results")) {
        match result["status"].as_str() {
            Some("settled" | "already-settled") if item["op"] == "ack" => {
                ledger.state().settled.insert((group.name(), name.clone()), now);
            }
            Some("settled" | "already-settled" | "lease-expired") => {
                let word = format!("{}: {}", item["op"], result["status"]);
                ledger.state().leases.insert((group.name().to_owned(), name.clone()), word);
            }
            _ => ledger.wrong(Wrong::Different, format!("{}: settling {name}: {result}", group.name())),
        }
    }
}

/// Waits until no group has anything left.
pub(crate) fn wait_until_settled(nodes: &[String], ledger: &Ledger) {
    let mut client = Client::new(nodes, 0, ledger);
    for group in Group::ALL {
        let start = Instant::now();
        loop {
            let lag = client.call("GET", &format!("{T}/groups/{}/lag", group.name()), &[], b"").expect(200);
            if lag["total"] == "0" {
                break;
            }
            assert!(start.elapsed() < DRAIN_WITHIN, "{} does not come to an end: {lag}", group.name());
            std::thread::sleep(Duration::from_millis(100));
        }
        let dead = client.call("GET", &format!("{T}/groups/{}/dlq", group.name()), &[], b"").expect(200);
        if dead["items"] != json!([]) {
            ledger.wrong(Wrong::Lost, format!("dead letters of {}: {dead}", group.name()));
        }
    }
}
