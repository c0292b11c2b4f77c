//! Seeded bugs: each must make the oracle cry, or the crash tests prove nothing.

use std::io;

use super::crash::{EFFORT, Effort, Outcome, faults, setting};
use super::decay;
use super::oracle::Setting;
use crate::disk::sim::{Call, Fault, Injection};
use crate::log::Mutant;

fn with(mutant: Mutant, seed: u64) -> Setting {
    Setting { mutant: Some(mutant), ..setting(seed) }
}

/// Runs workloads until one shows a violation that says `symptom`.
fn check(symptom: &str, mut explore: impl FnMut(&mut Outcome, u64)) {
    let mut outcome = Outcome::default();
    for seed in 0..16 {
        explore(&mut outcome, seed);
        if outcome.violations.iter().any(|violation| violation.contains(symptom)) {
            return;
        }
    }
    panic!("{} states and no violation says {symptom:?}: {:#?}", outcome.states, outcome.violations);
}

fn check_plain(mutant: Mutant, symptom: &str) {
    check(symptom, |outcome, seed| outcome.explore(seed, &with(mutant, seed), EFFORT));
}

fn always(call: Call, path_contains: &'static str, fault: Fault) -> Injection {
    Injection { call, path_contains, skip: 0, times: u64::MAX, fault }
}

#[test]
fn an_ack_before_the_sync_is_found() {
    check_plain(Mutant::AckBeforeSync, "are lost though promised");
}

#[test]
fn a_vote_that_is_not_synced_is_found() {
    let lie = [always(Call::Sync, "vote", Fault::Lie)];
    check("promised Some(Vote", |outcome, seed| outcome.explore_faults(seed, &setting(seed), EFFORT, &lie));
}

#[test]
fn a_base_that_is_not_synced_is_found() {
    let lie = [always(Call::Sync, "base", Fault::Lie)];
    check("purged None, promised", |outcome, seed| outcome.explore_faults(seed, &setting(seed), EFFORT, &lie));
}

#[test]
fn a_directory_that_is_not_synced_is_found() {
    check_plain(Mutant::DirectoryNotSynced, "are lost though promised");
}

#[test]
fn an_ignored_sync_error_is_found() {
    let error = Fault::Error(io::ErrorKind::Other);
    let failing = [Injection { call: Call::Sync, path_contains: "spare", skip: 4, times: 3, fault: error }];
    let explore = |outcome: &mut Outcome, seed| {
        outcome.explore_faults(seed, &with(Mutant::SyncErrorIgnored, seed), EFFORT, &failing);
    };
    check("are lost though promised", explore);
}

#[test]
fn a_watermark_ahead_of_its_sync_is_found() {
    check_plain(Mutant::WatermarkTooEarly, "takes a crash for damage");
}

#[test]
fn stale_frames_behind_a_cut_are_found() {
    let effort = Effort { second_every: 4, violations_max: 10_000, ..EFFORT };
    check("instead of", |outcome, seed| outcome.explore(seed, &with(Mutant::NoZeroingAfterCut, seed), effort));
}

#[test]
fn a_recovery_that_does_not_sync_is_found() {
    let explore = |outcome: &mut Outcome, seed| {
        outcome.explore_faults(seed, &with(Mutant::RecoveryNotSynced, seed), EFFORT, &faults(1));
    };
    check("are lost though promised", explore);
}

#[test]
fn a_recovery_that_trusts_the_page_cache_is_found() {
    let explore = |outcome: &mut Outcome, seed| {
        outcome.explore_faults(seed, &with(Mutant::RecoveryTrustsCache, seed), EFFORT, &faults(2));
    };
    check("damage", explore);
}

#[test]
fn an_unlink_before_the_base_is_found() {
    check_plain(Mutant::UnlinkBeforeBase, "a segment is missing");
}

#[test]
fn a_cut_below_the_watermark_is_found() {
    let silent = (0..8).flat_map(|seed| decay::flip_everything(seed, &with(Mutant::CutBelowWatermark, seed)).silent);
    assert!(silent.count() > 0, "no flipped bit was cut silently");
}
