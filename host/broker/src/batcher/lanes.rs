//! Requests that wait because as much is proposed as may be: a lane a tenant, emptied by deficit round robin.
//!
//! A lane keeps the order of its requests. Each turn it may move a quantum of bytes, and what it saved up before by
//! requests longer than that (M. Shreedhar, G. Varghese: Efficient fair queueing using deficit round robin, 1996). An
//! emptied lane forgets what it saved.

use std::collections::{HashMap, VecDeque};

use pointsman_model::TenantId;

use super::entry::OpenEntry;

/// Bytes a lane may move in its turn: small requests of many tenants share an entry.
pub(super) const QUANTUM_BYTES: usize = 16 << 10;

/// All lanes that are not empty.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<TenantId, Lane>,
    /// Whose turn it is, then who is next.
    turns: VecDeque<TenantId>,
}

#[derive(Default)]
struct Lane {
    /// Each holds one request.
    requests: VecDeque<OpenEntry>,
    deficit: usize,
    /// It has its quantum for this turn.
    in_turn: bool,
}

/// What a look at the lanes came to.
pub(super) enum Next {
    /// This one may join an entry.
    Request(OpenEntry),
    /// The next does not fit into the entry as it is.
    Full,
    /// Nothing waits.
    Empty,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// True if something of the tenant waits: what comes later waits behind it.
    pub(super) fn has(&self, tenant: TenantId) -> bool {
        self.lanes.contains_key(&tenant)
    }

    pub(super) fn push(&mut self, tenant: TenantId, request: OpenEntry) {
        let lane = self.lanes.entry(tenant).or_default();
        if lane.requests.is_empty() {
            self.turns.push_back(tenant);
        }
        lane.requests.push_back(request);
    }

