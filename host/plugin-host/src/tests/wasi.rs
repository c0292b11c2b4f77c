//! Imports that toolchains add by themselves.

use super::*;
use crate::inspect;

fn toolchain_filter() -> &'static Builtin {
    fixture("toolchain-filter")
}

#[test]
fn they_are_listed_and_warned_of() {
    let found = inspect(toolchain_filter().bytes).expect("a plugin");
    assert_eq!(found.kind, pointsman_model::judge::Kind::Filter);
    let expected = [
        "log",
        "wasi:cli/environment@0.2.6",
        "wasi:cli/exit@0.2.6",
        "wasi:cli/stdout@0.2.6",
        "wasi:clocks/wall-clock@0.2.6",
        "wasi:io/error@0.2.6",
        "wasi:io/streams@0.2.6",
        "wasi:random/insecure-seed@0.2.6",
        "wasi:random/random@0.2.6",
    ];
    assert_eq!(found.imports, expected);
    assert!(found.warnings[0].starts_with("8 WASI interfaces"), "{:?}", found.warnings);
}

#[test]
fn stubs_answer_and_what_they_cannot_do_traps() {
    let bench = Bench::new();
    let bound = bench.bind(toolchain_filter(), "{}");
    let trap = Verdict::Stopped(Failure::Trap);
    let tags = ["environment", "exit", "stdout", "clock", "seed", "random", "much-random", "other"];
    let verdicts = bench.filter(&bound, &tags);
    assert_eq!(verdicts, [YES, trap.clone(), YES, YES, YES, YES, trap, NO]);
    assert!(bound.logs().iter().all(|line| line.text == "hello" && line.level == 2));
    assert!(!bound.logs().is_empty());
}
