//! Every kind of plugin: what the broker comes with and what a user makes judges real messages.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{BINARY, Server, T};

/// Version of the built-ins.
fn built_in_version(server: &Server, name: &str) -> String {
    let plugin = server.get(&format!("{T}/plugins/builtin/{name}")).expect(200);
    assert_eq!(plugin["name"], format!("builtin/{name}"));
    plugin["latest"].as_str().expect("a version").to_owned()
}

/// Uploads an example that the binary carries, by the command line.
fn upload_example(server: &Server, name: &str, directory: &Path) {
    let file = directory.join(format!("{name}.wasm"));
    let file = file.to_str().expect("UTF-8");
    let wrote = Command::new(BINARY).args(["plugin", "example", name, "--out", file]).status();
    assert!(wrote.expect("run").success());
    let (code, _, err) = server.cli(&["plugin", "upload", file, "--version", "1.0.0"]);
    assert_eq!(code, Some(0), "{err}");
}

fn bind(server: &Server, name: &str, binding: &Value) -> Value {
    server.json("PUT", &format!("{T}/bindings/{name}"), binding).expect(201)
}

fn stats(server: &Server, binding: &str) -> (u64, Value) {
    let stats = server.get(&format!("{T}/bindings/{binding}/stats")).expect(200);
    (stats["messages"].as_str().and_then(|n| n.parse().ok()).expect("a number"), stats["failures"].clone())
}

/// Waits until `ready` gives something.
#[track_caller]
fn eventually<R>(what: &str, mut ready: impl FnMut() -> Option<R>) -> R {
    let start = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dedup_names_the_key_under_which_a_message_is_stored_once() {
    let mut server = Server::start();
    let scratch = tempfile::tempdir().expect("a directory");
    server.topic("orders", &json!({"queues": 2}));
    upload_example(&server, "once-per-order", scratch.path());
    let (code, out, err) = server.cli(&["bind", "once", "--topic", "orders", "--plugin", "once-per-order", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let bound: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&bound["slot"], &bound["on_failure"]), (&json!("dedup"), &json!("keep")));

    let publish = |server: &Server, order: &str, tag: &str, body: &str| {
        let headers = [("Content-Type", "text/plain"), ("Pm-Prop-order", order), ("Pm-Tag", tag)];
        server.call("POST", &format!("{T}/topics/orders/messages"), &headers, body.as_bytes())
    };
    let first = publish(&server, "1042", "paid", "one").expect(201);
    let again = publish(&server, "1042", "paid", "another payload, the same order").expect(200);
    assert_eq!((&again["id"], &again["offset"], &again["duplicate"]), (&first["id"], &first["offset"], &json!(true)));
    publish(&server, "1042", "refunded", "another event").expect(201);
    publish(&server, "A-1", "paid", "no number: the plugin fails it, and it is kept").expect(201);
    publish(&server, "A-1", "paid", "and kept").expect(201);
    assert_eq!(stats(&server, "once").0, 5);

    server.kill();
    server.restart();
    let after = publish(&server, "1042", "paid", "once more").expect(200);
    assert_eq!(after["id"], first["id"], "remembered over a crash");

    let version = built_in_version(&server, "fingerprint");
    server.topic("events", &json!({"queues": 1}));
    let strict = json!({"slot": "dedup", "topic": "events", "plugin": "builtin/fingerprint", "version": version,
        "config": {"tag": true}, "on_failure": "refuse"});
    bind(&server, "print", &strict);
    let send = |tag: &str| {
        let headers = [("Content-Type", "text/plain"), ("Pm-Tag", tag)];
        server.call("POST", &format!("{T}/topics/events/messages"), &headers, b"same").status
    };
    assert_eq!([send("a"), send("a"), send("b"), send("b")], [201, 200, 201, 200]);
}

#[test]
fn a_retry_policy_says_when_again_and_when_never() {
    let mut server = Server::start();
    let scratch = tempfile::tempdir().expect("a directory");
    server.topic("orders", &json!({"queues": 1}));
    server.group("billing", &json!({"topics": [{"topic": "orders"}], "start": "earliest"}));
    upload_example(&server, "give-up-on-fatal", scratch.path());
    let policy = json!({"slot": "retry", "group": "billing", "plugin": "give-up-on-fatal", "version": "1.0.0",
        "config": {"first_ms": 50}});
    assert_eq!(bind(&server, "policy", &policy)["on_failure"], "default");
    let second = server.json("PUT", &format!("{T}/bindings/second"), &policy).expect(409);
    assert_eq!(second["code"], "in-use");

    server.publish("orders", &[], "one");
    let lease = |server: &Server| {
        eventually("a lease", || server.lease("billing", &json!({"wait_ms": 1000})).into_iter().next())
    };
    let first = lease(&server);
    let nack = |server: &Server, lease: &Value, reason: &str| {
        let item = json!([{"receipt": lease["receipt"], "op": "nack", "reason": reason}]);
        assert_eq!(server.settle("billing", &item), ["settled"]);
    };
    nack(&server, &first, "busy");
    let again = lease(&server);
    assert_eq!(again["attempt"], 2, "after 50 ms and not the table's 10 s");
    server.kill();
    server.restart();
    nack(&server, &again, "fatal: no such customer");
    let dead = eventually("a dead letter", || {
        let items = server.get(&format!("{T}/groups/billing/dlq")).expect(200)["items"].clone();
        items.as_array().and_then(|items| items.first().cloned())
    });
    assert_eq!(dead["reason"], "fatal: no such customer");
    let (judged, failures) = stats(&server, "policy");
    assert!(judged >= 1 && failures["trap"] == "0", "{judged} {failures}");

    let version = built_in_version(&server, "backoff");
    let bad = json!({"slot": "retry", "group": "billing", "plugin": "builtin/backoff", "version": version,
        "config": {"delays_ms": []}});
    let refused = server.json("PUT", &format!("{T}/bindings/policy"), &bad).expect(400);
    assert_eq!(refused["errors"][0]["pointer"], "/config");
    let wrong = json!({"slot": "dedup", "topic": "orders", "plugin": "builtin/backoff", "version": version});
    let refused = server.json("PUT", &format!("{T}/bindings/other"), &wrong).expect(400);
    assert_eq!(refused["errors"][0]["pointer"], "/slot");
}

/// A web service that answers every request with this JSON, and gives the first line of each.
fn ledger(answer: &'static str) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4_096];
            let length = stream.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            if tx.send(text.lines().next().unwrap_or_default().to_owned()).is_err() {
                return;
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            let _ = stream.write_all(format!("{head}{answer}").as_bytes());
        }
    });
    (port, rx)
}

