//! The commands, one file each, and what they share: how a server is reached and how a command fails.

pub(crate) mod bind;
pub(crate) mod binding;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod demo;
pub(crate) mod dlq;
pub(crate) mod explain;
pub(crate) mod group;
pub(crate) mod plugin;
pub(crate) mod publish;
pub(crate) mod published;
pub(crate) mod schedule;
pub(crate) mod scheduled;
pub(crate) mod serve;
pub(crate) mod tail;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod topic;
pub(crate) mod transaction;
pub(crate) mod version;

use std::future::Future;
use std::io;
use std::path::Path;

use pointsman_api_types::Code;
use pointsman_client::{Client, ClientOptions, Tenant};

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Refused here, in one line.
    #[error("{0}")]
    Refused(String),
    /// Refused by the server, or not reached.
    #[error(transparent)]
    Client(#[from] pointsman_client::Error),
    /// The output could not be written.
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

/// Which server, as whom, and how to print.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Connection {
    /// Base URL of any node.
    #[arg(
        long,
        env = "POINTSMAN_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7070",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// API token; a server on this machine needs none until it has an operator token.
    #[arg(long, env = "POINTSMAN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Tenant to work in.
    #[arg(long, env = "POINTSMAN_TENANT", hide_env_values = true, default_value = "default", value_name = "NAME")]
    pub(crate) tenant: String,
    /// Print JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Connection {
    /// A client of that server.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let options = ClientOptions { token: self.token.clone(), ..ClientOptions::default() };
        Client::new(&self.url, options).map_err(|error| match error {
            pointsman_client::Error::InvalidUrl { .. } => Failure::Usage(error.to_string()),
            other => other.into(),
        })
    }

    /// The tenant's calls on that server.
    pub(crate) fn tenant(&self) -> Result<Tenant, Failure> {
        Ok(self.client()?.tenant(&self.tenant))
    }
}

/// Says what a creation is refused for where the name is taken; its precondition was that it is not.
pub(crate) fn taken(what: &str, name: &str) -> impl FnOnce(pointsman_client::Error) -> Failure {
    let detail = format!("there is a {what} `{name}` already");
    move |error| match error {
        pointsman_client::Error::Refused(mut problem) if problem.code == Code::PreconditionFailed => {
            problem.detail = detail;
            pointsman_client::Error::Refused(problem).into()
        }
        other => other.into(),
    }
}

/// Runs a client command to its end, on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// JSON given on the command line: as text, or `@file`.
pub(crate) fn json_argument(name: &str, text: &str) -> Result<Box<serde_json::value::RawValue>, Failure> {
    let text = match text.strip_prefix('@') {
        Some(path) => String::from_utf8(read_file(Path::new(path))?)
            .map_err(|_| Failure::Refused(format!("{path}: not UTF-8")))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("--{name} is no JSON: {error}")))
}

/// The bytes of a file that the user named.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Refused(format!("{}: {error}", path.display())))
}
