//! What happened in a run: a hash of everything that was carried, and the last things worth reading.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines kept for a failure.
const LINES_MAX: usize = 120;

struct Inner {
    hash: u64,
    /// Hash of the faults alone.
    faults: u64,
    lines: VecDeque<String>,
}

/// The trace of one run.
pub(super) struct Trace {
    started: Instant,
    inner: Mutex<Inner>,
}

impl Trace {
    pub(super) fn new() -> Self {
        let inner = Inner { hash: 0, faults: 0, lines: VecDeque::new() };
        Self { started: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Milliseconds since the run began.
    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Something was carried.
    pub(super) fn mix(&self, what: &str, from: usize, to: usize, bytes: &[u8]) {
        let head = [self.now_ms(), what.len() as u64, from as u64, to as u64, pointsman_model::hash::hash(bytes)];
        let mut inner = self.inner.lock();
        let words = std::iter::once(inner.hash).chain(head);
        let text: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        inner.hash = pointsman_model::hash::hash(&text);
    }

    /// Something worth reading.
    pub(super) fn say(&self, what: impl AsRef<str>) {
        let now = self.now_ms();
        self.mix("say", 0, 0, what.as_ref().as_bytes());
        let mut inner = self.inner.lock();
        if what.as_ref().starts_with("fault: ") {
            inner.faults = inner.faults.rotate_left(7) ^ pointsman_model::hash::hash(what.as_ref().as_bytes());
        }
        if inner.lines.len() >= LINES_MAX {
            inner.lines.pop_front();
        }
        inner.lines.push_back(format!("{:>6}.{:03} {}", now / 1_000, now % 1_000, what.as_ref()));
    }

    /// The hash so far.
    pub(super) fn hash(&self) -> u64 {
        self.inner.lock().hash
    }

    /// The hash of the faults alone.
    pub(super) fn faults(&self) -> u64 {
        self.inner.lock().faults
    }

    /// The last lines.
    pub(super) fn text(&self) -> String {
        self.inner.lock().lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