    /// The request whose turn it is, if `fits` says so.
    pub(super) fn next(&mut self, fits: impl Fn(&OpenEntry) -> bool) -> Next {
        let alone = self.turns.len() == 1;
        while let Some(tenant) = self.turns.front().copied() {
            // A tenant has a turn while it has a lane.
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                self.turns.pop_front();
                continue;
            };
            if !std::mem::replace(&mut lane.in_turn, true) {
                lane.deficit += QUANTUM_BYTES;
            }
            let Some(request) = lane.requests.front() else {
                self.lanes.remove(&tenant);
                self.turns.pop_front();
                continue;
            };
            let bytes = request.bytes();
            if bytes > lane.deficit && !alone {
                lane.in_turn = false;
                self.turns.rotate_left(1);
                continue;
            }
            if !fits(request) {
                return Next::Full;
            }
            lane.deficit = lane.deficit.saturating_sub(bytes);
            let Some(request) = lane.requests.pop_front() else { continue };
            if lane.requests.is_empty() {
                self.lanes.remove(&tenant);
                self.turns.pop_front();
            }
            return Next::Request(request);
        }
        Next::Empty
    }

    /// Marks a request as not to be proposed, which it is when its turn comes; false if it is not here.
    pub(super) fn withdraw(&mut self, ticket: u64) -> bool {
        self.lanes.values_mut().flat_map(|lane| &mut lane.requests).any(|request| request.withdraw(ticket))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::time::{Duration, Instant};

    use pointsman_model::record::{HEADER_BYTES, Header, kind};
    use pointsman_model::{Term, limits};
    use tokio::sync::oneshot;

    use super::super::RecordWriter;
    use super::super::entry::Waiter;
    use super::*;

    /// A request of exactly so many bytes; its ticket tells it again.
    fn request(ticket: u64, tenant: u32, bytes: usize) -> OpenEntry {
        let mut entry = OpenEntry::of_term(Term(1));
        let before = entry.mark();
        let header = Header { kind: kind::PUBLISH, ..Header::default() };
        RecordWriter::new(&mut entry).write(&header, &(), &vec![0; bytes - HEADER_BYTES]);
        entry.finish(&before, |records: Range<u32>, bytes: Range<usize>| Waiter {
            ticket,
            tenant: TenantId(tenant),
            bytes,
            records,
            deadline: Instant::now() + Duration::from_secs(60),
            reply: oneshot::channel().0,
            early: None,
            _hold: None,
        });
        entry
    }

    /// Takes so many requests: their tenants, and their tickets in order.
    fn take(lanes: &mut Lanes, n: usize) -> Vec<(u32, u64)> {
        let mut taken = Vec::new();
        while taken.len() < n {
            match lanes.next(|_| true) {
                Next::Request(request) => taken.push((request.waiters[0].tenant.0, request.waiters[0].ticket)),
                _ => break,
            }
        }
        taken
    }

    #[test]
    fn tenants_get_equal_bytes_whatever_their_requests() {
        let mut lanes = Lanes::default();
        let mut ticket = 0;
        let mut put = |lanes: &mut Lanes, tenant, bytes| {
            ticket += 1;
            lanes.push(TenantId(tenant), request(ticket, tenant, bytes));
        };
        // One with a thousand small ones, one with large ones, one with a few that came last.
        for _ in 0..1_000 {
            put(&mut lanes, 1, 1 << 10);
        }
        for _ in 0..100 {
            put(&mut lanes, 2, 40 << 10);
        }
        for _ in 0..3 {
            put(&mut lanes, 3, 200);
        }
        let mut bytes = [0; 4];
        let mut last = [0; 4];
        let mut others_before = 0;
        while bytes[1] < 512 << 10 {
            let Next::Request(taken) = lanes.next(|_| true) else { panic!("something waits") };
            let (tenant, ticket) = (taken.waiters[0].tenant.0 as usize, taken.waiters[0].ticket);
            assert!(ticket > last[tenant], "the order within a tenant stays");
            last[tenant] = ticket;
            bytes[tenant] += taken.bytes();
            if bytes[3] < 600 && tenant != 3 {
                others_before += taken.bytes();
            }
        }
        assert!(others_before <= 2 * (QUANTUM_BYTES + (40 << 10)), "{others_before} bytes went before the last comer");
        assert!(bytes[1].abs_diff(bytes[2]) <= QUANTUM_BYTES + (40 << 10), "{bytes:?}");
    }

    #[test]
    fn what_does_not_fit_keeps_its_turn() {
        let mut lanes = Lanes::default();
        lanes.push(TenantId(1), request(1, 1, 100));
        lanes.push(TenantId(2), request(2, 2, 100));
        assert!(matches!(lanes.next(|_| false), Next::Full));
        assert_eq!(take(&mut lanes, 5), [(1, 1), (2, 2)]);
        assert!(lanes.is_empty() && !lanes.has(TenantId(1)));
        assert!(matches!(lanes.next(|_| true), Next::Empty));
    }

    #[test]
    fn a_request_longer_than_many_quanta_comes_to_its_turn() {
        let mut lanes = Lanes::default();
        lanes.push(TenantId(1), request(1, 1, limits::ENTRY_BYTES_TARGET * 4));
        for i in 0..40 {
            lanes.push(TenantId(2), request(10 + i, 2, 8 << 10));
        }
        let taken = take(&mut lanes, 100);
        let at = taken.iter().position(|(tenant, _)| *tenant == 1).expect("its turn");
        // Sixteen turns save up for it; the other moves two requests a turn meanwhile.
        assert!((28..=34).contains(&at), "{at}");
        assert_eq!(taken.len(), 41);
    }

    #[test]
    fn a_withdrawn_one_is_late_when_its_turn_comes() {
        let mut lanes = Lanes::default();
        lanes.push(TenantId(1), request(1, 1, 100));
        lanes.push(TenantId(2), request(2, 2, 100));
        assert!(lanes.withdraw(2) && !lanes.withdraw(9));
        let mut open = OpenEntry::default();
        while let Next::Request(request) = lanes.next(|request| open.accepts(request)) {
            open.absorb(request);
        }
        let late: Vec<_> = open.drop_late(Instant::now()).iter().map(|waiter| waiter.ticket).collect();
        assert_eq!((late, open.count()), (vec![2], 1));
    }
}
