//! openraft's random numbers (election timeouts, first waits), from the seed of the run.

use std::cell::Cell;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's generators follow from a seed; `None` is as in production.
pub(crate) fn seed(seed: Option<u64>) {
    SEED.set(seed);
}

/// A new generator.
pub(crate) fn rng() -> SmallRng {
    match SEED.get() {
        Some(seed) => {
            SEED.set(Some(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1)));
            SmallRng::seed_from_u64(seed)
        }
        None => SmallRng::from_rng(&mut rand::rng()),
    }
}
