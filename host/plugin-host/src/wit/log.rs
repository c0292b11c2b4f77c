//! The import `log`, and the lines kept for a binding.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_model::time::SharedClock;
use pointsman_model::{Timestamp, limits};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use crate::instance::Guest;

/// A line that a plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// 0 error, 1 warn, 2 info, 3 debug.
    pub level: u8,
    /// What.
    pub text: String,
}

/// The last lines of a binding.
pub(crate) struct Logs {
    clock: SharedClock,
    lines: Mutex<VecDeque<LogLine>>,
}

impl Logs {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { clock, lines: Mutex::default() }
    }

    pub(crate) fn push(&self, level: u8, text: &str) {
        let mut end = text.len().min(limits::PLUGIN_LOG_LINE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let line = LogLine { at: self.clock.wall(), level: level.min(3), text: text[..end].to_owned() };
        let mut lines = self.lines.lock();
        if lines.len() == limits::PLUGIN_LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.lines.lock().iter().cloned().collect()
    }
}

/// The share of the log that one call has.
#[derive(Default)]
pub(crate) struct LogShare {
    to: Option<Arc<Logs>>,
    left: u32,
}

impl LogShare {
    /// Begins a call whose lines go to `logs`.
    pub(crate) fn begin(&mut self, logs: &Arc<Logs>) {
        if self.to.as_ref().is_none_or(|to| !Arc::ptr_eq(to, logs)) {
            self.to = Some(Arc::clone(logs));
        }
        self.left = limits::PLUGIN_LOG_LINES_PER_CALL_MAX;
    }

    /// Where the next line goes, if the call may still write one.
    pub(crate) fn take(&mut self) -> Option<Arc<Logs>> {
        self.left = self.left.checked_sub(1)?;
        self.to.clone()
    }
}

/// Defines `log`.
pub(crate) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.root().func_wrap("log", |mut store: StoreContextMut<'_, Guest>, (level, text): (u8, WasmStr)| {
        // The text is not even read once the call's share is used up.
        if let Some(logs) = store.data_mut().log.take() {
            logs.push(level, &text.to_str(&store)?);
        }
        Ok(())
    })
}
