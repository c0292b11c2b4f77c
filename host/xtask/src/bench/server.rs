//! A release server of its own data directory, stopped when dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Options;
use super::connection::{Connection, request};

/// A running `pointsman serve`.
pub(crate) struct Server {
    child: Child,
    /// `host:port` of the HTTP listener.
    pub(crate) address: String,
    binary: PathBuf,
}

impl Server {
    /// Starts one on a free port and waits until it is ready.
    pub(crate) async fn start(root: &Path, data: &Path, options: &Options) -> Result<Self, String> {
        let server = Self::spawn(root, data, options, free_address()?, &[])?;
        server.ready().await?;
        Ok(server)
    }

    /// Starts one with more arguments, and does not wait.
    pub(crate) fn spawn(
        root: &Path,
        data: &Path,
        options: &Options,
        address: String,
        more: &[&str],
    ) -> Result<Self, String> {
        let binary = binary(root, options);
        let mut command = Command::new(&binary);
        command.args(["serve", "--listen", &address, "--data-dir"]).arg(data).args(more);
        for set in &options.set {
            command.args(["--set", set]);
        }
        let child = command.stderr(Stdio::null()).spawn().map_err(|e| format!("{}: {e}", binary.display()))?;
        Ok(Self { child, address, binary })
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let start = Instant::now();
        let ready = request("GET", "/health/ready", &[], b"");
        loop {
            if let Ok(mut connection) = Connection::open(&self.address).await
                && connection.call(&ready).await.is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err("the server did not become ready in 20 s".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Processor time that its threads have taken so far, in the system's and in their own code.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace();
        // Fields 14 and 15 of proc(5), in ticks of a hundredth of a second on every Linux that we know.
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Uploads one of the binary's example components as version 1.0.0.
    pub(crate) fn upload_example(&self, name: &str) -> Result<(), String> {
        let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = scratch.path().join(format!("{name}.wasm")).display().to_string();
        command(&self.binary, &["plugin", "example", name, "--out", &file])?;
        let url = format!("http://{}", self.address);
        command(&self.binary, &["plugin", "upload", &file, "--version", "1.0.0", "--url", &url]).map(drop)
    }

    /// Resident memory, MiB: now, and the most so far.
    pub(crate) fn memory_mib(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib >> 10)
        };
        (field("VmRSS:").unwrap_or_default(), field("VmHWM:").unwrap_or_default())
    }
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.to_string())
}

/// The binary that is measured.
pub(crate) fn binary(root: &Path, options: &Options) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    options.binary.clone().unwrap_or_else(|| target.join("release/pointsman"))
}

/// Runs a binary's command line; answers what it prints.
pub(crate) fn command(binary: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(binary).args(arguments).output().map_err(|e| format!("{}: {e}", binary.display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("pointsman {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
}

impl Drop for Server {
    fn drop(&mut self) {
        // The child may have ended by itself; there is nothing to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
