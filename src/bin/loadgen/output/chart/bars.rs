//! Bar charts.

use std::fmt::Write as _;

use super::{COLOURS, text_width};
use crate::output::html::escaped;

const BAR_HEIGHT: f64 = 14.0;
const BAR_GAP: f64 = 3.0;
const GROUP_GAP: f64 = 14.0;
/// Height of a group's name above its bars, where there is no space beside them.
const NAME_HEIGHT: f64 = 17.0;
/// From this width on, names are beside the bars.
const MIN_WIDTH_BESIDE: f64 = 500.0;

/// Groups of horizontal bars on one scale.
#[derive(Clone, Debug)]
pub(crate) struct BarChart {
    pub(crate) unit: &'static str,
    /// Names of a group's bars, the same in every group.
    pub(crate) names: Vec<&'static str>,
    pub(crate) groups: Vec<BarGroup>,
    pub(crate) format: fn(f64) -> String,
}

/// Bars beside each other.
#[derive(Clone, Debug)]
pub(crate) struct BarGroup {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

impl BarChart {
    pub(super) fn is_empty(&self) -> bool {
        !self.values().any(|value| value > 0.0)
    }

    pub(super) fn unit(&self) -> &str {
        self.unit
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.names.clone()
    }

    /// The values that can be drawn.
    fn values(&self) -> impl Iterator<Item = f64> {
        self.groups
            .iter()
            .flat_map(|group| &group.values)
            .copied()
            .filter(|value| value.is_finite())
    }

    /// Draws the chart `width` wide; returns its height and its elements.
    pub(super) fn draw(&self, width: f64) -> (f64, String) {
        let is_beside = width >= MIN_WIDTH_BESIDE;
        let name_width =
            self.groups.iter().map(|group| text_width(&group.name)).fold(0.0, f64::max);
        let left = if is_beside { name_width + 12.0 } else { 2.0 };
        let value_width =
            self.values().map(|value| text_width(&(self.format)(value))).fold(0.0, f64::max) + 10.0;
        let longest = (width - left - value_width).max(20.0);
        let max = self.values().fold(f64::MIN_POSITIVE, f64::max);

        let (mut drawing, mut top) = (String::new(), 4.0);
        for group in &self.groups {
            let name = escaped(&group.name);
            let bars = group.values.len() as f64 * (BAR_HEIGHT + BAR_GAP);
            let _ = if is_beside {
                let middle = top + bars / 2.0 + 3.0;
                let x = left - 10.0;
                writeln!(
                    drawing,
                    "<text class=\"axis\" x=\"{x:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}</text>"
                )
            } else {
                let y = top + NAME_HEIGHT - 5.0;
                top += NAME_HEIGHT;
                writeln!(drawing, "<text class=\"axis\" x=\"0\" y=\"{y:.1}\">{name}</text>")
            };
            for (index, &value) in group.values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                let y = top + index as f64 * (BAR_HEIGHT + BAR_GAP);
                let length = (longest * value / max).max(1.5);
                let _ = writeln!(
                    drawing,
                    "<rect class=\"c{}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" \
                     height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    index % COLOURS,
                    left + length + 6.0,
                    y + BAR_HEIGHT - 3.0,
                    escaped(&(self.format)(value))
                );
            }
            top += bars + GROUP_GAP;
        }
        (top, drawing)
    }
}
