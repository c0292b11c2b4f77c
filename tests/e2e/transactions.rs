//! Transactions through kills: exactly the committed ones are visible, once.

mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Connection;
use crate::publish::latest;
use crate::server::{Server, T};
use webhook::{bind_webhook, prepared_soon, service};

const TRANSACTIONS: usize = 10_000;
const CLIENTS: usize = 16;
const KILLS: usize = 5;

/// A small generator, so that a failing run can be named by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Committed,
    RolledBack,
    /// Nobody says anything, until it expires.
    Silent,
}

/// A client that goes on where the server is killed: every call is repeated until it has an answer.
struct Client<'a> {
    address: &'a RwLock<String>,
    connection: Option<Connection>,
}

impl Client<'_> {
    fn call(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < Duration::from_secs(60), "no answer to {path} within a minute");
            if self.connection.is_none() {
                let address = self.address.read().expect("address").clone();
                self.connection = Connection::open(&address).ok();
            }
            let answer = self.connection.as_mut().map(|c| c.call("POST", path, headers, body.as_bytes()));
            match answer {
                // Unknown or surely not done: a transaction by name, and a verdict, may both be said again.
                Some(Ok(answer)) if !matches!(answer.status, 429 | 503 | 504) => return (answer.status, answer.json()),
                Some(Ok(_)) => std::thread::sleep(Duration::from_millis(5)),
                _ => {
                    self.connection = None;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// Prepares transaction `n`, of one to three messages over two topics.
    fn prepare(&mut self, n: usize, parts: usize) -> String {
        let messages: Vec<_> = (0..parts)
            .map(|part| json!({"topic": if part == 1 { "stock" } else { "orders" }, "data": format!("{n}/{part}")}))
            .collect();
        let body = json!({"messages": messages, "check": {"after_ms": 3_000, "interval_ms": 500, "max": 2}});
        let name = format!("transaction-{n}");
        let headers =
            [("Content-Type", "application/vnd.pointsman.transaction+json"), ("Idempotency-Key", name.as_str())];
        let (status, answer) = self.call(&format!("{T}/topics/orders/transactions"), &headers, &body.to_string());
        assert!(matches!(status, 200 | 201), "{answer}");
        answer["transaction"].as_str().expect("an id").to_owned()
    }

    fn say(&mut self, id: &str, verdict: &str) -> (u16, Value) {
        self.call(&format!("{T}/transactions/{id}/{verdict}"), &[], "")
    }

    /// One transaction, with words that race and repeat. Says what must have become of it.
    fn run(&mut self, random: &mut Random, n: usize, parts: usize) -> (String, End) {
        let id = self.prepare(n, parts);
        if random.below(10) == 0 {
            assert_eq!(self.prepare(n, parts), id, "the name finds it");
        }
        let end = match random.below(10) {
            0..=4 => End::Committed,
            5..=7 => End::RolledBack,
            _ => return (id, End::Silent),
        };
        let (word, opposite) = if end == End::Committed { ("commit", "rollback") } else { ("rollback", "commit") };
        let (status, answer) = self.say(&id, word);
        if status == 409 {
            // A server that was away for long: its timetable ended before this word.
            assert_eq!(answer["state"], "expired", "{answer}");
            return (id, End::Silent);
        }
        assert_eq!(status, 200, "{answer}");
        if random.below(3) == 0 {
            let (status, again) = self.say(&id, word);
            assert_eq!((status, &again["messages"]), (200, &answer["messages"]), "the same word again");
        }
        if random.below(3) == 0 {
            let (status, refused) = self.say(&id, opposite);
            assert_eq!((status, &refused["code"]), (409, &json!("transaction-resolved")));
            assert_eq!(refused["state"], if end == End::Committed { "committed" } else { "rolled-back" });
        }
        (id, end)
    }
}

#[test]
fn ten_thousand_transactions_through_kills_show_exactly_the_committed_ones_once() {
    let seed = 20_261_121;
    let started = Instant::now();
    let mut server = Server::start_with(&["segment_bytes=4194304"]);
    server.topic("orders", &json!({"queues": 2}));
    server.topic("stock", &json!({"queues": 1}));
    let address = RwLock::new(server.address().to_owned());
    let ends: Mutex<BTreeMap<usize, (String, End, usize)>> = Mutex::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (address, ends, next) = (&address, &ends, &next);
            scope.spawn(move || {
                let mut random = Random(seed ^ (client as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let mut client = Client { address, connection: None };
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= TRANSACTIONS {
                        return;
                    }
                    let parts = 1 + random.below(3) as usize;
                    let (id, end) = client.run(&mut random, n, parts);
                    ends.lock().expect("ends").insert(n, (id, end, parts));
                }
            });
        }
        for kill in 1..=KILLS {
            while next.load(Ordering::SeqCst) < TRANSACTIONS * kill / (KILLS + 1) {
                std::thread::sleep(Duration::from_millis(2));
            }
            server.kill();
            server.restart();
            server.address().clone_into(&mut address.write().expect("address"));
        }
    });
    let ends = ends.into_inner().expect("ends");
    assert_eq!(ends.len(), TRANSACTIONS, "seed {seed}");
    let took = started.elapsed();

    let silent: BTreeSet<&str> =
        ends.values().filter(|(_, end, _)| *end == End::Silent).map(|(id, ..)| id.as_str()).collect();
    let waiting = Instant::now();
    while transactions(&server, "prepared").next().is_some() {
        assert!(waiting.elapsed() < Duration::from_secs(30), "seed {seed}: what nobody ends does not expire");
        std::thread::sleep(Duration::from_millis(200));
    }
    let expired: BTreeSet<String> = transactions(&server, "expired").collect();
    assert!(silent.iter().all(|id| expired.contains(*id)) && expired.len() == silent.len(), "seed {seed}: expired");

    let expected: BTreeSet<String> = ends
        .iter()
        .filter(|(_, (_, end, _))| *end == End::Committed)
        .flat_map(|(n, (_, _, parts))| (0..*parts).map(move |part| format!("{n}/{part}")))
        .collect();
    let mut visible = BTreeSet::new();
    for topic in ["orders", "stock"] {
        for body in bodies(&server, topic) {
            assert!(expected.contains(&body), "seed {seed}: `{body}` was never committed");
            assert!(visible.insert(body.clone()), "seed {seed}: `{body}` is visible twice");
        }
    }
    let lost: Vec<_> = expected.difference(&visible).take(5).collect();
    assert!(lost.is_empty(), "seed {seed}: committed and not visible: {lost:?}");
    let of = |wanted| ends.values().filter(|(_, end, _)| *end == wanted).count();
    println!(
        "seed {seed}: {} committed, {} rolled back, {} expired; {} messages visible once; {KILLS} kills; {took:?}",
        of(End::Committed),
        of(End::RolledBack),
        of(End::Silent),
        visible.len()
    );
    assert!(of(End::Committed) > TRANSACTIONS / 4 && of(End::RolledBack) > TRANSACTIONS / 8 && !silent.is_empty());
}

