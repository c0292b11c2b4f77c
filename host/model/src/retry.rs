//! The default retry table: what the `backoff` plugin answers, and what the host uses where no plugin does.

/// Delays before retry 1, 2, … 16, in ms. `PROMISES.md`, Retry table (RocketMQ's levels 3 to 18).
pub const TABLE_MS: [u64; 16] = [
    10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000, 600_000, 1_200_000,
    1_800_000, 3_600_000, 7_200_000,
];

/// Milliseconds until the next delivery after attempt `attempt` (from 1) ended badly; the last step repeats.
#[must_use]
pub fn delay_ms(attempt: u16, time_scale: f64) -> u64 {
    let step = usize::from(attempt.max(1) - 1).min(TABLE_MS.len() - 1);
    (TABLE_MS[step] as f64 * time_scale).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_the_last_repeats() {
        assert_eq!(delay_ms(1, 1.0), 10_000);
        assert_eq!(delay_ms(16, 1.0), 7_200_000);
        assert_eq!(delay_ms(17, 1.0), 7_200_000);
        assert_eq!(delay_ms(2, 0.001), 30);
    }
}
