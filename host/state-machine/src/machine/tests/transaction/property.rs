//! Any sequence of words about transactions, against what it should come to.

use proptest::prelude::*;

use super::*;

/// What someone says about a transaction, and when.
#[derive(Clone, Debug)]
enum Word {
    Prepare(Vec<u16>),
    Commit(usize, bool),
    Rollback(usize, bool),
    Check(usize, u16),
    Expire(usize),
    Pass(u64),
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        3 => prop::collection::vec(0_u16..2, 1..4).prop_map(Word::Prepare),
        4 => (0_usize..6, prop::bool::weighted(0.2)).prop_map(|(of, operator)| Word::Commit(of, operator)),
        3 => (0_usize..6, prop::bool::weighted(0.2)).prop_map(|(of, operator)| Word::Rollback(of, operator)),
        3 => (0_usize..6, 1_u16..4).prop_map(|(of, attempt)| Word::Check(of, attempt)),
        3 => (0_usize..6).prop_map(Word::Expire),
        3 => prop::sample::select(vec![1, 6_000, 30_000]).prop_map(Word::Pass),
    ]
}

proptest! {
    /// A small reference: the first word counts, checks come in turn, and exactly what was committed is visible, once.
    #[test]
    fn exactly_the_committed_are_visible_once(words in prop::collection::vec(word(), 1..60)) {
        struct Known { place: Place, parts: u64, state: TransactionState, attempt: u16, due: u64 }
        let mut shard = Shard::with_group();
        let mut known: Vec<Known> = Vec::new();
        let mut expected = 0;
        for word in words {
            match word {
                Word::Prepare(queues) => {
                    let place = shard.prepare(&ask(&queues));
                    let due = shard.now.0 + CHECK.after_ms;
                    let parts = queues.len() as u64;
                    known.push(Known { place, parts, state: TransactionState::Prepared, attempt: 0, due });
                }
                Word::Commit(of, operator) | Word::Rollback(of, operator) if of < known.len() => {
                    let by = if operator { ResolvedBy::Operator } else { PRODUCER };
                    let one = &mut known[of];
                    let commit = matches!(word, Word::Commit(..));
                    let unit = if commit { shard.commit_of(one.place, by) } else { vec![resolve(one.place, ROLLBACK, by)] };
                    let outcome = shard.entry(&unit).outcomes.remove(0);
                    let wanted = if commit { TransactionState::Committed } else { TransactionState::RolledBack };
                    let open = one.state == TransactionState::Prepared || (operator && one.state == TransactionState::Expired);
                    if open {
                        expected += if commit { one.parts } else { 0 };
                        one.state = wanted;
                        prop_assert_eq!(outcome, done(one.place, wanted, false));
                    } else if one.state == wanted {
                        prop_assert_eq!(outcome, done(one.place, wanted, true));
                    } else {
                        prop_assert_eq!(outcome, refused(Refusal::TransactionResolved(one.state)));
                    }
                }
                Word::Check(of, attempt) if of < known.len() => {
                    let now = shard.now.0;
                    let one = &mut known[of];
                    let outcome = shard.one(check(one.place, attempt, CHECK.interval_ms));
                    if one.state != TransactionState::Prepared {
                        prop_assert_eq!(outcome, refused(Refusal::TransactionResolved(one.state)));
                    } else if attempt <= CHECK.max && (attempt == one.attempt || (attempt == one.attempt + 1 && one.due <= now)) {
                        (one.attempt, one.due) = (attempt, now + CHECK.interval_ms);
                        prop_assert_eq!(outcome, Outcome::Checked);
                    } else {
                        prop_assert_eq!(outcome, refused(Refusal::NotDue));
                    }
                }
                Word::Expire(of) if of < known.len() => {
                    let now = shard.now.0;
                    let one = &mut known[of];
                    let outcome = shard.one(resolve(one.place, EXPIRE, ResolvedBy::Timetable));
                    match one.state {
                        TransactionState::Prepared if one.attempt == CHECK.max && one.due <= now => {
                            one.state = TransactionState::Expired;
                            prop_assert_eq!(outcome, done(one.place, TransactionState::Expired, false));
                        }
                        TransactionState::Prepared => prop_assert_eq!(outcome, refused(Refusal::NotDue)),
                        TransactionState::Expired => prop_assert_eq!(outcome, done(one.place, TransactionState::Expired, true)),
                        state => prop_assert_eq!(outcome, refused(Refusal::TransactionResolved(state))),
                    }
                }
                Word::Pass(ms) => shard.now.0 += ms,
                _ => {}
            }
            prop_assert_eq!(shard.latest().iter().sum::<u64>(), expected);
        }
        if !known.is_empty() {
            shard.check_transactions();
        }
    }
}