/// Ids of the transactions in a state.
fn transactions<'a>(server: &'a Server, state: &'a str) -> impl Iterator<Item = String> + 'a {
    let mut cursor = Some(String::new());
    std::iter::from_fn(move || {
        let from = cursor.take()?;
        let cursor_of = if from.is_empty() { String::new() } else { format!("&cursor={from}") };
        let page = server.get(&format!("{T}/transactions?state={state}&limit=1000{cursor_of}")).expect(200);
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        let ids = page["items"].as_array().expect("items").clone();
        Some(ids.into_iter().map(|item| item["transaction"].as_str().expect("an id").to_owned()))
    })
    .flatten()
}

/// Every visible payload of a topic.
fn bodies(server: &Server, topic: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    for (queue, latest) in latest(server, topic).into_iter().enumerate() {
        let mut next = 0;
        while next < latest {
            let path = format!("{T}/topics/{topic}/messages?queue={queue}&offset={next}&limit=1000");
            let page = server.get(&path).expect(200);
            let items = page["items"].as_array().expect("items").clone();
            assert!(!items.is_empty(), "queue {queue} has a hole at {next}");
            next += items.len() as u64;
            bodies.extend(items.iter().map(|item| item["data"].as_str().expect("text").to_owned()));
        }
    }
    bodies
}

#[test]
fn a_prepared_transaction_survives_a_kill_and_stays_invisible() {
    let mut server = Server::start();
    server.topic("orders", &json!({"queues": 1}));
    let prepared = server.call("POST", &format!("{T}/topics/orders/transactions"), &[], b"half").expect(201);
    let id = prepared["transaction"].as_str().expect("an id").to_owned();
    let before = server.get(&format!("{T}/transactions/{id}")).expect(200);
    server.kill();
    server.restart();
    assert_eq!(server.get(&format!("{T}/transactions/{id}")).expect(200), before);
    assert_eq!(latest(&server, "orders"), [0]);
    server.json("POST", &format!("{T}/transactions/{id}/commit"), &json!({})).expect(200);
    server.kill();
    server.restart();
    let after = server.get(&format!("{T}/transactions/{id}")).expect(200);
    assert_eq!((&after["state"], &after["messages"][0]["offset"]), (&json!("committed"), &json!("0")));
    let message = before["messages"][0]["id"].as_str().expect("an id");
    let answer = server.get(&format!("{T}/messages/{message}")).expect(200);
    assert_eq!((&answer["id"], &answer["offset"]), (&json!(message), &json!("0")));
    assert_eq!(latest(&server, "orders"), [1]);
}

#[test]
fn the_webhook_is_asked_and_its_word_counts() {
    let server = Server::start_with(&["check_back_allow_private=true"]);
    server.topic("orders", &json!({"queues": 1}));
    let (address, asked) = service(r#"{"state":"commit"}"#);
    bind_webhook(&server, &format!("http://{address}/transactions"), &address);
    let id = prepared_soon(&server);
    let started = Instant::now();
    while server.get(&format!("{T}/transactions/{id}")).expect(200)["state"] != "committed" {
        assert!(started.elapsed() < Duration::from_secs(20), "the webhook's word does not count");
        std::thread::sleep(Duration::from_millis(50));
    }
    let request = asked.recv_timeout(Duration::from_secs(5)).expect("asked");
    assert!(request.starts_with("POST /transactions HTTP/1.1\r\n"), "{request}");
    let transaction = server.get(&format!("{T}/transactions/{id}")).expect(200);
    assert_eq!((&transaction["check"]["via"], &transaction["resolved_by"]), (&json!("plugin"), &json!("plugin")));
    assert_eq!(bodies(&server, "orders"), ["half"]);
}

#[test]
fn a_webhook_is_not_led_to_a_private_address() {
    let server = Server::start();
    server.topic("orders", &json!({"queues": 1}));
    let (address, asked) = service(r#"{"state":"commit"}"#);
    bind_webhook(&server, &format!("http://{address}/"), &address);
    let id = prepared_soon(&server);
    let started = Instant::now();
    while server.get(&format!("{T}/transactions/{id}")).expect(200)["attempts"] == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "nobody was asked");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(asked.recv_timeout(Duration::from_secs(2)).is_err(), "the service on a loopback address heard of it");
    assert_eq!(server.get(&format!("{T}/transactions/{id}")).expect(200)["state"], "prepared");
}
