//! Compiling components: in this process, or in a child that is limited in memory and CPU.
//!
//! Cranelift cannot be interrupted, and a component may be made to compile slowly. So the broker executes itself
//! with a hidden subcommand: the child limits itself, reads Wasm on stdin and writes code to stdout.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use pointsman_model::limits;
use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::Engine;

use crate::code_cache::Code;
use crate::{Error, engine};

/// Where components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// Here. For tests, benches and components that come with the broker.
    InProcess,
    /// In a child process: `exe args…` must end in [`compile_child_main`].
    Child {
        /// The program to execute, usually the broker itself.
        exe: PathBuf,
        /// What makes it a compiler.
        args: Vec<String>,
    },
}

impl Compiler {
    /// Compiles a component.
    ///
    /// # Errors
    /// [`Error::Compile`] with the reason.
    pub(crate) fn compile(&self, engine: &Engine, wasm: &[u8]) -> Result<Code, Error> {
        match self {
            Self::InProcess => {
                let code = engine.precompile_component(wasm).map_err(|error| Error::Compile(format!("{error:#}")))?;
                Ok(Code::from_compiler(code))
            }
            Self::Child { exe, args } => {
                let mut command = Command::new(exe);
                command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                run(command, wasm).map(Code::from_compiler)
            }
        }
    }
}

fn run(mut command: Command, wasm: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |error: std::io::Error| Error::Compile(format!("the compiler cannot be run: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(wasm)
    {
        // It died before it had read everything; how is in its exit status.
        tracing::debug!(%error, "the compiler did not read its input");
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(Error::Compile(match output.status.signal() {
        Some(signal) => format!("the compiler was stopped by signal {signal}: it ran past its memory or its time"),
        None => last.chars().take(limits::PLUGIN_WORDS_CHARS_MAX).collect(),
    }))
}

/// The whole of the hidden subcommand: limits itself, compiles stdin to stdout.
#[must_use]
pub fn compile_child_main() -> ExitCode {
    match compile_child(limits::PLUGIN_COMPILE_DATA_BYTES_MAX, limits::PLUGIN_COMPILE_CPU_S_MAX) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent reads the last line.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn compile_child(data_bytes_max: u64, cpu_s_max: u64) -> Result<(), String> {
    let limit = |max| Rlimit { current: Some(max), maximum: Some(max) };
    setrlimit(Resource::Data, limit(data_bytes_max)).map_err(|error| error.to_string())?;
    setrlimit(Resource::Cpu, limit(cpu_s_max)).map_err(|error| error.to_string())?;
    setrlimit(Resource::Core, limit(0)).map_err(|error| error.to_string())?;
    let mut wasm = Vec::new();
    let most = u64::from(limits::PLUGIN_BYTES_CAP) + 1;
    std::io::stdin().take(most).read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    let engine = engine::engine().map_err(|error| error.to_string())?;
    let code = engine.precompile_component(&wasm).map_err(|error| format!("{error:#}").replace('\n', " "))?;
    std::io::stdout().write_all(&code).map_err(|error| error.to_string())
}
