//! The values that numbers on the command line and in the environment may have. A range is wide
//! enough for any sensible use, and keeps times and memory within what can be computed with.

use std::fmt::Display;
use std::str::FromStr;

/// Reads a number.
///
/// # Errors
///
/// It is none, or not within both bounds; the error names them.
fn within<T>(text: &str, min: T, max: T) -> Result<T, String>
where
    T: Copy + FromStr + PartialOrd + Display,
{
    match text.trim().parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("it is no number from {min} to {max}")),
    }
}

/// Declares the functions that read numbers of one range each.
macro_rules! ranges {
    ($($(#[$about:meta])* $name:ident: $type:ty = $min:expr, $max:expr;)*) => {
        $(
            $(#[$about])*
            ///
            /// # Errors
            ///
            /// The text is no number of that range.
            pub(crate) fn $name(text: &str) -> Result<$type, String> {
                within(text, $min, $max)
            }
        )*
    };
}

ranges! {
    /// A core: as many as a set of them can have.
    core: usize = 0, 1023;
    /// A process of Linux.
    process: u32 = 1, 4_194_304;
    /// A port that can be connected to.
    port: u16 = 1, u16::MAX;
    /// A time without any progress, in ms: up to a day.
    timeout_ms: u64 = 1, 86_400_000;
    /// The time between two lines of progress, in ms.
    log_interval_ms: u64 = 0, 86_400_000;
    /// Events of a run.
    events: u64 = 1, 1_000_000_000_000_000;
    /// Events that are sent out of order.
    batch: u64 = 1, 1_048_576;
    /// Users of whom only some connect.
    users: u64 = 1, 1_073_741_824;
    /// Clients that connect.
    clients: usize = 1, 1_048_576;
    /// Clients of a soak: what each must receive is kept for two seconds.
    steady_clients: u64 = 1, 10_000;
    /// Sources at once.
    sources: usize = 1, 1024;
    /// A seed, negative or not.
    seed: i128 = i64::MIN as i128, u64::MAX as i128;
    /// A seed of a soak.
    soak_seed: u64 = 0, u64::MAX;
    /// Events a second.
    rate: f64 = 0.001, 10_000_000.0;
    /// Events at once.
    burst: u64 = 0, 1_000_000;
    /// Visits a second.
    visits: f64 = 0.0, 1000.0;
    /// A recording's pace.
    speed: f64 = 0.001, 1_000_000.0;
    /// Seconds, up to a day.
    seconds: f64 = 0.001, 86_400.0;
    /// Minutes, up to a day.
    minutes: f64 = 0.001, 1440.0;
    /// Seconds between two rows: they are kept.
    row_seconds: f64 = 0.1, 86_400.0;
    /// Milliseconds, up to a day.
    millis: f64 = 0.001, 86_400_000.0;
    /// Microseconds, as far as latencies are recorded.
    micros: f64 = 0.001, 60_000_000.0;
    /// The identify timeouts that a server may have, in ms.
    identify_timeout_ms: u64 = 10, 3_600_000;
    /// Runs of each.
    runs: usize = 1, 1000;
    /// A sequence.
    sequence: u64 = 0, u64::MAX - 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_within() {
        assert_eq!([core("0"), core("1023")], [Ok(0), Ok(1023)]);
        assert_eq!(core("1024"), Err("it is no number from 0 to 1023".to_owned()));
        assert_eq!(seed("-1"), Ok(-1));
        assert_eq!(rate("1e7"), Ok(1e7));
        for text in ["", "x", "nan", "inf", "-0.1", "1e-300", "1e300"] {
            assert!(rate(text).unwrap_err().contains("from 0.001 to 10000000"), "{text}");
        }
    }
}
