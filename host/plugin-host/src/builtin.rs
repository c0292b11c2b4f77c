//! Components that come with the broker: built by `build.rs` from `plugins/`, embedded.

use std::sync::LazyLock;

use pointsman_model::judge::Kind;

use crate::Digest;

/// A component that comes with the broker.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name, without `builtin/`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its digest.
    pub digest: Digest,
    /// The component.
    pub bytes: &'static [u8],
}

macro_rules! embedded {
    ($($name:literal: $kind:ident),* $(,)?) => {
        vec![$(embed($name, Kind::$kind, include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")))),*]
    };
}

fn embed(name: &'static str, kind: Kind, bytes: &'static [u8]) -> Builtin {
    Builtin { name, version: env!("CARGO_PKG_VERSION"), kind, digest: Digest::of(bytes), bytes }
}

static BUILTINS: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    embedded![
        "tags": Filter,
        "hash": Selector,
        "key-window": Dedup,
        "fingerprint": Dedup,
        "backoff": Retry,
        "webhook": CheckBack,
    ]
});
static EXAMPLES: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    embedded![
        "by-event": Filter,
        "route-by-repository": Selector,
        "once-per-order": Dedup,
        "give-up-on-fatal": Retry,
        "ask-ledger": CheckBack,
    ]
});

/// The built-ins, used as `builtin/<name>`.
#[must_use]
pub fn builtins() -> &'static [Builtin] {
    &BUILTINS
}

/// The built-in of that name.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// The examples of `plugins/examples/`, which the demo uploads like anyone's.
#[must_use]
pub fn examples() -> &'static [Builtin] {
    &EXAMPLES
}

/// The fixtures of `plugins/fixtures/`, for tests: one component a world that does what its config says, and one
/// that imports what toolchains import, the third.
#[cfg(any(test, feature = "fixtures"))]
#[must_use]
pub fn fixtures() -> &'static [Builtin] {
    static FIXTURES: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
        embedded![
            "misbehave-filter": Filter,
            "misbehave-selector": Selector,
            "toolchain-filter": Filter,
            "misbehave-dedup": Dedup,
            "misbehave-retry": Retry,
            "misbehave-check-back": CheckBack,
        ]
    });
    &FIXTURES
}
