//! What the judgements came to, and what they should have come to.

use serde::Serialize;

use super::{
    CHECK_BACK, DEDUP, DELAY_MS, ORDER_COUNT, RETRY, TRANSACTION_COUNT, is_fatal, is_passing, is_settled, is_silent,
};

/// What the judgements came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in crate::demo) struct Judgements {
    /// Orders published, and again: stored and found to be there already.
    pub(in crate::demo) stored: u64,
    pub(in crate::demo) duplicates: u64,
    /// Orders shipped at the first attempt, at a later one, and given up.
    pub(in crate::demo) shipped: u64,
    pub(in crate::demo) shipped_later: u64,
    pub(in crate::demo) dead: u64,
    /// Dead letters given to the group again, and shipped then.
    pub(in crate::demo) redriven: u64,
    /// Transactions ended by their producers and by the plugin.
    pub(in crate::demo) committed: u64,
    pub(in crate::demo) committed_by_plugin: u64,
    pub(in crate::demo) rolled_back_by_plugin: u64,
    /// Payments that a consumer sees.
    pub(in crate::demo) payments: u64,
    /// Delayed messages that came, and how much later than asked for.
    pub(in crate::demo) delayed: u64,
    pub(in crate::demo) late_ms: u64,
}

impl Judgements {
    /// What the orders and payments themselves say.
    pub(in crate::demo) fn expected() -> Self {
        let fatal = (0..ORDER_COUNT).filter(|n| is_fatal(*n)).count() as u64;
        let passing = (0..ORDER_COUNT).filter(|n| is_passing(*n)).count() as u64;
        let (silent, told): (Vec<u64>, Vec<u64>) = (0..TRANSACTION_COUNT).partition(|n| is_silent(*n));
        let settled = silent.iter().filter(|n| is_settled(**n)).count() as u64;
        Self {
            stored: ORDER_COUNT,
            duplicates: ORDER_COUNT / 2,
            shipped: ORDER_COUNT - fatal - passing,
            shipped_later: passing,
            dead: fatal,
            redriven: fatal,
            committed: told.len() as u64,
            committed_by_plugin: settled,
            rolled_back_by_plugin: silent.len() as u64 - settled,
            payments: told.len() as u64 + settled,
            delayed: 1,
            late_ms: 0,
        }
    }

    /// What is not as expected.
    pub(in crate::demo) fn wrong(&self) -> Vec<String> {
        let expected = Self::expected();
        let counts = [
            ("orders stored", self.stored, expected.stored),
            ("duplicates found", self.duplicates, expected.duplicates),
            ("orders shipped at once", self.shipped, expected.shipped),
            ("orders shipped later", self.shipped_later, expected.shipped_later),
            ("dead letters", self.dead, expected.dead),
            ("dead letters shipped again", self.redriven, expected.redriven),
            ("payments committed by their producers", self.committed, expected.committed),
            ("payments committed by the plugin", self.committed_by_plugin, expected.committed_by_plugin),
            ("payments rolled back by the plugin", self.rolled_back_by_plugin, expected.rolled_back_by_plugin),
            ("payments visible", self.payments, expected.payments),
            ("delayed messages", self.delayed, expected.delayed),
        ];
        let wrong = counts.into_iter().filter(|(_, found, expected)| found != expected);
        wrong.map(|(what, found, expected)| format!("{what}: {found} instead of {expected}")).collect()
    }

    /// The lines of the report.
    pub(in crate::demo) fn text(&self) -> String {
        format!(
            "dedup      {DEDUP}: of {} publishes {} were stored, {} were there already\n\
             retry      {RETRY}: {} shipped at once, {} after a retry, {} given up at once and dead-lettered; {} of them shipped after a redrive\n\
             check-back {CHECK_BACK}: {} payments committed by their producers; of the silent ones {} committed and {} rolled back, as the ledger said\n\
             delay      asked for {DELAY_MS} ms, stored {} ms later than that\n",
            self.stored + self.duplicates,
            self.stored,
            self.duplicates,
            self.shipped,
            self.shipped_later,
            self.dead,
            self.redriven,
            self.committed,
            self.committed_by_plugin,
            self.rolled_back_by_plugin,
            self.late_ms,
        )
    }
}
