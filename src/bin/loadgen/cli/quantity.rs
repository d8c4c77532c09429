//! Numbers as people write them: `1_000_000`, `1e6`, `64k`, `5s`, `200ms`.
//!
//! Values are kept exact until they are converted, so that `18446744073709551615` and `0.1` mean
//! what they say.

/// What a number counts, and thereby the suffixes that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A name rather than an amount, such as a port: no suffixes.
    Plain,
    /// An amount: k, M and G are powers of 1000.
    Count,
    Microseconds,
    Milliseconds,
    Seconds,
    Minutes,
}

/// Suffixes of times, in nanoseconds.
const TIMES: [(&str, u128); 9] = [
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Suffixes of counts.
const COUNTS: [(&str, u128); 4] =
    [("k", 1000), ("K", 1000), ("M", 1_000_000), ("G", 1_000_000_000)];

impl Unit {
    /// Returns what a number without a suffix counts, and an example with one, for messages.
    pub(crate) fn description(self) -> (&'static str, &'static str) {
        match self {
            Unit::Plain | Unit::Count => ("a number", ""),
            Unit::Microseconds => ("µs", ", or a time such as 2ms"),
            Unit::Milliseconds => ("ms", ", or a time such as 5s"),
            Unit::Seconds => ("seconds", ", or a time such as 200ms"),
            Unit::Minutes => ("minutes", ", or a time such as 90s"),
        }
    }

    /// Returns the value of `suffix` and of no suffix, on a common scale.
    fn scale(self, suffix: &str) -> Option<(u128, u128)> {
        let (suffixes, own): (&[(&str, u128)], u128) = match self {
            Unit::Plain => (&[], 1),
            Unit::Count => (&COUNTS, 1),
            Unit::Microseconds => (&TIMES, 1000),
            Unit::Milliseconds => (&TIMES, 1_000_000),
            Unit::Seconds => (&TIMES, 1_000_000_000),
            Unit::Minutes => (&TIMES, 60_000_000_000),
        };
        if suffix.is_empty() {
            return Some((own, own));
        }
        suffixes.iter().find(|(name, _)| *name == suffix).map(|(_, scale)| (*scale, own))
    }
}

/// An exact number, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    is_negative: bool,
    numerator: u128,
    denominator: u128,
}

impl Quantity {
    /// Parses a number in `unit`. `None` if it is malformed, or needs more than 128 bits.
    pub(crate) fn parse(text: &str, unit: Unit) -> Option<Quantity> {
        let text = text.trim();
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (digits, text) = read_digits(text)?;
        let (fraction, text) = match text.strip_prefix('.') {
            Some(rest) => read_digits(rest)?,
            None => (String::new(), text),
        };
        let (exponent, suffix) = read_exponent(text)?;
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let amount: u128 = (digits + &fraction).parse().ok()?;
        let (scale, own) = unit.scale(suffix.trim_start())?;
        let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
        let (up, down) = if exponent < 0 { (1, power) } else { (power, 1) };
        Some(Quantity {
            is_negative,
            numerator: amount.checked_mul(scale)?.checked_mul(up)?,
            denominator: own.checked_mul(down)?,
        })
    }

    /// Returns the number if it is whole.
    fn to_integer(self) -> Option<i128> {
        if !self.numerator.is_multiple_of(self.denominator) {
            return None;
        }
        let amount = i128::try_from(self.numerator / self.denominator).ok()?;
        Some(if self.is_negative { -amount } else { amount })
    }
}

/// Splits off leading digits, which single underscores may separate.
fn read_digits(text: &str) -> Option<(String, &str)> {
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'_';
    let (digits, rest) = text.split_at(text.bytes().take_while(|byte| is_part(byte)).count());
    let is_valid = digits.split('_').all(|group| !group.is_empty());
    is_valid.then(|| (digits.replace('_', ""), rest))
}

/// Splits off an exponent, `e6`; 0 if there is none.
fn read_exponent(text: &str) -> Option<(i32, &str)> {
    let Some(rest) = text.strip_prefix(['e', 'E']) else { return Some((0, text)) };
    let sign = usize::from(rest.starts_with(['-', '+']));
    let digits = rest.bytes().skip(sign).take_while(u8::is_ascii_digit).count();
    let (exponent, rest) = rest.split_at(sign + digits);
    Some((exponent.parse().ok()?, rest))
}

/// A type of number on the command line.
pub(crate) trait Number: Sized {
    /// Converts; `None` if this type cannot hold the number.
    fn from_quantity(quantity: Quantity) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(
            impl Number for $integer {
                fn from_quantity(quantity: Quantity) -> Option<Self> {
                    quantity.to_integer()?.try_into().ok()
                }
            }
        )*
    };
}

integers!(u16, u32, u64, usize, i128);

impl Number for f64 {
    fn from_quantity(quantity: Quantity) -> Option<f64> {
        let number = quantity.numerator as f64 / quantity.denominator as f64;
        Some(if quantity.is_negative { -number } else { number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Option<u64> {
        Quantity::parse(text, Unit::Count).and_then(u64::from_quantity)
    }

    fn float(text: &str, unit: Unit) -> Option<f64> {
        Quantity::parse(text, unit).and_then(f64::from_quantity)
    }

    #[test]
    fn counts() {
        for (text, number) in [
            ("7", 7),
            (" 1_000_000 ", 1_000_000),
            ("1e6", 1_000_000),
            ("1.5e+3", 1500),
            ("64k", 64_000),
            ("2.5 M", 2_500_000),
            ("3G", 3_000_000_000),
            ("1e6k", 1_000_000_000),
            ("18446744073709551615", u64::MAX),
            ("70e-1", 7),
        ] {
            assert_eq!(count(text), Some(number), "{text}");
        }
    }

    #[test]
    fn times_in_any_unit() {
        let millis = |text| Quantity::parse(text, Unit::Milliseconds).and_then(u64::from_quantity);
        for (text, number) in
            [("20000", 20_000), ("5s", 5000), ("200ms", 200), ("1.5s", 1500), ("2m", 120_000)]
        {
            assert_eq!(millis(text), Some(number), "{text}");
        }
        assert_eq!(millis("1us"), None, "not whole");
        for (text, unit, number) in [
            ("5", Unit::Seconds, 5.0),
            ("200ms", Unit::Seconds, 0.2),
            ("0.1", Unit::Seconds, 0.1),
            ("90s", Unit::Minutes, 1.5),
            ("1ms", Unit::Microseconds, 1000.0),
            ("1min", Unit::Milliseconds, 60_000.0),
        ] {
            assert_eq!(float(text, unit), Some(number), "{text}");
        }
    }

    #[test]
    fn negative_numbers() {
        let seed = |text| Quantity::parse(text, Unit::Plain).and_then(i128::from_quantity);
        assert_eq!([seed("-7"), seed("-0"), seed("+7")], [Some(-7), Some(0), Some(7)]);
        assert_eq!(count("-1"), None);
    }

    #[test]
    fn what_is_not_a_number() {
        for text in [
            "",
            "-",
            "k",
            "e6",
            "1e",
            "1e+",
            ".5",
            "1.",
            "1__0",
            "_1",
            "1_",
            "1.2.3",
            "0x10",
            "1kk",
            "1 0",
            "nan",
            "inf",
            "1e999999999999",
            "1e39",
            "1e-300",
            "--1",
            "5s",
            "1KiB",
        ] {
            assert_eq!(count(text), None, "{text}");
        }
        assert_eq!(float("5k", Unit::Seconds), None);
        assert_eq!(float("1k", Unit::Plain), None);
    }
}
