//! Axes: the mapping of values to coordinates, and the labels.

use super::text_width;
use crate::output::format::{format_micros, format_si};

/// Minimum distance between two labels of a horizontal axis.
const LABEL_GAP: f64 = 12.0;
/// With fewer ticks at 1, 2 and 5, a logarithmic axis has evenly spaced values.
const MIN_LOGARITHMIC_TICKS: usize = 4;
/// Height of a label of a vertical axis, with the distance to the next one.
const LABEL_HEIGHT: f64 = 22.0;

/// An axis of a chart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(super) label: &'static str,
    scale: Scale,
    format: fn(f64) -> String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// Linear, from 0.
    Linear,
    Logarithmic,
    /// Logarithmic in 1/(1 − percentile): 100 is 99 %.
    Percentile,
}

impl Axis {
    /// An amount or a rate, from 0.
    pub(crate) const fn linear(label: &'static str) -> Axis {
        Axis { label, scale: Scale::Linear, format: tick_name }
    }

    /// A rate, logarithmic.
    pub(crate) const fn logarithmic(label: &'static str) -> Axis {
        Axis { label, scale: Scale::Logarithmic, format: tick_name }
    }

    /// A latency in microseconds, logarithmic.
    pub(crate) const fn latency() -> Axis {
        Axis {
            label: "",
            scale: Scale::Logarithmic,
            format: |us| without_zeros(&format_micros(us)),
        }
    }

    /// A latency in microseconds, from 0.
    pub(crate) const fn linear_latency(label: &'static str) -> Axis {
        Axis { label, scale: Scale::Linear, format: |us| without_zeros(&format_micros(us)) }
    }

    /// 1/(1 − percentile).
    pub(crate) const fn percentile() -> Axis {
        Axis { label: "percentile", scale: Scale::Percentile, format: percentile_name }
    }

    /// Maps `values` to the coordinates from `start` to `end`.
    pub(super) fn map(self, values: impl Iterator<Item = f64>, start: f64, end: f64) -> AxisMap {
        let (mut min, mut max) = (f64::INFINITY, 0.0_f64);
        for value in values {
            (min, max) = (min.min(value), max.max(value));
        }
        let (low, high) = match self.scale {
            Scale::Linear => (0.0, if max > 0.0 { max * 1.05 } else { 1.0 }),
            Scale::Percentile => (1.0, max.max(100.0)),
            Scale::Logarithmic => {
                let low = round_below(min.clamp(0.001, 1e12));
                (low, round_step(max.max(low * 1.001)))
            }
        };
        AxisMap { axis: self, low, high, start, end }
    }
}

/// Mapping of values to coordinates along one axis.
pub(super) struct AxisMap {
    axis: Axis,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl AxisMap {
    /// Returns the coordinate of `value`; values outside the axis are moved to its ends.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.axis.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic | Scale::Percentile => {
                (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
            }
        };
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Returns the ticks whose labels fit beside each other, as coordinates with labels.
    pub(super) fn horizontal_ticks(&self) -> Vec<(f64, String)> {
        let ticks = self.labelled(self.values().into_iter());
        let strides = (1..=ticks.len()).map(|step| ticks.iter().step_by(step).cloned().collect());
        strides.into_iter().find(|ticks: &Vec<_>| are_apart(ticks)).unwrap_or_default()
    }

    /// Returns the ticks whose labels fit above each other, as coordinates with labels.
    pub(super) fn vertical_ticks(&self) -> Vec<(f64, String)> {
        let fitting = ((self.start - self.end).abs() / LABEL_HEIGHT).max(2.0) as usize;
        let mut values = self.values();
        if values.len() > fitting && self.axis.scale == Scale::Logarithmic {
            values = powers_of_ten(self.low, self.high);
        }
        let step = values.len().div_ceil(fitting).max(1);
        self.labelled(values.into_iter().step_by(step))
    }

    fn labelled(&self, values: impl Iterator<Item = f64>) -> Vec<(f64, String)> {
        let label = |value| if value == 0.0 { "0".to_owned() } else { (self.axis.format)(value) };
        values.map(|value| (self.at(value), label(value))).collect()
    }

