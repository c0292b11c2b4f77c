//! What a group has settled in one queue: a floor and the offsets settled above it.
//!
//! Offsets above the floor are bits in blocks of 1,024, so that a row of 128 bytes holds one block. The form is
//! canonical: a block is there only if it has a set bit, and no bit at or below the floor is ever set. Hence two
//! cursors are equal exactly if the same offsets are settled.

use std::collections::BTreeMap;
use std::ops::Range;

use pointsman_model::QueueOffset;
use serde::{Deserialize, Serialize};

/// Offsets of a block.
const BLOCK_OFFSETS: u64 = 1_024;
const WORD_BITS: u64 = 64;
const WORDS: usize = (BLOCK_OFFSETS / WORD_BITS) as usize;
/// Bytes of a stored block.
pub(crate) const BLOCK_BYTES: usize = WORDS * 8;

type Block = [u64; WORDS];

/// Blocks changed since the last write, and whether each was there before.
pub(crate) type Touched = BTreeMap<u64, bool>;

/// What a group has settled in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    floor: u64,
    sought: Option<Sought>,
    blocks: BTreeMap<u64, Box<Block>>,
}

/// The last seek of a cursor. Leases given before it are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sought {
    /// The group's revision since then.
    pub revision: u64,
    /// The term of the seek: a lease of that term or an earlier one is adopted by no later leader.
    pub term: u64,
}

impl Cursor {
    /// A cursor with all below `floor` settled.
    #[must_use]
    pub fn at(floor: QueueOffset) -> Self {
        Self { floor: floor.0, sought: None, blocks: BTreeMap::new() }
    }

    /// The same, put there by a seek, or read from its row.
    pub(crate) fn sought_at(floor: QueueOffset, sought: Option<Sought>) -> Self {
        Self { sought, ..Self::at(floor) }
    }

    /// The last seek, if there was one.
    #[must_use]
    pub fn sought(&self) -> Option<Sought> {
        self.sought
    }

    /// The first offset that is not settled.
    #[must_use]
    pub fn floor(&self) -> QueueOffset {
        QueueOffset(self.floor)
    }

    /// True if the offset is settled.
    #[must_use]
    pub fn is_settled(&self, offset: QueueOffset) -> bool {
        offset.0 < self.floor || self.bit(offset.0)
    }

    /// The first offset at or after `from` that is not settled.
    #[must_use]
    pub fn next_unsettled(&self, from: QueueOffset) -> QueueOffset {
        let mut at = from.0.max(self.floor);
        loop {
            let Some(block) = self.blocks.get(&(at / BLOCK_OFFSETS)) else {
                return QueueOffset(at);
            };
            let run = u64::from((block[word_of(at)] >> (at % WORD_BITS)).trailing_ones());
            at += run;
            if run == 0 || !at.is_multiple_of(WORD_BITS) {
                return QueueOffset(at);
            }
        }
    }

    /// How many offsets above the floor are settled.
    #[must_use]
    pub fn settled_above_floor(&self) -> u64 {
        self.blocks.values().flat_map(|block| block.iter()).map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many offsets below `latest` are not settled.
    #[must_use]
    pub fn unsettled(&self, latest: QueueOffset) -> u64 {
        latest.0.saturating_sub(self.floor).saturating_sub(self.settled_above_floor())
    }

    /// Settles a range of offsets; those that are settled already stay so.
    pub(crate) fn settle(&mut self, range: Range<u64>, touched: &mut Touched) {
        let from = range.start.max(self.floor);
        if from >= range.end {
            return;
        }
        if from == self.floor {
            self.raise(range.end, touched);
        } else {
            self.set(from..range.end, touched);
        }
    }

    /// The stored form of a block, if it is there.
    pub(crate) fn block_bytes(&self, block: u64) -> Option<[u8; BLOCK_BYTES]> {
        let words = self.blocks.get(&block)?;
        let mut bytes = [0; BLOCK_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words.iter()) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Some(bytes)
    }

    /// Numbers of the blocks that are there.
    pub(crate) fn block_numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.blocks.keys().copied()
    }

    /// Puts a stored block in place.
    pub(crate) fn load_block(&mut self, block: u64, bytes: &[u8; BLOCK_BYTES]) {
        let mut words = Box::new([0; WORDS]);
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        self.blocks.insert(block, words);
    }

    fn bit(&self, offset: u64) -> bool {
        let block = self.blocks.get(&(offset / BLOCK_OFFSETS));
        block.is_some_and(|block| block[word_of(offset)] >> (offset % WORD_BITS) & 1 == 1)
    }

