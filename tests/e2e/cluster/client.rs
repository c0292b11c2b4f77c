//! A client as one should be written: it tells done, surely not done and unknown apart, and goes on at another node.

use std::time::{Duration, Instant};

use super::ledger::Ledger;
use crate::http::{Answer, Connection};

/// How long one call may take before its client looks elsewhere.
const CALL: Duration = Duration::from_secs(5);
/// What the server is told.
const TIMEOUT: (&str, &str) = ("Pm-Timeout-Ms", "3000");
/// How long a call is repeated before the test is red.
const GIVE_UP: Duration = Duration::from_secs(90);
/// Before the next node is asked.
const PAUSE: Duration = Duration::from_millis(20);

/// What came of one call.
pub(crate) enum Outcome {
    /// It was answered, well or badly, and for good.
    Answered(Answer),
    /// Nobody knows.
    Unknown,
    /// It was surely not done.
    Refused,
}

/// One client, at one node at a time.
pub(crate) struct Client<'a> {
    nodes: &'a [String],
    at: usize,
    connection: Option<Connection>,
    ledger: &'a Ledger,
    /// It asks one node alone, come what may.
    stays: bool,
}

impl<'a> Client<'a> {
    /// Starts at the node of that number, modulo their count.
    pub(crate) fn new(nodes: &'a [String], at: usize, ledger: &'a Ledger) -> Self {
        Self { nodes, at: at % nodes.len(), connection: None, ledger, stays: false }
    }

    /// Asks that node alone.
    pub(crate) fn staying(nodes: &'a [String], at: usize, ledger: &'a Ledger) -> Self {
        Self { stays: true, ..Self::new(nodes, at, ledger) }
    }

    /// One attempt.
    pub(crate) fn once(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome {
        let outcome = self.attempt(method, path, headers, body);
        self.ledger.count(|counts| match &outcome {
            Outcome::Answered(_) => counts.acknowledged += 1,
            Outcome::Unknown => counts.unknown += 1,
            Outcome::Refused => counts.failed += 1,
        });
        if !matches!(outcome, Outcome::Answered(_)) {
            self.connection = None;
            self.at = (self.at + usize::from(!self.stays)) % self.nodes.len();
        }
        outcome
    }

    fn attempt(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome {
        let Some(connection) = self.connect() else { return Outcome::Refused };
        let mut all = vec![TIMEOUT];
        all.extend_from_slice(headers);
        match connection.call(method, path, &all, body) {
            Err(_) => Outcome::Unknown,
            Ok(answer) => match answer.status {
                429 | 503 => Outcome::Refused,
                504 => Outcome::Unknown,
                500 => panic!("{method} {path}: {answer}"),
                _ => Outcome::Answered(answer),
            },
        }
    }

    /// Repeats a call, which must bear that, until it is answered.
    pub(crate) fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let start = Instant::now();
        loop {
            if let Outcome::Answered(answer) = self.once(method, path, headers, body) {
                return answer;
            }
            assert!(start.elapsed() < GIVE_UP, "no answer to {method} {path} within {GIVE_UP:?}");
            std::thread::sleep(PAUSE);
        }
    }

    fn connect(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            self.connection = Connection::open_within(&self.nodes[self.at], CALL).ok();
        }
        self.connection.as_mut()
    }
}
