//! The nodes of the demonstration: child processes, which end with it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pointsman_client::{Client, ClientOptions};

use super::PAUSE;
use crate::commands::Failure;

/// Small enough for a temporary directory.
const SEGMENT_BYTES: u64 = 32 << 20;
/// How long a client waits for an answer: a publish that waits for a new leader is answered well before.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Lines of a node's log that a failure shows.
const LOG_LINES: usize = 3;

/// Child processes, one a node, numbered from 1.
pub(crate) struct Nodes {
    directory: PathBuf,
    program: PathBuf,
    /// `--peers`.
    list: String,
    urls: Vec<String>,
    children: Vec<Child>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Nodes {
    /// Starts so many nodes below a directory.
    pub(crate) fn start(directory: &Path, count: u32) -> Result<Self, Failure> {
        let ports = free_ports(2 * count as usize)?;
        let of = |id: usize, which: usize| ports[2 * id + which];
        let ids = 0..count as usize;
        let entry = |id| format!("{}=127.0.0.1:{}/127.0.0.1:{}", id + 1, of(id, 0), of(id, 1));
        let mut nodes = Self {
            directory: directory.to_owned(),
            program: own_program()?,
            list: ids.clone().map(entry).collect::<Vec<_>>().join(","),
            urls: ids.map(|id| format!("http://127.0.0.1:{}", of(id, 1))).collect(),
            children: Vec::new(),
        };
        for node in 1..=count {
            let child = nodes.spawn(node)?;
            nodes.children.push(child);
        }
        Ok(nodes)
    }

    fn spawn(&self, node: u32) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(self.log(node))?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--data-dir").arg(self.directory.join(format!("node-{node}")));
        command.args(["--node-id", &node.to_string(), "--peers", &self.list]);
        command.arg("--set").arg(format!("segment_bytes={SEGMENT_BYTES}"));
        command.args(["--set", "log=warn,openraft=error,lsm_tree=warn"]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("POINTSMAN_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()
    }

    fn log(&self, node: u32) -> PathBuf {
        self.directory.join(format!("node-{node}.log"))
    }

    /// Numbers of the nodes.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (1_u32..).take(self.urls.len())
    }

    /// Where clients reach the nodes.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// A client of each node.
    pub(super) fn clients(&self) -> Result<Vec<Client>, Failure> {
        let options = ClientOptions { timeout: ANSWER_WITHIN, ..ClientOptions::default() };
        self.urls.iter().map(|url| Ok(Client::new(url, options.clone())?)).collect()
    }

    /// Waits until every node is ready.
    pub(super) async fn wait_ready(&mut self, within: Duration) -> Result<(), Failure> {
        let until = Instant::now() + within;
        for (node, client) in self.numbers().zip(self.clients()?) {
            while !client.ready().await.is_ok_and(|health| health.checks.iter().all(|check| check.ok)) {
                let child = &mut self.children[node as usize - 1];
                if child.try_wait()?.is_some() {
                    return Err(Failure::Refused(self.complaint(&format!("node {node} ended"), within)));
                }
                if Instant::now() > until {
                    return Err(Failure::Refused(self.complaint(&format!("node {node} is not ready"), within)));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Kills a node, without a chance to say goodbye. Returns when.
    pub(super) fn kill(&mut self, node: u32) -> Result<Instant, Failure> {
        let child = self.child(node)?;
        child.kill()?;
        let killed = Instant::now();
        child.wait()?;
        Ok(killed)
    }

    /// Starts a killed node with the directory it had.
    pub(super) fn start_again(&mut self, node: u32) -> Result<(), Failure> {
        let child = self.spawn(node)?;
        *self.child(node)? = child;
        Ok(())
    }

    fn child(&mut self, node: u32) -> Result<&mut Child, Failure> {
        let found = (node as usize).checked_sub(1).and_then(|at| self.children.get_mut(at));
        found.ok_or_else(|| Failure::Refused(format!("there is no node {node}")))
    }

    /// What went wrong, with the last lines that the nodes logged.
    pub(super) fn complaint(&self, what: &str, within: Duration) -> String {
        let mut text = format!("{what} within {} s", within.as_secs());
        for node in self.numbers() {
            let log = std::fs::read_to_string(self.log(node)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            if !last.is_empty() {
                text += &format!("; node {node}: {}", last.join(" | "));
            }
        }
        text
    }
}

/// Ports that were free just now, all different.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let bound: io::Result<Vec<_>> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    bound?.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// This very program, also when its file was replaced.
fn own_program() -> io::Result<PathBuf> {
    let linux = Path::new("/proc/self/exe");
    if linux.exists() { Ok(linux.to_owned()) } else { std::env::current_exe() }
}
