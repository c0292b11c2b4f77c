//! A server of the built binary: started, killed, started again.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Answer, Connection};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_pointsman");
/// Paths below the tenant that exists from the start.
pub(crate) const T: &str = "/v1/tenants/default";

/// A running server and its data directory.
pub(crate) struct Server {
    child: Child,
    address: String,
    data: PathBuf,
    arguments: Vec<String>,
    settings: Vec<String>,
    _scratch: tempfile::TempDir,
}

impl Server {
    /// Starts one on an empty directory.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with settings, each `key=value`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        Self::start_with_arguments(&[], settings)
    }

    /// Starts one with more arguments of `serve`, and settings.
    pub(crate) fn start_with_arguments(arguments: &[&str], settings: &[&str]) -> Self {
        let scratch = tempfile::tempdir().expect("temporary directory");
        let data = scratch.path().join("data");
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        let arguments: Vec<String> = arguments.iter().map(|s| (*s).to_owned()).collect();
        let (child, address) = spawn(&data, &arguments, &settings);
        let server = Self { child, address, data, arguments, settings, _scratch: scratch };
        server.wait_until_ready();
        server
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `http://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        self.child.wait().expect("wait").code()
    }

    /// Starts again on the same directory; gives the time until it is ready.
    pub(crate) fn restart(&mut self) -> Duration {
        let start = Instant::now();
        (self.child, self.address) = spawn(&self.data, &self.arguments, &self.settings);
        self.wait_until_ready();
        start.elapsed()
    }

    /// One call on a connection of its own.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        Connection::open(&self.address)
            .and_then(|mut connection| connection.call(method, path, headers, body))
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"")
    }

    /// A call with a JSON body.
    #[track_caller]
    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call(method, path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Creates a topic of the default tenant.
    #[track_caller]
    pub(crate) fn topic(&self, name: &str, body: &Value) -> Value {
        self.json("PUT", &format!("{T}/topics/{name}"), body).expect(201)
    }

    /// Creates a group of the default tenant.
    #[track_caller]
    pub(crate) fn group(&self, name: &str, body: &Value) -> Value {
        self.json("PUT", &format!("{T}/groups/{name}"), body).expect(201)
    }

    /// Publishes one text message.
    #[track_caller]
    pub(crate) fn publish(&self, topic: &str, headers: &[(&str, &str)], body: &str) -> Value {
        let mut all = vec![("Content-Type", "text/plain")];
        all.extend_from_slice(headers);
        self.call("POST", &format!("{T}/topics/{topic}/messages"), &all, body.as_bytes()).expect(201)
    }

    /// Leases from a group and gives the leases.
    #[track_caller]
    pub(crate) fn lease(&self, group: &str, body: &Value) -> Vec<Value> {
        let answer = self.json("POST", &format!("{T}/groups/{group}/leases"), body).expect(200);
        answer["leases"].as_array().expect("leases").clone()
    }

    /// Settles and gives the statuses.
    #[track_caller]
    pub(crate) fn settle(&self, group: &str, items: &Value) -> Vec<String> {
        let answer = self.json("POST", &format!("{T}/groups/{group}/settle"), &serde_json::json!({ "items": items }));
        assert!(matches!(answer.status, 200 | 207), "{answer}");
        let results = answer.json()["results"].as_array().expect("results").clone();
        results.iter().map(|r| r["status"].as_str().expect("status").to_owned()).collect()
    }

    /// Runs the command line against this server: (exit code, stdout, stderr).
    pub(crate) fn cli(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(BINARY).args(arguments).args(["--url", &self.url()]).output().expect("run the CLI");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn wait_until_ready(&self) {
        let start = Instant::now();
        loop {
            let ready = Connection::open(&self.address)
                .and_then(|mut connection| connection.call("GET", "/health/ready", &[], b""))
                .is_ok_and(|answer| answer.status == 200);
            if ready {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the server did not become ready in 30 s");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been stopped by the test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").to_string()
}

fn spawn(data: &Path, arguments: &[String], settings: &[String]) -> (Child, String) {
    let address = free_address();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--listen", &address, "--data-dir"]).arg(data).args(arguments);
    for setting in settings {
        command.args(["--set", setting]);
    }
    (command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the server"), address)
}

/// Starts the server where it is expected to refuse: (exit code, stderr).
pub(crate) fn refused_start(arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = Command::new(BINARY)
        .arg("serve")
        .args(arguments)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start");
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            let mut text = String::new();
            child.stderr.take().expect("stderr").read_to_string(&mut text).expect("stderr");
            return (status.code(), text);
        }
        if start.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            panic!("serve {arguments:?} started, though it should have been refused");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
