//! Log lines that anybody can cause from outside, or a misconfiguration every second, are few.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two different lines.
const OTHER: Duration = Duration::from_secs(1);
/// Between two that say the same.
const SAME: Duration = Duration::from_secs(60);

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<Option<(Instant, String)>>);

impl Complaints {
    /// Whether to say this now.
    pub(crate) fn may(&self, what: &str) -> bool {
        self.may_at(what, Instant::now())
    }

    fn may_at(&self, what: &str, now: Instant) -> bool {
        let mut last = self.0.lock();
        let may = last
            .as_ref()
            .is_none_or(|(then, said)| now.duration_since(*then) >= if said == what { SAME } else { OTHER });
        if may {
            *last = Some((now, what.to_owned()));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::{Complaints, OTHER, SAME};
    use std::time::{Duration, Instant};

    #[test]
    fn the_same_is_said_seldom_and_something_else_soon() {
        let (complaints, began) = (Complaints::default(), Instant::now());
        let check = |what: &str, after: Duration, says: bool| {
            assert_eq!(complaints.may_at(what, began + after), says, "{what} after {after:?}");
        };
        let little = Duration::from_millis(1);
        check("a", Duration::ZERO, true);
        check("a", SAME - little, false);
        check("a", SAME, true);
        check("b", SAME + OTHER - little, false);
        check("b", SAME + OTHER, true);
        check("a", SAME + OTHER * 2, true);
    }
}
