//! Ranges of the numbers on the command line and in the environment. Each is wide enough for any
//! sensible use, and narrow enough that times and memory do not overflow.

use std::fmt::Display;

use log::LevelFilter;

use crate::cli::quantity::{Number, Quantity, Unit};

/// Parses a number in `unit`.
///
/// # Errors
///
/// The text is not a number between both bounds; the error names them.
fn within<T>(text: &str, unit: Unit, min: T, max: T) -> Result<T, String>
where
    T: Copy + Number + PartialOrd + Display,
{
    match Quantity::parse(text, unit).and_then(T::from_quantity) {
        Some(number) if (min..=max).contains(&number) => Ok(number),
        _ => {
            let (what, example) = unit.description();
            Err(format!("expected {what} from {min} to {max}{example}"))
        }
    }
}

/// Declares one parsing function per range.
macro_rules! ranges {
    ($($(#[$about:meta])* $name:ident: $type:ty = $min:expr, $max:expr, $unit:ident;)*) => {
        $(
            $(#[$about])*
            ///
            /// # Errors
            ///
            /// The text is not a number in that range.
            pub(crate) fn $name(text: &str) -> Result<$type, String> {
                within(text, Unit::$unit, $min, $max)
            }
        )*
    };
}

ranges! {
    /// A CPU, up to the size of a CPU set.
    cpu: usize = 0, 1023, Plain;
    /// A Linux process id.
    process: u32 = 1, 4_194_304, Plain;
    /// A TCP port.
    port: u16 = 1, u16::MAX, Plain;
    /// A time without any progress, in ms: up to a day.
    timeout_ms: u64 = 1, 86_400_000, Milliseconds;
    /// Time between two progress lines, in ms.
    log_interval_ms: u64 = 0, 86_400_000, Milliseconds;
    /// Events per run.
    events: u64 = 1, 1_000_000_000_000_000, Count;
    /// Events per shuffled batch.
    batch: u64 = 1, 1_048_576, Count;
    /// Users in total.
    users: u64 = 1, 1_073_741_824, Count;
    /// Connected clients.
    clients: usize = 1, 1_048_576, Count;
    /// Persistent clients of a soak: two seconds of expected output are kept for each.
    steady_clients: u64 = 1, 10_000, Count;
    /// Simultaneous sources.
    sources: usize = 1, 1024, Count;
    /// A seed, negative or not.
    seed: i128 = i64::MIN as i128, u64::MAX as i128, Plain;
    /// A seed of a soak.
    soak_seed: u64 = 0, u64::MAX, Plain;
    /// Events per second.
    rate: f64 = 0.001, 10_000_000.0, Count;
    /// Events per burst.
    burst: u64 = 0, 1_000_000, Count;
    /// Churn clients per second.
    visits: f64 = 0.0, 1000.0, Count;
    /// Factor of a recording's pace.
    speed: f64 = 0.001, 1_000_000.0, Count;
    /// Seconds, up to a day.
    seconds: f64 = 0.001, 86_400.0, Seconds;
    /// Minutes, up to a day.
    minutes: f64 = 0.001, 1440.0, Minutes;
    /// Seconds between two rows; all rows are kept in memory.
    row_seconds: f64 = 0.1, 86_400.0, Seconds;
    /// Milliseconds, up to a day.
    millis: f64 = 0.001, 86_400_000.0, Milliseconds;
    /// Microseconds, up to the largest recorded latency.
    micros: f64 = 0.001, 60_000_000.0, Microseconds;
    /// Identify timeouts that a server accepts, in ms.
    identify_timeout_ms: u64 = 10, 3_600_000, Milliseconds;
    /// Restarts of a server.
    restarts: u64 = 1, 1_000_000, Count;
    /// Repetitions.
    runs: usize = 1, 1000, Count;
    /// Percent of a value.
    tolerance: f64 = 0.0, 1000.0, Count;
    /// A sequence.
    sequence: u64 = 0, u64::MAX - 1, Count;
}

/// Parses the name of a log level.
///
/// # Errors
///
/// There is no such level.
pub(crate) fn log_level(text: &str) -> Result<LevelFilter, String> {
    let expected = |_| "expected off, error, warn, info, debug or trace".to_owned();
    text.trim().parse().map_err(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_within() {
        assert_eq!([cpu("0"), cpu("1023")], [Ok(0), Ok(1023)]);
        assert_eq!(cpu("1024"), Err("expected a number from 0 to 1023".to_owned()));
        assert_eq!(seed("-1"), Ok(-1));
        assert_eq!(rate("1e7"), Ok(1e7));
        for text in ["", "x", "nan", "inf", "-0.1", "1e-300", "1e300"] {
            assert!(rate(text).unwrap_err().contains("from 0.001 to 10000000"), "{text}");
        }
    }
}
