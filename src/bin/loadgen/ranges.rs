//! Ranges of the numbers on the command line and in the environment. Each is wide enough for any
//! sensible use, and narrow enough that times and memory do not overflow.

use std::fmt::Display;
use std::str::FromStr;

/// Parses a number.
///
/// # Errors
///
/// The text is not a number between both bounds; the error names them.
fn within<T>(text: &str, min: T, max: T) -> Result<T, String>
where
    T: Copy + FromStr + PartialOrd + Display,
{
    match text.trim().parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from {min} to {max}")),
    }
}

/// Declares one parsing function per range.
macro_rules! ranges {
    ($($(#[$about:meta])* $name:ident: $type:ty = $min:expr, $max:expr;)*) => {
        $(
            $(#[$about])*
            ///
            /// # Errors
            ///
            /// The text is not a number in that range.
            pub(crate) fn $name(text: &str) -> Result<$type, String> {
                within(text, $min, $max)
            }
        )*
    };
}

ranges! {
    /// A core, up to the size of a CPU set.
    core: usize = 0, 1023;
    /// A Linux process id.
    process: u32 = 1, 4_194_304;
    /// A TCP port.
    port: u16 = 1, u16::MAX;
    /// A time without any progress, in ms: up to a day.
    timeout_ms: u64 = 1, 86_400_000;
    /// Time between two progress lines, in ms.
    log_interval_ms: u64 = 0, 86_400_000;
    /// Events per run.
    events: u64 = 1, 1_000_000_000_000_000;
    /// Events per shuffled batch.
    batch: u64 = 1, 1_048_576;
    /// Users in total.
    users: u64 = 1, 1_073_741_824;
    /// Connected clients.
    clients: usize = 1, 1_048_576;
    /// Persistent clients of a soak: two seconds of expected output are kept for each.
    steady_clients: u64 = 1, 10_000;
    /// Simultaneous sources.
    sources: usize = 1, 1024;
    /// A seed, negative or not.
    seed: i128 = i64::MIN as i128, u64::MAX as i128;
    /// A seed of a soak.
    soak_seed: u64 = 0, u64::MAX;
    /// Events per second.
    rate: f64 = 0.001, 10_000_000.0;
    /// Events per burst.
    burst: u64 = 0, 1_000_000;
    /// Churn clients per second.
    visits: f64 = 0.0, 1000.0;
    /// Factor of a recording's pace.
    speed: f64 = 0.001, 1_000_000.0;
    /// Seconds, up to a day.
    seconds: f64 = 0.001, 86_400.0;
    /// Minutes, up to a day.
    minutes: f64 = 0.001, 1440.0;
    /// Seconds between two rows; all rows are kept in memory.
    row_seconds: f64 = 0.1, 86_400.0;
    /// Milliseconds, up to a day.
    millis: f64 = 0.001, 86_400_000.0;
    /// Microseconds, up to the largest recorded latency.
    micros: f64 = 0.001, 60_000_000.0;
    /// Identify timeouts that a server accepts, in ms.
    identify_timeout_ms: u64 = 10, 3_600_000;
    /// Repetitions.
    runs: usize = 1, 1000;
    /// Percent of a value.
    tolerance: f64 = 0.0, 1000.0;
    /// A sequence.
    sequence: u64 = 0, u64::MAX - 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_within() {
        assert_eq!([core("0"), core("1023")], [Ok(0), Ok(1023)]);
        assert_eq!(core("1024"), Err("expected a number from 0 to 1023".to_owned()));
        assert_eq!(seed("-1"), Ok(-1));
        assert_eq!(rate("1e7"), Ok(1e7));
        for text in ["", "x", "nan", "inf", "-0.1", "1e-300", "1e300"] {
            assert!(rate(text).unwrap_err().contains("from 0.001 to 10000000"), "{text}");
        }
    }
}
