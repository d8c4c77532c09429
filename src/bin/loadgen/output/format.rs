//! Numbers as text.

/// Formats a number with three significant digits and an SI prefix: `7.51 M`.
pub(crate) fn format_si(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// Formats microseconds with three significant digits and a fitting unit: `1.48 ms`.
pub(crate) fn format_micros(micros: f64) -> String {
    match micros {
        us if !us.is_finite() => "–".to_owned(),
        us if us >= 999_500.0 => format!("{} s", three_digits(us / 1e6)),
        us if us >= 999.5 => format!("{} ms", three_digits(us / 1e3)),
        us => format!("{} µs", three_digits(us)),
    }
}

/// Formats bytes with three significant digits: `5.20 MB`, of powers of ten.
pub(crate) fn format_bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1e9 => format!("{} GB", three_digits(b / 1e9)),
        b if b >= 1e6 => format!("{} MB", three_digits(b / 1e6)),
        b if b >= 1e3 => format!("{} kB", three_digits(b / 1e3)),
        b => format!("{b:.0} B"),
    }
}

/// Formats seconds: `0.078 s`, `12.5 s`, `30 min`.
pub(crate) fn format_seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 600.0 => format!("{} min", three_digits(s / 60.0)),
        s if s >= 10.0 => format!("{s:.1} s"),
        s => format!("{s:.3} s"),
    }
}

/// Formats a whole number in groups of three digits: `1,000,000`.
pub(crate) fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn three_digits(number: f64) -> String {
    let digits = match number.abs() {
        n if n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_si_prefixes() {
        assert_eq!(format_si(999.4), "999");
        assert_eq!(format_si(12_345.0), "12.3 k");
        assert_eq!(format_si(7_512_345.0), "7.51 M");
        assert_eq!(format_si(3.5e9), "3.50 G");
    }

    #[test]
    fn times_and_sizes_have_a_fitting_unit() {
        let times = [0.5, 12.34, 999.6, 1480.0, 2_020_000.0].map(format_micros);
        assert_eq!(times, ["0.50 µs", "12.3 µs", "1.00 ms", "1.48 ms", "2.02 s"]);
        assert_eq!(format_micros(f64::NAN), "–");
        let sizes = [341.0, 65_536.0, 5_200_000.0, 3e9].map(format_bytes);
        assert_eq!(sizes, ["341 B", "65.5 kB", "5.20 MB", "3.00 GB"]);
        assert_eq!([0.0781, 12.5, 1800.0].map(format_seconds), ["0.078 s", "12.5 s", "30.0 min"]);
    }

    #[test]
    fn counts_are_grouped() {
        let counts = [0, 999, 1000, 1_234_567].map(format_count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
    }
}
