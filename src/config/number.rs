//! Whole numbers with separators, exponents and units.

/// A unit: its name in lower case and its factor.
pub(super) type Unit = (&'static str, u64);

/// Units of sizes: powers of 1024, except those that end with `B` alone, which are powers of 1000.
pub(super) const BYTES: &[Unit] = &[
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

/// Units of durations, in milliseconds.
pub(super) const MILLIS: &[Unit] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The maximum number of digits, fraction and exponent included. Longer numbers exceed 64 bits.
const MAX_DIGITS: usize = 25;

/// Parses a whole number such as `65536`, `1_000_000`, `1e6`, `64KiB` or `1.5s`. A number without a unit
/// has the factor 1. Returns `None` for a fraction of the smallest unit.
pub(super) fn parse(text: &str, units: &[Unit]) -> Option<u64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '_' || c == '.'));
    let (mantissa, rest) = text.split_at(end.unwrap_or(text.len()));
    let (exponent, unit) = split_exponent(rest)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let (whole, fraction) = (digits(whole)?, digits(fraction)?);
    if whole.len() + fraction.len() + exponent > MAX_DIGITS {
        return None;
    }
    let number: u128 = format!("{whole}{fraction}").parse().ok()?;
    // At most 25 digits times 2^40 fits 128 bits.
    let scaled = number * 10_u128.pow(exponent as u32) * u128::from(factor(unit, units)?);
    let divisor = 10_u128.pow(fraction.len() as u32);
    let is_whole = scaled.is_multiple_of(divisor);
    is_whole.then(|| u64::try_from(scaled / divisor).ok()).flatten()
}

/// Splits an exponent such as `e6` or `e+6` off the unit behind it.
fn split_exponent(text: &str) -> Option<(usize, &str)> {
    let Some(rest) = text.strip_prefix(['e', 'E']) else { return Some((0, text)) };
    let rest = rest.strip_prefix('+').unwrap_or(rest);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (exponent, unit) = rest.split_at(end);
    Some((exponent.parse().ok()?, unit))
}

/// Removes the separators between digits. Returns `None` without digits, or for a separator elsewhere.
fn digits(text: &str) -> Option<String> {
    let groups = text.split('_').map(|group| {
        (!group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit())).then_some(group)
    });
    groups.collect()
}

/// Returns the factor of a unit. A space may precede it.
fn factor(unit: &str, units: &[Unit]) -> Option<u64> {
    if unit.is_empty() {
        return Some(1);
    }
    let name = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    units.iter().find(|(known, _)| *known == name).map(|&(_, factor)| factor)
}

/// Formats a size with the largest binary unit that divides it.
pub(super) fn format_bytes(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|&(_, factor)| bytes > 0 && bytes.is_multiple_of(factor));
    unit.map_or_else(|| bytes.to_string(), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Formats a number of milliseconds with the largest unit that divides it.
pub(super) fn format_millis(millis: u64) -> String {
    let units = [("h", 3_600_000), ("s", 1000)];
    let unit = units.into_iter().find(|&(_, factor)| millis > 0 && millis.is_multiple_of(factor));
    let plain = || if millis == 0 { "0".to_owned() } else { format!("{millis}ms") };
    unit.map_or_else(plain, |(name, factor)| format!("{}{name}", millis / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        for (text, number) in [
            ("0", 0),
            ("007", 7),
            ("18446744073709551615", u64::MAX),
            ("1_000_000", 1_000_000),
            ("1e6", 1_000_000),
            ("1E+6", 1_000_000),
            ("1.5e3", 1500),
            ("1000000.0", 1_000_000),
            ("18446744073709551.615e3", u64::MAX),
        ] {
            assert_eq!(parse(text, &[]), Some(number), "{text}");
        }
    }

    #[test]
    fn units_scale() {
        for (text, units, number) in [
            ("64k", BYTES, 65_536),
            ("64K", BYTES, 65_536),
            ("64KiB", BYTES, 65_536),
            ("64kB", BYTES, 64_000),
            ("4 MiB", BYTES, 4 << 20),
            ("1.5GiB", BYTES, 3 << 29),
            ("1e3k", BYTES, 1_024_000),
            ("1TiB", BYTES, 1 << 40),
            ("200ms", MILLIS, 200),
            ("5s", MILLIS, 5000),
            ("0.25s", MILLIS, 250),
            ("2m", MILLIS, 120_000),
            ("2min", MILLIS, 120_000),
            ("1h", MILLIS, 3_600_000),
            ("1d", MILLIS, 86_400_000),
        ] {
            assert_eq!(parse(text, units), Some(number), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_whole_number() {
        for text in [
            "",
            " ",
            "_",
            "1_",
            "_1",
            "1__0",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.2.3",
            "1e",
            "e6",
            "1e-6",
            "1.5",
            "1.0005s",
            "5x",
            "5 ",
            " 5",
            "5  s",
            "1e99999999999999999999",
            "1e25",
            "0x10",
            "s",
            "18446744073709551616",
            "18014398509481984k",
            "٣",
        ] {
            assert_eq!(parse(text, MILLIS), None, "{text:?}");
            assert_eq!(parse(text, &[]), None, "{text:?}");
        }
    }

    #[test]
    fn every_unit_is_found_by_its_name() {
        for (name, factor) in BYTES.iter().chain(MILLIS) {
            let units = if BYTES.contains(&(name, *factor)) { BYTES } else { MILLIS };
            assert_eq!(parse(&format!("3{name}"), units), Some(3 * factor));
        }
    }

    #[test]
    fn formatted_values_parse_back() {
        for value in [0, 1, 10, 1000, 1024, 4096, 65_536, 4 << 20, 1 << 32, 3_600_000, 86_400_000] {
            assert_eq!(parse(&format_bytes(value), BYTES), Some(value));
            assert_eq!(parse(&format_millis(value), MILLIS), Some(value));
        }
        assert_eq!(format_bytes(4 << 20), "4MiB");
        assert_eq!(format_millis(30_000), "30s");
        assert_eq!(format_millis(10), "10ms");
    }
}
