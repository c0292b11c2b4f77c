//! Kills, restarts and refused starts: what was acknowledged is there, nothing else is, and offsets are dense.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Connection;
use crate::publish::latest;
use crate::server::{Server, T, refused_start};

const KILLS: u64 = 100;
const PUBLISHERS: u64 = 4;

/// A small generator, so that a failing run can be named by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// What the publishers know: bodies sent, and the place of those acknowledged.
#[derive(Default)]
struct Ledger {
    sent: BTreeSet<String>,
    acknowledged: BTreeMap<String, (u64, u64)>,
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_acknowledged() {
    let seed = 20_261_121;
    let mut random = Random(seed);
    // Small segments, so that kills also hit rolling, sealing and sidecars.
    let mut server = Server::start_with(&["segment_bytes=1048576"]);
    server.topic("orders", &json!({"queues": 3}));
    let ledger = Mutex::new(Ledger::default());
    let mut restarts = Vec::new();
    for round in 0..KILLS {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                let (address, ledger, stop) = (server.address().to_owned(), &ledger, &stop);
                scope.spawn(move || publish_until(&address, ledger, stop, &format!("{round}-{publisher}")));
            }
            std::thread::sleep(Duration::from_millis(5 + random.next() % 120));
            server.kill();
            stop.store(true, Ordering::SeqCst);
        });
        restarts.push(server.restart());
    }
    let ledger = ledger.into_inner().expect("ledger");
    let stored = drain(&server);
    for (body, place) in &ledger.acknowledged {
        assert_eq!(stored.get(body), Some(place), "seed {seed}: acknowledged `{body}` is lost or moved");
    }
    for body in stored.keys() {
        assert!(ledger.sent.contains(body), "seed {seed}: phantom `{body}`");
    }
    restarts.sort_unstable();
    println!(
        "{KILLS} kills: {} sent, {} acknowledged, {} stored; restart median {:?}, most {:?}",
        ledger.sent.len(),
        ledger.acknowledged.len(),
        stored.len(),
        restarts[restarts.len() / 2],
        restarts[restarts.len() - 1]
    );
    assert!(ledger.acknowledged.len() as u64 > KILLS, "the publishers hardly published: the test proves nothing");
}

fn publish_until(address: &str, ledger: &Mutex<Ledger>, stop: &AtomicBool, name: &str) {
    let Ok(mut connection) = Connection::open(address) else { return };
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let body = format!("{name}-{number}-{}", "x".repeat(number % 900));
        ledger.lock().expect("ledger").sent.insert(body.clone());
        let path = format!("{T}/topics/orders/messages");
        let Ok(answer) = connection.call("POST", &path, &[("Content-Type", "text/plain")], body.as_bytes()) else {
            return;
        };
        if answer.status == 201 {
            let receipt = answer.json();
            let place = (receipt["queue"].as_u64().expect("queue"), number_of(&receipt["offset"]));
            ledger.lock().expect("ledger").acknowledged.insert(body, place);
        }
    }
}

/// Every stored message by body, with its place; offsets are asserted dense.
fn drain(server: &Server) -> BTreeMap<String, (u64, u64)> {
    let mut stored = BTreeMap::new();
    for (queue, latest) in latest(server, "orders").into_iter().enumerate() {
        let mut next = 0;
        while next < latest {
            let page =
                server.get(&format!("{T}/topics/orders/messages?queue={queue}&offset={next}&limit=1000")).expect(200);
            let items = page["items"].as_array().expect("items").clone();
            assert!(!items.is_empty(), "queue {queue} has a hole at {next}");
            for item in items {
                assert_eq!(number_of(&item["offset"]), next, "offsets of queue {queue} are dense");
                let body = item["data"].as_str().expect("text").to_owned();
                assert_eq!(stored.insert(body, (queue as u64, next)), None, "stored twice");
                next += 1;
            }
        }
    }
    stored
}

fn number_of(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no decimal string: {value}"))
}