    fn values(&self) -> Vec<f64> {
        match self.axis.scale {
            Scale::Linear => {
                let step = round_step(self.high / 7.0);
                (0..=10).map(|n| f64::from(n) * step).filter(|&tick| tick <= self.high).collect()
            }
            Scale::Logarithmic => {
                let decades = (self.high / self.low).log10();
                let factors: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let decade = 10_f64.powf(self.low.log10().floor());
                let powers = std::iter::successors(Some(decade), |power| Some(power * 10.0));
                let powers = powers.take_while(|&power| power <= self.high * 1.001);
                let ticks = powers.flat_map(|power| factors.iter().map(move |f| f * power));
                let is_within = |tick: &f64| (self.low * 0.999..=self.high * 1.001).contains(tick);
                let ticks: Vec<f64> = ticks.filter(is_within).collect();
                if ticks.len() >= MIN_LOGARITHMIC_TICKS {
                    return ticks;
                }
                let step = round_step((self.high - self.low) / 5.0);
                let first = (self.low / step * 0.999).ceil() as u32;
                (first..first + 10).map(|n| f64::from(n) * step).filter(is_within).collect()
            }
            Scale::Percentile => {
                let mut ticks = vec![2.0];
                ticks.extend(powers_of_ten(10.0, self.high));
                ticks
            }
        }
    }
}

/// Returns whether no labels overlap.
fn are_apart(ticks: &[(f64, String)]) -> bool {
    ticks.windows(2).all(|pair| {
        let widths = (text_width(&pair[0].1) + text_width(&pair[1].1)) / 2.0;
        pair[1].0 - pair[0].0 >= widths + LABEL_GAP
    })
}

/// Returns the powers of ten between both.
fn powers_of_ten(low: f64, high: f64) -> Vec<f64> {
    let first = 10_f64.powf((low * 0.999).log10().ceil());
    std::iter::successors(Some(first), |tick| Some(tick * 10.0))
        .take_while(|&tick| tick <= high * 1.001)
        .collect()
}

/// Rounds up to the next of 1, 2, 5, 10 …
pub(super) fn round_step(step: f64) -> f64 {
    let magnitude = 10_f64.powf(step.log10().floor());
    let fitting = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * magnitude >= step);
    fitting.unwrap_or(10.0) * magnitude
}

/// Rounds down to the next of 1, 2, 5 …
fn round_below(number: f64) -> f64 {
    let magnitude = 10_f64.powf(number.log10().floor());
    let fitting = [5.0, 2.0].into_iter().find(|factor| factor * magnitude <= number);
    fitting.unwrap_or(1.0) * magnitude
}

fn percentile_name(inverse_tail: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / inverse_tail);
    let digits = (inverse_tail.log10().round() as usize).saturating_sub(2);
    format!("{percent:.digits$} %")
}

/// Formats a tick of an amount.
fn tick_name(number: f64) -> String {
    let text =
        if number > 0.0 && number < 10.0 { format!("{number:.3}") } else { format_si(number) };
    without_zeros(&text)
}

/// Removes trailing zeros after the point: `1.00 ms` becomes `1 ms`.
fn without_zeros(text: &str) -> String {
    let (digits, unit) = text.split_once(' ').unwrap_or((text, ""));
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    format!("{digits} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_have_names() {
        let names: Vec<String> = [2.0, 10.0, 100.0, 1000.0, 10_000.0].map(percentile_name).to_vec();
        assert_eq!(names, ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn steps_are_round() {
        let steps: Vec<f64> = [0.03, 1.0, 1.2, 2.1, 7.0, 240.0].map(round_step).to_vec();
        assert_eq!(steps, [0.05, 1.0, 2.0, 5.0, 10.0, 500.0]);
        let below = [0.03, 1.0, 4.9, 7.0, 240.0].map(round_below);
        for (is, expected) in below.into_iter().zip([0.02, 1.0, 2.0, 5.0, 200.0]) {
            assert!((is - expected).abs() < 1e-9, "{is} is not {expected}");
        }
    }

    /// Labels of every axis, for values from one to many decades apart.
    #[test]
    fn labels_do_not_overlap() {
        let axes = [Axis::linear("x"), Axis::logarithmic("x"), Axis::latency(), Axis::percentile()];
        for (axis, width) in axes.into_iter().flat_map(|axis| [(axis, 280.0), (axis, 650.0)]) {
            for decades in 0..9 {
                let values = [1.3, 1.7 * 10_f64.powi(decades)];
                let map = axis.map(values.into_iter(), 0.0, width);
                let ticks = map.horizontal_ticks();
                assert!(ticks.len() > 1, "{axis:?} over {decades} decades: {ticks:?}");
                for pair in ticks.windows(2) {
                    let [(left, first), (right, second)] = pair else { continue };
                    let end = left + text_width(first) / 2.0;
                    assert!(end < right - text_width(second) / 2.0, "{first} and {second}");
                }
                let map = axis.map(values.into_iter(), 200.0, 10.0);
                let heights: Vec<f64> =
                    map.vertical_ticks().into_iter().map(|tick| tick.0).collect();
                assert!(heights.windows(2).all(|pair| pair[0] - pair[1] > 12.0), "{heights:?}");
            }
        }
    }
}
