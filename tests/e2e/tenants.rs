//! Tenants, tokens, quotas, the audit, over the real process: what survives a restart, who is let in, who is told what.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::Answer;
use crate::server::{Server, T, refused_start};

const OPERATOR: &str = "pm_root_0123456789abcdef";

/// A server that takes [`OPERATOR`] as an operator's.
fn guarded() -> Server {
    let file = std::env::temp_dir().join(format!("pointsman-operator-{}", std::process::id()));
    std::fs::write(&file, format!("{OPERATOR}\n")).expect("a token file");
    Server::start_with_arguments(&["--operator-token-file", &file.display().to_string()], &[])
}

#[track_caller]
fn with(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.call(method, path, &headers, body.as_bytes())
}

/// A new token: its id and its text.
#[track_caller]
fn token(server: &Server, by: &str, tenant: &str, body: &Value) -> (String, String) {
    let made = with(server, by, "POST", &format!("/v1/tenants/{tenant}/tokens"), body).expect(201);
    let field = |name: &str| made[name].as_str().expect(name).to_owned();
    (field("id"), field("token"))
}

#[test]
fn tokens_survive_kill_and_restart_and_so_does_their_end() {
    let mut server = Server::start();
    assert_eq!(server.get("/v1/whoami").expect(200), json!({"tenant": null, "token": null, "scopes": ["operator"]}));
    server.topic("orders", &json!({"queues": 1}));
    let operator = server.json("POST", &format!("{T}/tokens"), &json!({"scopes": ["operator"]})).expect(201);
    let operator = operator["token"].as_str().expect("a token").to_owned();
    server.get("/v1/tenants").expect_problem(401, "unauthenticated");
    let (_, publisher) = token(&server, &operator, "default", &json!({"scopes": ["publish:orders"]}));
    let (revoked_id, revoked) = token(&server, &operator, "default", &json!({"scopes": ["publish:*"]}));
    with(&server, &operator, "DELETE", &format!("{T}/tokens/{revoked_id}"), &Value::Null).expect(204);

    for round in 0..2 {
        let publish = format!("{T}/topics/orders/messages");
        with(&server, &publisher, "POST", &publish, &json!({"round": round})).expect(201);
        with(&server, &publisher, "PUT", &format!("{T}/topics/more"), &json!({})).expect_problem(403, "forbidden");
        with(&server, &revoked, "POST", &publish, &json!({})).expect_problem(401, "token-revoked");
        with(&server, "pm_0_0", "POST", &publish, &json!({})).expect_problem(401, "unauthenticated");
        let bare = server.get("/v1/tenants");
        assert_eq!(bare.header("www-authenticate"), Some("Bearer"));
        bare.expect_problem(401, "unauthenticated");
        assert_eq!(server.get("/health/live").status, 200);
        assert_eq!(server.get("/version").status, 200);
        server.kill();
        server.restart();
    }
    let usage = with(&server, &operator, "GET", &format!("{T}/usage"), &Value::Null).expect(200);
    assert_eq!(usage["messages"], json!({"limit": null, "used": "2"}));
    let secret = publisher.rsplit('_').next().expect("a secret").as_bytes();
    server.kill();
    assert!(!holds(server.data(), secret), "the secret lies in the data directory");
}

