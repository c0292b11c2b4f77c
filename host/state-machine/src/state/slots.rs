//! The key slots of a topic: which queue takes the messages of an ordering key. `DESIGN.md` §5, Ordering keys.
//!
//! An ordering key hashes to one of 4,096 slots and the table says which queue has the slot. Slots are spread evenly:
//! no queue has two more than another. When a topic grows, as few slots as possible move, all of them to new queues,
//! and each move keeps the end of the old queue at that entry as its *barrier*: a group that keeps order by key takes
//! the slot from the new queue only once the old one is settled up to there.

use pointsman_model::{QueueId, QueueOffset, hash, limits};
use serde::{Deserialize, Serialize};

/// Slot → queue, and the barriers of the slots that moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotTable {
    queues: Vec<u16>,
    moves: Vec<SlotMove>,
}

/// A slot that went to another queue when its topic grew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotMove {
    /// The slot.
    pub slot: u16,
    /// The queue that had it.
    pub from: u16,
    /// The queue that took it.
    pub to: u16,
    /// End of `from` when it moved: the slot's messages in `from` lie below.
    pub barrier: u64,
}

impl SlotTable {
    /// Slots dealt to the queues of a new topic.
    #[must_use]
    pub fn new(queues: u16) -> Self {
        Self { queues: (0..limits::KEY_SLOTS).map(|slot| slot % queues.max(1)).collect(), moves: Vec::new() }
    }

    /// The queue of an ordering key.
    #[must_use]
    pub fn queue_of(&self, ordering_key: &str) -> QueueId {
        self.queue(hash::key_slot(ordering_key))
    }

    /// The queue of a slot.
    #[must_use]
    pub fn queue(&self, slot: u16) -> QueueId {
        QueueId(self.queues[usize::from(slot % limits::KEY_SLOTS)])
    }

    /// Where a slot was before, oldest first.
    pub fn moves(&self, slot: u16) -> impl Iterator<Item = &SlotMove> + '_ {
        self.moves.iter().filter(move |m| m.slot == slot)
    }

    /// True for a table that [`Self::new`] and growth can have made of so many queues.
    pub(crate) fn is_of(&self, queues: u16) -> bool {
        self.queues.len() == usize::from(limits::KEY_SLOTS) && self.queues.iter().all(|queue| *queue < queues)
    }

    /// Gives the queues from `old` to `new` their share; `end` tells the end of an old queue.
    pub(crate) fn grow(&mut self, old: u16, new: u16, end: impl Fn(QueueId) -> QueueOffset) {
        let mut held = vec![0_u16; usize::from(new)];
        for queue in &self.queues {
            held[usize::from(*queue)] += 1;
        }
        let quota = quotas(&held, old);
        let mut takers = (old..new).filter(|queue| quota[usize::from(*queue)] > 0);
        let mut taker = takers.next();
        for slot in (0..limits::KEY_SLOTS).rev() {
            let from = self.queues[usize::from(slot)];
            if held[usize::from(from)] <= quota[usize::from(from)] {
                continue;
            }
            let Some(to) = taker else { return };
            held[usize::from(from)] -= 1;
            held[usize::from(to)] += 1;
            self.queues[usize::from(slot)] = to;
            self.moves.push(SlotMove { slot, from, to, barrier: end(QueueId(from)).0 });
            if held[usize::from(to)] == quota[usize::from(to)] {
                taker = takers.next();
            }
        }
    }
}

/// How many slots each queue shall have: an even share, the odd ones staying with old queues where that saves a move.
fn quotas(held: &[u16], old: u16) -> Vec<u16> {
    let queues = held.len() as u16;
    let share = limits::KEY_SLOTS / queues;
    let mut odd = limits::KEY_SLOTS % queues;
    let mut quota = vec![share; held.len()];
    for (queue, quota) in quota.iter_mut().enumerate() {
        if odd > 0 && (queue >= usize::from(old) || held[queue] > share) {
            *quota += 1;
            odd -= 1;
        }
    }
    quota
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check(table: &SlotTable, queues: u16) {
        let mut held = vec![0_u32; usize::from(queues)];
        (0..limits::KEY_SLOTS).for_each(|slot| held[usize::from(table.queue(slot).0)] += 1);
        let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
        assert!(most - least <= 1, "{queues} queues hold {held:?}");
        assert!(table.is_of(queues));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn growth_is_even_moves_little_and_keeps_barriers(
            first in prop_oneof![1_u16..9, 1..=limits::QUEUES_MAX],
            steps in prop::collection::vec(prop_oneof![1_u16..4, 1_u16..400], 0..6),
        ) {
            let mut table = SlotTable::new(first);
            let mut queues = first;
            check(&table, queues);
            for step in steps {
                let next = (queues + step).min(limits::QUEUES_MAX);
                let before = table.clone();
                table.grow(queues, next, |queue| QueueOffset(1_000 + u64::from(queue.0)));
                check(&table, next);
                prop_assert!(table.moves.starts_with(&before.moves));
                let moved: BTreeMap<u16, SlotMove> =
                    table.moves[before.moves.len()..].iter().map(|m| (m.slot, *m)).collect();
                for slot in 0..limits::KEY_SLOTS {
                    let (from, to) = (before.queue(slot).0, table.queue(slot).0);
                    prop_assert!(from == to || to >= queues, "slots move to new queues alone");
                    let barrier = 1_000 + u64::from(from);
                    let expected = (from != to).then_some(SlotMove { slot, from, to, barrier });
                    prop_assert_eq!(moved.get(&slot).copied(), expected);
                }
                queues = next;
            }
        }
    }

    #[test]
    fn a_slot_that_moved_twice_tells_both_moves() {
        let mut table = SlotTable::new(1);
        table.grow(1, 2, |_| QueueOffset(10));
        table.grow(2, 1_024, |_| QueueOffset(20));
        let twice = (0..limits::KEY_SLOTS).find(|slot| table.moves(*slot).count() == 2).unwrap();
        let moves: Vec<_> = table.moves(twice).map(|m| (m.from, m.barrier)).collect();
        assert_eq!(moves, [(0, 10), (1, 20)]);
    }

    #[test]
    fn an_ordering_key_goes_to_the_queue_of_its_slot() {
        let table = SlotTable::new(4);
        for key in ["a", "customer-17", "ü"] {
            assert_eq!(table.queue_of(key).0, hash::key_slot(key) % 4);
        }
    }
}