#[test]
fn everything_survives_a_kill_and_a_clean_stop() {
    let mut server = Server::start();
    server.json("PUT", "/v1/tenants/acme", &json!({})).expect(201);
    server.topic("orders", &json!({"queues": 2, "retention_ms": 1000000}));
    server.group("workers", &json!({"topics": [{"topic": "orders", "filter": {"tags": "paid"}}], "start": "earliest"}));
    for i in 0..10 {
        server.publish("orders", &[("Pm-Tag", "paid")], &format!("m{i}"));
    }
    let leases = server.lease("workers", &json!({"max_messages": 4}));
    let acks: Vec<Value> = leases.iter().take(3).map(|l| json!({"receipt": l["receipt"], "op": "ack"})).collect();
    assert_eq!(server.settle("workers", &json!(acks)), vec!["settled"; 3]);
    let (topic, group) = (server.get(&format!("{T}/topics/orders")), server.get(&format!("{T}/groups/workers")));
    for clean in [false, true] {
        if clean {
            assert_eq!(server.terminate(), Some(0), "SIGTERM drains and exits 0");
        } else {
            server.kill();
        }
        server.restart();
        server.get("/v1/tenants/acme").expect(200);
        let (topic_now, group_now) =
            (server.get(&format!("{T}/topics/orders")), server.get(&format!("{T}/groups/workers")));
        assert_eq!((topic_now.json(), topic_now.header("etag")), (topic.json(), topic.header("etag")));
        assert_eq!((group_now.json(), group_now.header("etag")), (group.json(), group.header("etag")));
    }
    let kept = json!([{"receipt": leases[3]["receipt"], "op": "ack"}]);
    assert_eq!(server.settle("workers", &kept), ["settled"], "a receipt outlives the leader that gave it");
    let rest = server.lease("workers", &json!({"max_messages": 100, "wait_ms": 2000}));
    assert_eq!(rest.len(), 6, "acked messages do not come again");
}

#[test]
fn a_torn_tail_is_cut_and_a_second_process_is_refused() {
    let mut server = Server::start();
    server.topic("orders", &json!({"queues": 1}));
    server.publish("orders", &[], "kept");
    let data = server.data().display().to_string();
    let (code, words) = refused_start(&["--data-dir", &data, "--listen", "127.0.0.1:0"]);
    assert_ne!(code, Some(0));
    assert_eq!(words.trim().lines().count(), 1, "one line that says why: {words}");
    server.kill();
    let end = segment_end(&server);
    let mut file = std::fs::OpenOptions::new().write(true).open(&end.0).expect("segment");
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(end.1)).expect("seek");
    file.write_all(b"torn").expect("write");
    drop(file);
    server.restart();
    assert_eq!(server.publish("orders", &[], "next")["offset"], "1");
}

/// The data shard's last segment and the end of what is written in it.
fn segment_end(server: &Server) -> (std::path::PathBuf, u64) {
    let folder = server.data().join("shards/1/log");
    let mut segments: Vec<_> = std::fs::read_dir(folder).expect("log").map(|e| e.expect("entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    segments.sort();
    for path in segments.into_iter().rev() {
        let bytes = std::fs::read(&path).expect("segment");
        if let Some(last) = bytes[4096.min(bytes.len())..].iter().rposition(|b| *b != 0) {
            return (path, (4096 + last as u64 + 1).next_multiple_of(8));
        }
    }
    panic!("no frame in any segment");
}

#[test]
fn a_refused_start_says_why_in_one_line() {
    let scratch = tempfile::tempdir().expect("temporary directory");
    let data = scratch.path().display().to_string();
    for (arguments, word) in [
        (vec!["--data-dir", &data, "--listen", "0.0.0.0:7070"], "loopback"),
        (vec!["--data-dir", &data, "--set", "no_such_key=1"], "no_such_key"),
        (vec!["--data-dir", &data, "--set", "segment_bytes=12"], "segment_bytes"),
    ] {
        let (code, words) = refused_start(&arguments);
        assert_ne!(code, Some(0), "{arguments:?}");
        assert_eq!(words.trim().lines().count(), 1, "{words}");
        assert!(words.contains(word), "{words}");
    }
}

#[test]
fn a_flipped_bit_below_the_watermark_is_reported_and_not_cut() {
    let mut server = Server::start();
    server.topic("orders", &json!({"queues": 1}));
    for i in 0..50 {
        server.publish("orders", &[], &format!("message {i}"));
    }
    server.kill();
    let (segment, _) = segment_end(&server);
    let mut bytes = std::fs::read(&segment).expect("segment");
    let at = bytes.windows(10).position(|w| w == b"message 20").expect("the message");
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).expect("write");
    let address = crate::server::free_address();
    let mut child = std::process::Command::new(crate::server::BINARY)
        .args(["serve", "--listen", &address, "--data-dir"])
        .arg(server.data())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start");
    let start = Instant::now();
    let ready = loop {
        if child.try_wait().expect("wait").is_some() {
            panic!("a damaged node serves what it can, it does not exit");
        }
        let answer = Connection::open(&address).and_then(|mut c| c.call("GET", "/health/ready", &[], b""));
        match answer {
            Ok(answer) => break answer,
            Err(_) => assert!(start.elapsed() < Duration::from_secs(20), "never answered"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    std::thread::sleep(Duration::from_millis(500));
    let ready = Connection::open(&address).and_then(|mut c| c.call("GET", "/health/ready", &[], b"")).unwrap_or(ready);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(ready.status, 503, "{ready}");
    assert_eq!(std::fs::read(&segment).expect("segment")[at], bytes[at], "nothing was cut or rewritten there");
}