#[test]
fn a_check_back_asks_the_ledger_of_a_silent_producer() {
    let server = Server::start_with(&["check_back_allow_private=true"]);
    let scratch = tempfile::tempdir().expect("a directory");
    let (port, requests) = ledger(r#"{"status":"settled"}"#);
    server.topic("payments", &json!({"queues": 1}));
    server.group("books", &json!({"topics": [{"topic": "payments"}], "start": "earliest"}));
    upload_example(&server, "ask-ledger", scratch.path());
    let asker = json!({"slot": "check-back", "topic": "payments", "plugin": "ask-ledger", "version": "1.0.0",
        "config": {"ledger": format!("http://127.0.0.1:{port}/payments"), "allow": [format!("127.0.0.1:{port}")]}});
    assert_eq!(bind(&server, "asker", &asker)["on_failure"], "unknown");
    let envelope = json!({"messages": [{"data": "paid", "properties": {"payment": "7"}}], "check": {"after_ms": 100}});
    let headers = [("Content-Type", "application/vnd.pointsman.transaction+json")];
    let path = format!("{T}/topics/payments/transactions");
    let prepared = server.call("POST", &path, &headers, envelope.to_string().as_bytes()).expect(201);
    assert_eq!(prepared["state"], "prepared");
    assert!(server.lease("books", &json!({})).is_empty(), "a half message is invisible");
    let seen = eventually("the message", || server.lease("books", &json!({"wait_ms": 1000})).into_iter().next());
    assert_eq!(seen["message"]["data"], "paid");
    assert_eq!(requests.try_recv().as_deref(), Ok("GET /payments/7 HTTP/1.1"));
    assert!(stats(&server, "asker").0 >= 2, "a check and an answer");
}

/// Makes a project of a kind, tests it natively, builds it, and gives the verdicts of `plugin test`.
fn project(directory: &Path, kind: &str, arguments: &[&str]) -> Vec<String> {
    let project = directory.join(kind);
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).env_remove("CARGO_TARGET_DIR").current_dir(directory).output();
        let output = output.expect("run");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kind}: {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    run(BINARY, &["plugin", "new", kind, "--kind", kind]);
    // What the projects have in common is compiled once.
    std::os::unix::fs::symlink(directory.join("target"), project.join("target")).expect("a link");
    let manifest = project.join("Cargo.toml");
    run("cargo", &["test", "--quiet", "--manifest-path", manifest.to_str().expect("UTF-8")]);
    let built: Value = serde_json::from_str(&run(BINARY, &["plugin", "build", "--json", "--dir", kind])).expect("JSON");
    assert_eq!(built["kind"], kind);
    let tried = run(BINARY, &[&["plugin", "test", "--json", "--dir", kind], arguments].concat());
    let tried: Value = serde_json::from_str(&tried).expect("JSON");
    let results = tried["results"].as_array().expect("results");
    results.iter().map(|result| result["verdict"].as_str().expect("a verdict").to_owned()).collect()
}

#[test]
fn a_project_of_each_kind_is_made_tested_built_and_tried() {
    let scratch = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(scratch.path().join("target")).expect("a directory");
    let of = |kind, arguments: &[&str]| project(scratch.path(), kind, arguments);
    let dedup = of("dedup", &[]);
    assert!(dedup.iter().all(|verdict| verdict.starts_with("no key")), "no sample has an order: {dedup:?}");
    let retry = of("retry", &["--attempt", "3"]);
    assert!(retry.iter().all(|verdict| verdict == "again after 4000 ms"), "{retry:?}");
    let check_back = of("check-back", &["--response-status", "200", "--response-body", "settled"]);
    assert_eq!(check_back[0], "ask GET https://ledger.example/payments/ada: commit");
    assert_eq!(check_back[4], "failed: the message has no key");
    let selector = of("selector", &[]);
    assert!(selector[0].starts_with("queue "), "{selector:?}");
}
