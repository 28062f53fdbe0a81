//! How long a backend that fails is left alone.

use std::time::Duration;

/// So many failures in a row open the circuit.
pub const CIRCUIT: u32 = 5;
const FIRST: Duration = Duration::from_millis(500);
const OPEN: Duration = Duration::from_secs(60);

/// The pause after the `failures`-th failure in a row. `jitter` in 0..1 spreads restarts of many
/// backends that fail together by up to a quarter.
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let base = if failures == 0 {
        Duration::ZERO
    } else if failures >= CIRCUIT {
        OPEN
    } else {
        FIRST * 2u32.pow(failures - 1)
    };
    base.mul_f64(1.0 + 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_then_opens() {
        let pauses: Vec<u128> = (0..7).map(|n| delay(n, 0.0).as_millis()).collect();
        assert_eq!(pauses, [0, 500, 1000, 2000, 4000, 60_000, 60_000]);
        assert_eq!(delay(1, 1.0).as_millis(), 625);
        assert_eq!(delay(1, f64::NAN.max(0.0)).as_millis(), 500);
    }
}
