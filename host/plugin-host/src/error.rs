//! What can go wrong outside a plugin; what goes wrong inside one is a [`pointsman_model::judge::Verdict`].

use std::path::PathBuf;

use crate::Digest;

/// An error of the plugin host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// As many calls wait as may. Try again later.
    #[error("too many plugin calls are waiting")]
    Busy,
    /// The host is shutting down.
    #[error("the plugin host is shutting down")]
    Stopped,
    /// More messages than one call takes.
    #[error("{messages} messages in one plugin call, at most {max}")]
    BatchTooLarge {
        /// Messages handed in.
        messages: usize,
        /// Messages allowed.
        max: usize,
    },
    /// The batch has not one column for each field of the plan, or a column has not one value for each message.
    #[error("the columns of a plugin call do not fit its plan")]
    BadBatch,
    /// The binding's plugin is of another kind than the call.
    #[error("the binding's plugin is of another kind than this call")]
    WrongKind,
    /// The component was not given to this host yet.
    #[error("the component {0} is not compiled here")]
    NotCompiled(Digest),
    /// The component cannot be compiled.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// The engine cannot be made with our settings.
    #[error("the Wasm engine cannot be made")]
    Engine(#[source] wasmtime::Error),
    /// A thread cannot be started.
    #[error("a plugin thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// A file of the code cache cannot be read or written.
    #[error("the plugin code cache at {path} failed")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}
