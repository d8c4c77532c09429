//! Points of a line: thinned, and as rates.

/// Maximum points of a line.
pub(super) const MAX_POINTS: usize = 120;
/// Minimum length of a rate interval, in seconds.
const MIN_INTERVAL: f64 = 0.001;
/// Rate intervals of a line, at most.
const MAX_INTERVALS: usize = 80;

/// Returns the rate of change per second over even intervals. `points` are (seconds, value), with
/// ascending times.
pub(crate) fn rates(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let Some(&(end, _)) = points.last() else { return Vec::new() };
    let intervals = ((end / MIN_INTERVAL) as usize).clamp(1, MAX_INTERVALS);
    let length = end / intervals as f64;
    let mut grown = (0..=intervals).map(|number| interpolated(points, number as f64 * length));
    let mut before = grown.next().unwrap_or_default();
    let rate = |(interval, now): (usize, f64)| {
        let rate = (now - before) / length;
        before = now;
        ((interval as f64 + 0.5) * length, rate)
    };
    grown.enumerate().map(rate).collect()
}

/// Interpolates the value at `time`; before the first point it grows from 0.
fn interpolated(points: &[(f64, f64)], time: f64) -> f64 {
    let next = points.partition_point(|point| point.0 < time);
    let (from, low) = next.checked_sub(1).map_or((0.0, 0.0), |last| points[last]);
    match points.get(next) {
        Some(&(to, high)) if to > from => low + (high - low) * (time - from) / (to - from),
        _ => low,
    }
}

/// Returns at most [`MAX_POINTS`] of the points that can be drawn, which ascend. Of each of even
/// intervals, the lowest and the highest stay, so that a peak remains visible.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    if points.len() <= MAX_POINTS {
        return points;
    }
    let (start, end) = (points[0].0, points[points.len() - 1].0);
    let length = (end - start) / (MAX_POINTS / 2) as f64;
    let interval = |x: f64| (((x - start) / length) as usize).min(MAX_POINTS / 2 - 1);
    points.chunk_by(|a, b| interval(a.0) == interval(b.0)).flat_map(extremes).collect()
}

/// Returns the lowest and the highest point, in their order.
fn extremes(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + use<> {
    let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
    let low = points.iter().min_by(by_value).copied();
    let high = points.iter().max_by(by_value).copied().filter(|&high| Some(high) != low);
    let (first, second) = match (low, high) {
        (Some(low), Some(high)) if high.0 < low.0 => (Some(high), Some(low)),
        both => both,
    };
    first.into_iter().chain(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_survives_thinning() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), 1.0)).collect();
        points[7777].1 = 50.0;
        points[1234].1 = f64::NAN;
        let thinned = thinned(&points);
        assert!(thinned.len() <= MAX_POINTS);
        assert!(thinned.contains(&(7777.0, 50.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_steady_growth_is_a_constant_rate() {
        let points: Vec<(f64, f64)> =
            (1..=500).map(|n| (f64::from(n) / 100.0, f64::from(n))).collect();
        let rates = rates(&points);
        assert!(rates.len() > 10);
        assert!(rates.iter().all(|(_, rate)| (rate - 100.0).abs() < 1e-6), "{rates:?}");
        assert!(super::rates(&[]).is_empty());
    }
}
