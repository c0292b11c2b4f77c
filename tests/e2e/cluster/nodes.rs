//! Three processes on free ports of this machine.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Answer, Connection};
use crate::server::BINARY;

/// Numbers of the nodes.
pub(crate) const NODES: [u32; 3] = [1, 2, 3];
/// How long a cluster may take to form, or to be whole again after a fault, on a busy machine.
pub(crate) const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// A look at a node that may be stopped.
pub(crate) const LOOK: Duration = Duration::from_secs(3);

struct Node {
    http: String,
    peer: String,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// A cluster. Its processes end with it.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    settings: Vec<String>,
    _scratch: tempfile::TempDir,
}

impl Cluster {
    /// Three empty nodes that have become one cluster.
    pub(crate) fn start() -> Self {
        // The retry table of a test is a thousand times as fast.
        Self::start_with(&["time_scale=0.001"])
    }

    /// The same with settings, each `key=value`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        for _ in 0..3 {
            let mut cluster = Self::laid_out(settings);
            NODES.iter().for_each(|node| cluster.spawn(*node, &[]));
            match cluster.becomes_whole(WHOLE_WITHIN) {
                Ok(()) => return cluster,
                // Somebody took a port between the look and the start.
                Err(_) if NODES.iter().any(|node| cluster.log(*node).contains("in use")) => {}
                Err(words) => panic!("{words}\n{}", cluster.logs()),
            }
        }
        panic!("the ports were taken three times")
    }

    /// Directories, ports and nothing started.
    pub(crate) fn laid_out(settings: &[&str]) -> Self {
        let scratch = tempfile::tempdir().expect("temporary directory");
        let nodes = NODES.map(|node| Node {
            http: free_port(),
            peer: free_port(),
            data: scratch.path().join(format!("node{node}")),
            log: scratch.path().join(format!("node{node}.log")),
            child: None,
        });
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        Self { nodes: nodes.into(), settings, _scratch: scratch }
    }

    /// What `--peers` says.
    pub(crate) fn peers(&self) -> String {
        let of = |(node, at): (&u32, &Node)| format!("{node}={}/{}", at.peer, at.http);
        NODES.iter().zip(&self.nodes).map(of).collect::<Vec<_>>().join(",")
    }

    /// The arguments of `serve` for a node on a data directory.
    pub(crate) fn arguments(&self, node: u32, data: &Path) -> Vec<String> {
        let at = self.node(node);
        let mut arguments = ["serve", "--listen", &at.http, "--peer-listen", &at.peer, "--node-id", &node.to_string()]
            .map(str::to_owned)
            .to_vec();
        arguments.extend(["--peers".into(), self.peers(), "--data-dir".into(), data.display().to_string()]);
        for setting in &self.settings {
            arguments.extend(["--set".into(), setting.clone()]);
        }
        arguments
    }

    /// Starts a node and does not wait.
    pub(crate) fn spawn(&mut self, node: u32, more: &[&str]) {
        let arguments = self.arguments(node, &self.node(node).data);
        let log = std::fs::File::options().create(true).append(true).open(&self.node(node).log).expect("log");
        let child = Command::new(BINARY)
            .args(arguments)
            .args(more)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the server");
        let before = self.node_mut(node).child.replace(child);
        assert!(before.is_none(), "node {node} runs already");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, node: u32) {
        let mut child = self.node_mut(node).child.take().expect("runs");
        child.kill().expect("kill");
        let status = child.wait().expect("wait");
        assert_eq!(status.signal(), Some(9), "node {node} was to die by the signal: {status}");
    }

    /// SIGTERM; gives the exit code and the time it took.
    pub(crate) fn terminate(&mut self, node: u32) -> (Option<i32>, Duration) {
        let start = Instant::now();
        self.signal(node, "TERM");
        let mut child = self.node_mut(node).child.take().expect("runs");
        (child.wait().expect("wait").code(), start.elapsed())
    }

    /// SIGSTOP; returns when the process has stopped.
    pub(crate) fn stop(&self, node: u32) {
        self.signal(node, "STOP");
        let start = Instant::now();
        while !self.is_stopped(node) {
            assert!(start.elapsed() < LOOK, "node {node} does not stop");
            std::thread::yield_now();
        }
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self, node: u32) {
        self.signal(node, "CONT");
    }

    /// Whether the process is stopped by a signal.
    pub(crate) fn is_stopped(&self, node: u32) -> bool {
        let id = self.node(node).child.as_ref().expect("runs").id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("stat");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Removes all that a dead node had.
    pub(crate) fn wipe(&mut self, node: u32) {
        assert!(self.node(node).child.is_none(), "node {node} runs");
        std::fs::remove_dir_all(&self.node(node).data).expect("wipe");
    }

    /// `host:port` for clients.
    pub(crate) fn address(&self, node: u32) -> &str {
        &self.node(node).http
    }

    /// `host:port` for other nodes.
    pub(crate) fn peer_address(&self, node: u32) -> &str {
        &self.node(node).peer
    }

    /// All addresses for clients.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.http.clone()).collect()
    }

    /// A node's data directory.
    pub(crate) fn data(&self, node: u32) -> &Path {
        &self.node(node).data
    }

    /// What a node wrote to its stderr.
    pub(crate) fn log(&self, node: u32) -> String {
        std::fs::read_to_string(&self.node(node).log).unwrap_or_default()
    }

    /// One call to a node.
    #[track_caller]
    pub(crate) fn call(&self, node: u32, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        Connection::open(self.address(node))
            .and_then(|mut connection| connection.call(method, path, headers, body))
            .unwrap_or_else(|e| panic!("node {node}: {method} {path}: {e}"))
    }

    /// GET from a node.
    #[track_caller]
    pub(crate) fn get(&self, node: u32, path: &str) -> Answer {
        self.call(node, "GET", path, &[], b"")
    }

    /// A call with a JSON body.
    #[track_caller]
    pub(crate) fn json(&self, node: u32, method: &str, path: &str, body: &Value) -> Answer {
        self.call(node, method, path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// The ends of all logs, for a failure.
    pub(crate) fn logs(&self) -> String {
        let tail = |node: &u32| {
            let log = self.log(*node);
            let lines: Vec<&str> = log.lines().collect();
            format!("--- node {node}\n{}\n", lines[lines.len().saturating_sub(30)..].join("\n"))
        };
        NODES.iter().map(tail).collect()
    }

    fn signal(&self, node: u32, name: &str) {
        let id = self.node(node).child.as_ref().expect("runs").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill").success());
    }

    fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize - 1]
    }

    fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize - 1]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address that is free, below the ports that the system gives to outgoing connections: a node that is restarted must
/// find its port again.
pub(crate) fn free_port() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.0.0.1:{}", 10_000 + (std::process::id().wrapping_mul(97) + next) % 20_000);
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}
