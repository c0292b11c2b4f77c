//! Hostile components against the real process: each meets its binding's policy and hurts only its own binding.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::server::{BINARY, Server, T};

/// A filter that does what its config says when it sees the tag `poison`, refuses the tag `no` and accepts the rest.
const SOURCE: &str = r#"//! Misbehaves on demand.
use pointsman_plugin::{Filter, Message, Plan, export_filter};

struct Misbehave(String);

impl Filter for Misbehave {
    fn new(config: &[u8]) -> Result<Self, String> {
        let config = String::from_utf8(config.to_vec()).map_err(|e| e.to_string())?;
        if config.contains("refuse") { Err("this config is refused".into()) } else { Ok(Self(config)) }
    }
    fn plan(&self) -> Plan {
        Plan::new().tag()
    }
    fn accept(&self, message: &Message<'_>) -> bool {
        if message.tag() == Some("poison") {
            if self.0.contains("loop") {
                loop { std::hint::black_box(0); }
            }
            if self.0.contains("grow") {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop { hoard.push(std::hint::black_box(Vec::with_capacity(1 << 20))); }
            }
            if self.0.contains("own") {
                return message.fail("cannot say");
            }
            panic!("trap");
        }
        message.tag() != Some("no")
    }
}

export_filter!(Misbehave);
"#;

/// The component, built once by the binary's own `plugin new` and `plugin build`.
pub(crate) fn component() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("misbehave");
        let _ = std::fs::remove_dir_all(project.join("src"));
        let _ = std::fs::remove_dir_all(&project);
        run(&["plugin", "new", "misbehave", "--kind", "filter", "--dir", &project.display().to_string()]);
        std::fs::write(project.join("src/lib.rs"), SOURCE).expect("source");
        let built = run(&["plugin", "build", "--json", "--dir", &project.display().to_string()]);
        let built: Value = serde_json::from_str(&built).expect("JSON");
        let path = PathBuf::from(built["path"].as_str().expect("path"));
        if path.is_absolute() { path } else { project.join(path) }
    })
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).env_remove("CARGO_TARGET_DIR").output().expect("run");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn upload(server: &Server) {
    let bytes = std::fs::read(component()).expect("component");
    let path = format!("{T}/plugins/misbehave/versions/1.0.0");
    let first = server.call("PUT", &path, &[("Content-Type", "application/wasm")], &bytes).expect(201);
    assert_eq!((&first["kind"], &first["name"]), (&json!("filter"), &json!("misbehave")));
    server.call("PUT", &path, &[("Content-Type", "application/wasm")], &bytes).expect(200);
    let back = server.get(&format!("{path}/wasm"));
    assert_eq!((back.status, back.body == bytes), (200, true));
}

/// Tags that a group with a misbehaving filter is given, and the filter's stats.
fn delivered(server: &Server, group: &str, what: &str, on_failure: &str) -> (Vec<String>, Value) {
    let binding = json!({
        "slot": "filter", "group": group, "topic": "orders", "plugin": "misbehave", "version": "1.0.0",
        "config": {"do": what}, "on_failure": on_failure, "limits": {"wall_ms": 500},
    });
    server.json("PUT", &format!("{T}/bindings/{group}-filter"), &binding).expect(201);
    for tag in ["yes", "poison", "no", "yes"] {
        server.publish("orders", &[("Pm-Tag", tag)], tag);
    }
    let mut tags = Vec::new();
    loop {
        let leases = server.lease(group, &json!({"wait_ms": 1000}));
        if leases.is_empty() {
            break;
        }
        let items: Vec<Value> = leases.iter().map(|l| json!({"receipt": l["receipt"], "op": "ack"})).collect();
        server.settle(group, &json!(items));
        tags.extend(leases.iter().map(|l| l["message"]["tag"].as_str().expect("tag").to_owned()));
    }
    (tags, server.get(&format!("{T}/bindings/{group}-filter/stats")).expect(200))
}