/// True if a file below a directory holds these bytes.
fn holds(directory: &std::path::Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(directory).expect("a directory").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        std::fs::read(&path).expect("a file").windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn a_token_expires() {
    let server = guarded();
    let at = time_in(1_500);
    let (_, brief) = token(&server, OPERATOR, "default", &json!({"scopes": ["consume:*"], "expires_at": at}));
    with(&server, &brief, "GET", "/v1/whoami", &Value::Null).expect(200);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = with(&server, &brief, "GET", "/v1/whoami", &Value::Null);
        if answer.status != 200 {
            answer.expect_problem(401, "token-expired");
            break;
        }
        assert!(Instant::now() < until, "it does not expire");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// RFC 3339, so many milliseconds from now.
fn time_in(ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let at = now.as_millis() as u64 + ms;
    let (days, rest) = (at / 86_400_000, at % 86_400_000);
    // Days to a date: H. Hinnant, chrono-compatible low-level date algorithms.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[test]
fn a_stranger_finds_nothing() {
    let server = guarded();
    with(&server, OPERATOR, "PUT", "/v1/tenants/acme", &json!({})).expect(201);
    with(&server, OPERATOR, "PUT", &format!("{T}/topics/orders"), &json!({"queues": 1})).expect(201);
    let all = json!({"scopes": ["admin:*", "publish:*", "consume:*", "plugin:write"]});
    let (_, own) = token(&server, OPERATOR, "default", &all);
    let (_, stranger) = token(&server, OPERATOR, "acme", &all);
    let sent = with(&server, &own, "POST", &format!("{T}/topics/orders/messages"), &json!(1)).expect(201);
    let id = sent["id"].as_str().expect("an id");
    for (method, path) in [
        ("GET", String::new()),
        ("GET", "/topics".into()),
        ("GET", "/topics/orders".into()),
        ("PUT", "/topics/orders".into()),
        ("POST", "/topics/orders/messages".into()),
        ("GET", "/topics/orders/stream?until=tail".into()),
        ("GET", format!("/messages/{id}")),
        ("GET", "/tokens".into()),
        ("POST", "/tokens".into()),
        ("GET", "/usage".into()),
        ("DELETE", String::new()),
    ] {
        with(&server, &stranger, method, &format!("{T}{path}"), &Value::Null).expect_problem(404, "tenant-not-found");
    }
    // An id of another tenant is no key to it either.
    let path = format!("/v1/tenants/acme/messages/{id}");
    with(&server, &stranger, "GET", &path, &Value::Null).expect_problem(404, "message-not-found");
    let names = with(&server, &stranger, "GET", "/v1/tenants", &Value::Null).expect(200);
    assert_eq!(names["items"].as_array().map(Vec::len), Some(1), "{names}");
    with(&server, &stranger, "GET", "/v1/audit", &Value::Null).expect_problem(403, "forbidden");
    let more = json!({"scopes": ["operator"]});
    let path = "/v1/tenants/acme/tokens";
    with(&server, &stranger, "POST", path, &more).expect_problem(403, "forbidden");
    let audit = with(&server, OPERATOR, "GET", "/v1/audit", &Value::Null).expect(200);
    let told: Vec<_> = audit["items"].as_array().expect("items").iter().map(|row| row["target"].clone()).collect();
    assert!(told.contains(&json!("topics/orders")), "{audit}");
}

#[test]
fn a_stream_ends_when_its_token_is_revoked() {
    let server = guarded();
    with(&server, OPERATOR, "PUT", &format!("{T}/topics/orders"), &json!({"queues": 1})).expect(201);
    let (id, reader) = token(&server, OPERATOR, "default", &json!({"scopes": ["consume:orders"]}));
    let ended = std::thread::scope(|scope| {
        let (server, reader) = (&server, &reader);
        let stream = scope.spawn(move || {
            let path = format!("{T}/topics/orders/stream");
            let answer = with(server, reader, "GET", &path, &Value::Null);
            (Instant::now(), answer)
        });
        std::thread::sleep(Duration::from_millis(300));
        with(server, OPERATOR, "DELETE", &format!("{T}/tokens/{id}"), &Value::Null).expect(204);
        let revoked = Instant::now();
        let (ended, answer) = stream.join().expect("the stream's thread");
        assert_eq!(answer.status, 200);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.contains("event: open") && text.contains("token-revoked"), "{text}");
        ended.saturating_duration_since(revoked)
    });
    assert!(ended < Duration::from_secs(60), "{ended:?}");
}

#[test]
fn the_command_line_speaks_for_a_token() {
    let server = guarded();
    let run = |token: &str, arguments: &[&str]| {
        let all: Vec<_> = arguments.iter().copied().chain(["--token", token, "--json"]).collect();
        server.cli(&all)
    };
    let (code, made, _) = run(OPERATOR, &["token", "create", "--scope", "publish:orders", "--scope", "admin:orders"]);
    assert_eq!(code, Some(0), "{made}");
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    let (code, whoami, _) = run(token, &["whoami"]);
    assert_eq!((code, whoami.contains(id)), (Some(0), true), "{whoami}");
    assert_eq!(run(token, &["topic", "create", "orders"]).0, Some(0));
    let (code, _, problem) = run(token, &["topic", "create", "bills"]);
    assert_eq!(code, Some(1));
    assert!(problem.contains("forbidden"), "{problem}");
    let (code, quota, _) = run(OPERATOR, &["tenant", "quota", "--topics", "1", "--messages-per-s", "none"]);
    assert_eq!((code, quota.contains("\"topics\": 1")), (Some(0), true), "{quota}");
    let (_, _, problem) = run(OPERATOR, &["topic", "create", "bills"]);
    assert!(problem.contains("quota-exceeded"), "{problem}");
    assert_eq!(run(token, &["tenant", "usage"]).0, Some(0));
    assert_eq!(run(OPERATOR, &["token", "revoke", id]).0, Some(0));
    assert!(run(token, &["whoami"]).2.contains("token-revoked"));
    assert!(run(OPERATOR, &["audit"]).1.contains("\"revoke\""));
    assert_eq!(run(OPERATOR, &["tenant", "create", "acme"]).0, Some(0));
    assert_eq!(run(OPERATOR, &["tenant", "delete", "acme"]).0, Some(0));
    assert_eq!(run(OPERATOR, &["tenant", "delete", "default"]).0, Some(1), "it has a topic");
}

#[test]
fn an_address_beyond_loopback_wants_an_operator_token() {
    let scratch = tempfile::tempdir().expect("a directory");
    let data = scratch.path().join("data").display().to_string();
    let short = scratch.path().join("short");
    std::fs::write(&short, "short").expect("a file");
    let missing = scratch.path().join("missing").display().to_string();
    let elsewhere = ["--listen", "0.0.0.0:0", "--data-dir", &data];
    for (more, word) in [
        (vec![], "--operator-token-file"),
        (vec!["--operator-token-file", missing.as_str()], "missing"),
        (vec!["--operator-token-file", short.to_str().expect("UTF-8")], "16"),
    ] {
        let arguments: Vec<_> = elsewhere.iter().copied().chain(more).collect();
        let (code, line) = refused_start(&arguments);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(word) && line.trim_end().lines().count() == 1, "{line}");
    }
    assert!(!scratch.path().join("data").exists(), "refused before anything was made");
}