    /// Sets bits strictly above the floor.
    fn set(&mut self, range: Range<u64>, touched: &mut Touched) {
        let mut at = range.start;
        while at < range.end {
            let number = at / BLOCK_OFFSETS;
            let end = range.end.min((number + 1).saturating_mul(BLOCK_OFFSETS));
            touched.entry(number).or_insert_with(|| self.blocks.contains_key(&number));
            let block = self.blocks.entry(number).or_insert_with(|| Box::new([0; WORDS]));
            while at < end {
                let first = at % WORD_BITS;
                let bits = (end - at).min(WORD_BITS - first);
                block[word_of(at)] |= (u64::MAX >> (WORD_BITS - bits)) << first;
                at += bits;
            }
        }
    }

    /// Moves the floor to `to`, then over all that is settled from there, and forgets the bits below.
    fn raise(&mut self, to: u64, touched: &mut Touched) {
        self.floor = to;
        self.floor = self.next_unsettled(QueueOffset(to)).0;
        let floor_block = self.floor / BLOCK_OFFSETS;
        while let Some((&number, _)) = self.blocks.first_key_value() {
            if number >= floor_block {
                break;
            }
            touched.entry(number).or_insert(true);
            self.blocks.remove(&number);
        }
        let Some(block) = self.blocks.get_mut(&floor_block) else {
            return;
        };
        touched.entry(floor_block).or_insert(true);
        let word = word_of(self.floor);
        block[..word].fill(0);
        block[word] &= u64::MAX << (self.floor % WORD_BITS);
        if block.iter().all(|word| *word == 0) {
            self.blocks.remove(&floor_block);
        }
    }
}

/// The word of its block that holds an offset.
fn word_of(offset: u64) -> usize {
    (offset % BLOCK_OFFSETS / WORD_BITS) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a plain list: the same offsets, floor, counts, and rows that rebuild the same cursor.
        #[test]
        fn settles_like_a_list_of_bools(
            start in 0_usize..2_100,
            ranges in prop::collection::vec((0_usize..4_000, 1_usize..700), 1..40),
        ) {
            let mut cursor = Cursor::at(QueueOffset(start as u64));
            let mut model = [vec![true; start], vec![false; 5_000 - start]].concat();
            let mut rows: BTreeMap<u64, [u8; BLOCK_BYTES]> = BTreeMap::new();
            for (from, length) in ranges {
                let mut touched = Touched::new();
                cursor.settle(from as u64..(from + length) as u64, &mut touched);
                model[from..from + length].fill(true);
                for (block, existed) in touched {
                    prop_assert_eq!(existed, rows.contains_key(&block), "block {}", block);
                    match cursor.block_bytes(block) {
                        Some(bytes) => drop(rows.insert(block, bytes)),
                        None => drop(rows.remove(&block)),
                    }
                }
                let floor = model.iter().position(|settled| !settled).unwrap();
                prop_assert_eq!(cursor.floor(), QueueOffset(floor as u64));
                let above = model[floor..].iter().filter(|settled| **settled).count();
                prop_assert_eq!(cursor.settled_above_floor(), above as u64);
            }
            let mut next = model.len() as u64;
            for (offset, settled) in model.iter().enumerate().rev() {
                let offset = offset as u64;
                next = if *settled { next } else { offset };
                prop_assert_eq!(cursor.is_settled(QueueOffset(offset)), *settled, "{}", offset);
                prop_assert_eq!(cursor.next_unsettled(QueueOffset(offset)), QueueOffset(next));
            }
            let mut again = Cursor::at(cursor.floor());
            rows.iter().for_each(|(block, bytes)| again.load_block(*block, bytes));
            prop_assert_eq!(again, cursor);
        }
    }

    #[test]
    fn settling_in_order_leaves_no_block() {
        let mut cursor = Cursor::default();
        for offset in 0..5_000 {
            let mut touched = Touched::new();
            cursor.settle(offset..offset + 1, &mut touched);
            assert!(touched.is_empty(), "only the floor moves");
        }
        assert_eq!(cursor, Cursor::at(QueueOffset(5_000)));
        assert_eq!(cursor.unsettled(QueueOffset(5_003)), 3);
    }

    #[test]
    fn a_million_offsets_at_once_and_the_greatest_offset() {
        let mut cursor = Cursor::default();
        cursor.settle(5..1_000_000, &mut Touched::new());
        assert_eq!(cursor.floor(), QueueOffset(0));
        cursor.settle(0..5, &mut Touched::new());
        assert_eq!(cursor, Cursor::at(QueueOffset(1_000_000)));
        cursor.settle(u64::MAX - 2..u64::MAX, &mut Touched::new());
        assert!(cursor.is_settled(QueueOffset(u64::MAX - 1)));
    }
}