#[test]
fn each_kind_of_misbehaviour_meets_its_policy_and_is_counted() {
    let server = Server::start();
    upload(&server);
    server.topic("orders", &json!({"queues": 1}));
    server.group("quiet", &json!({"topics": [{"topic": "orders", "filter": {"tags": "yes"}}], "start": "earliest"}));
    for (what, policy, classes) in [
        ("loop", "deliver", &["fuel", "timeout"][..]),
        ("grow", "deliver", &["memory"]),
        ("trap", "skip", &["trap"]),
        ("own", "skip", &[]),
    ] {
        let group = format!("{what}-group");
        server.group(&group, &json!({"topics": [{"topic": "orders"}], "start": "latest"}));
        let (tags, stats) = delivered(&server, &group, what, policy);
        let expected: &[&str] = if policy == "deliver" { &["yes", "poison", "yes"] } else { &["yes", "yes"] };
        assert_eq!(tags, expected, "{what} with {policy}: {stats}");
        let counted: u64 = classes.iter().map(|class| total(&stats["failures"][class])).sum();
        assert_eq!(counted > 0, !classes.is_empty(), "{what}: {stats}");
        server.call("DELETE", &format!("{T}/bindings/{group}-filter"), &[], b"").expect(204);
    }
    let quiet = server.lease("quiet", &json!({"max_messages": 100, "wait_ms": 2000}));
    assert_eq!(quiet.len(), 8, "the neighbour got all its messages");
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn what_is_no_plugin_is_refused_by_name() {
    let server = Server::start();
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    // A component that imports a function `evil`: a type section and an import section.
    let mut forbidden = empty_component.clone();
    forbidden.extend_from_slice(b"\x07\x05\x01\x40\x00\x01\x00\x0a\x09\x01\x00\x04evil\x01\x00");
    for (name, bytes, word) in [
        ("random bytes", b"these are no bytes of a component".to_vec(), "component"),
        ("a core module", core_module, "component"),
        ("no exports", empty_component, "export"),
        ("a forbidden import", forbidden, "evil"),
    ] {
        let path = format!("{T}/plugins/bad/versions/1.0.0");
        let answer = server.call("PUT", &path, &[("Content-Type", "application/wasm")], &bytes);
        let problem = answer.expect_problem(422, "plugin-invalid");
        assert!(problem["errors"].to_string().contains(word), "{name}: {problem}");
        server.get(&path).expect_problem(404, "plugin-not-found");
    }
    let path = format!("{T}/plugins/bad/versions/1.0.0");
    server.call("PUT", &path, &[("Content-Type", "text/plain")], b"x").expect_problem(415, "unsupported-media-type");
    let large = vec![0; (4 << 20) + 1];
    server.call("PUT", &path, &[("Content-Type", "application/wasm")], &large).expect_problem(413, "plugin-too-large");
}

#[test]
fn a_binding_is_checked_before_it_switches() {
    let server = Server::start();
    upload(&server);
    server.topic("orders", &json!({}));
    server.group("workers", &json!({"topics": [{"topic": "orders"}]}));
    let put = |name: &str, body: Value| server.json("PUT", &format!("{T}/bindings/{name}"), &body);
    let filter = |config: Value| json!({"slot": "filter", "group": "workers", "topic": "orders", "plugin": "misbehave", "version": "1.0.0", "config": config});
    let refused = put("b", filter(json!("refuse"))).expect_problem(400, "invalid-request");
    assert_eq!(refused["errors"][0]["pointer"], "/config");
    assert!(refused.to_string().contains("this config is refused"), "{refused}");
    let wrong = put("b", json!({"slot": "selector", "topic": "orders", "plugin": "misbehave", "version": "1.0.0"}));
    assert_eq!(wrong.expect_problem(400, "invalid-request")["errors"][0]["pointer"], "/slot");
    put("b", json!({"slot": "selector", "topic": "orders", "plugin": "none", "version": "1.0.0"}))
        .expect_problem(404, "plugin-not-found");
    server.get(&format!("{T}/bindings/b")).expect_problem(404, "binding-not-found");
    put("b", filter(json!({}))).expect(201);
    put("c", filter(json!({}))).expect_problem(409, "in-use");
    let binding = server.get(&format!("{T}/bindings/b")).expect(200);
    assert_eq!((&binding["mode"], &binding["on_failure"]), (&json!("active"), &json!("deliver")));
}

#[test]
fn a_selector_decides_and_its_decision_is_kept() {
    let server = Server::start();
    server.topic("orders", &json!({"queues": 4}));
    let version = server.get(&format!("{T}/plugins/builtin/hash")).expect(200)["latest"].clone();
    let binding = json!({"slot": "selector", "topic": "orders", "plugin": "builtin/hash", "version": version});
    server.json("PUT", &format!("{T}/bindings/by-key"), &binding).expect(201);
    let queue = |key: &str| server.publish("orders", &[("Pm-Key", key)], "x")["queue"].clone();
    let first = queue("a");
    assert!((0..10).all(|_| queue("a") == first), "one key, one queue");
    let spread: std::collections::BTreeSet<String> = (0..32).map(|i| queue(&format!("k{i}")).to_string()).collect();
    assert_eq!(spread.len(), 4, "32 keys fell into {spread:?}");
    let stats = server.get(&format!("{T}/bindings/by-key/stats")).expect(200);
    assert!(total(&stats["messages"]) >= 43, "{stats}");
}

/// A total of the contract: a decimal string.
fn total(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no decimal string: {value}"))
}
