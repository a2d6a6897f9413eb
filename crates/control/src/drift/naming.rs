//! From numbers to a cause: what kind of change makes a feature look as it does now? The simple explanations that leave
//! nothing unexplained come first: gone, stuck, exchanged with another, in another unit; then what only has a size.

use super::scope::{Statistic, Window};
use vocabulary::CauseKind;
use vocabulary::profile::Bins;

/// Changes of unit that people make: name, factor, offset.
const UNITS: [(&str, f64, f64); 22] = [
    ("thousandfold", 1000.0, 0.0),
    ("a thousandth", 0.001, 0.0),
    ("millionfold", 1e6, 0.0),
    ("a millionth", 1e-6, 0.0),
    ("hundredfold, such as percent", 100.0, 0.0),
    ("a hundredth, such as from percent", 0.01, 0.0),
    ("tenfold", 10.0, 0.0),
    ("a tenth", 0.1, 0.0),
    ("celsius to fahrenheit", 1.8, 32.0),
    ("fahrenheit to celsius", 1.0 / 1.8, -32.0 / 1.8),
    ("celsius to kelvin", 1.0, 273.15),
    ("kelvin to celsius", 1.0, -273.15),
    ("minutes to seconds or hours to minutes", 60.0, 0.0),
    ("seconds to minutes or minutes to hours", 1.0 / 60.0, 0.0),
    ("hours to seconds", 3600.0, 0.0),
    ("seconds to hours", 1.0 / 3600.0, 0.0),
    ("miles to kilometres", 1.609_344, 0.0),
    ("kilometres to miles", 1.0 / 1.609_344, 0.0),
    ("feet to metres", 0.3048, 0.0),
    ("metres to feet", 1.0 / 0.3048, 0.0),
    ("pounds to kilograms", 0.453_592_37, 0.0),
    ("kilograms to pounds", 1.0 / 0.453_592_37, 0.0),
];

/// Values before which nothing is read from them.
pub const VALUES_MIN: usize = 20;
/// Equal values in a row that make a sensor stuck.
const FROZEN_ROWS_MIN: usize = 20;
/// A column that has a value as rarely as this has gone.
const GONE: f64 = 0.995;

/// The largest difference between the cumulative shares of values and of expected counts, missing ones aside.
pub fn distance(values: impl Iterator<Item = f64>, bins: &Bins, expected: &[f64]) -> f64 {
    let mut counts = vec![0.0; expected.len()];
    let mut total = 0.0;
    for value in values {
        counts[usize::from(bins.number(Some(value))).min(expected.len() - 1)] += 1.0;
        total += 1.0;
    }
    let all: f64 = expected[1..].iter().sum();
    if total == 0.0 || all <= 0.0 {
        return 1.0;
    }
    let mut gap = 0.0f64;
    let gaps = counts[1..].iter().zip(&expected[1..]).map(|(count, e)| {
        gap += count / total - e / all;
        gap.abs()
    });
    gaps.fold(0.0, f64::max)
}

/// The distance that `rows` values of the same distribution keep to it but for one time in a thousand, and a little for
/// what is only nearly the same.
pub fn alike(rows: usize) -> f64 {
    1.95 / (rows as f64).sqrt() + 0.04
}

/// Missing values: gone, or many.
pub fn missing(window: &Window, tolerance: f64) -> Option<CauseKind> {
    let (now, before) = window.shares(0);
    if now - before <= tolerance || now - before < 0.4 * window.distance() {
        return None;
    }
    Some(if now >= GONE && before < 0.5 { CauseKind::Schema } else { CauseKind::NullFlood })
}

/// The same value again and again, where the reference has others too.
pub fn frozen(values: &[f64], bins: &Bins, expected: &[f64]) -> Option<CauseKind> {
    let last = *values.last()?;
    let run = values.iter().rev().take_while(|value| value.to_bits() == last.to_bits()).count();
    let total: f64 = expected.iter().sum();
    let usual = expected[usize::from(bins.number(Some(last))).min(expected.len() - 1)] / total.max(1.0);
    let stuck = run >= FROZEN_ROWS_MIN && run * 2 >= values.len() && usual < 0.5;
    stuck.then_some(CauseKind::Frozen { value: last })
}

/// A change of unit: the known one, or else any stretch, after which the values look as they did.
pub fn unit(values: &[f64], bins: &Bins, expected: &[f64]) -> Option<CauseKind> {
    let Bins::Numeric { edges } = bins else { return None };
    if values.len() < VALUES_MIN || edges.len() < 4 {
        return None;
    }
    let now = distance(values.iter().copied(), bins, expected);
    let good = |d: f64| d <= alike(values.len()) && d <= 0.5 * now;
    let undone = |factor: f64, offset: f64| distance(values.iter().map(|v| (v - offset) / factor), bins, expected);
    let known = UNITS.iter().map(|(name, factor, offset)| (undone(*factor, *offset), *name, *factor, *offset));
    if let Some((d, name, factor, offset)) = known.min_by(|a, b| a.0.total_cmp(&b.0))
        && good(d)
    {
        return Some(CauseKind::UnitChange { factor, offset, name: Some(name.to_owned()) });
    }
    let (factor, offset) = stretch(values, edges, expected)?;
    let stretched = factor.abs().ln().abs() > 1.5f64.ln();
    (stretched && good(undone(factor, offset))).then_some(CauseKind::UnitChange { factor, offset, name: None })
}

/// The line that takes the reference's quartiles to those of the values.
fn stretch(values: &[f64], edges: &[f64], expected: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let live = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    let all: f64 = expected[1..].iter().sum();
    let there = |share: f64| {
        let mut below = 0.0;
        for (count, edge) in expected[1..].iter().zip(edges) {
            below += count;
            if below >= share * all {
                return *edge;
            }
        }
        edges[edges.len() - 1]
    };
    let width = there(0.75) - there(0.25);
    let factor = (live(0.75) - live(0.25)) / width;
    (width > 0.0 && factor.is_finite() && factor > 0.0).then(|| (factor, live(0.5) - factor * there(0.5)))
}

/// The part of the feature's range that changed most, in words, with its shares before and now.
pub fn place(window: &Window, bins: &Bins) -> (String, f64, f64) {
    let last = window.live.len() - 1;
    let moved = |bin: usize| {
        let (now, before) = window.shares(bin);
        now - before
    };
    match bins {
        _ if moved(0).abs() >= 0.9 * window.distance() => {
            let (now, before) = window.shares(0);
            ("missing values".into(), before, now)
        }
        Bins::Categories { values } => {
            let most = (1..=last).max_by(|a, b| moved(*a).abs().total_cmp(&moved(*b).abs())).unwrap_or(last);
            let (now, before) = window.shares(most);
            let words = values.get(most - 1).map(|value| format!("\"{value}\""));
            (words.unwrap_or_else(|| format!("values outside the {} known ones", values.len())), before, now)
        }
        Bins::Numeric { edges } => {
            let (mut gap, mut widest, mut at) = (0.0f64, 0.0f64, 0);
            for bin in 0..last {
                gap += moved(bin);
                if gap.abs() > widest.abs() {
                    (widest, at) = (gap, bin);
                }
            }
            let edge = edges.get(at.saturating_sub(1)).copied().unwrap_or_default();
            let above = |counts: &[f64]| counts[at + 1..].iter().sum::<f64>() / window.rows;
            (format!("values above {edge}"), above(&window.expected), above(&window.live))
        }
    }
}

/// What is left when nothing simpler explains it.
pub fn shape(statistic: Statistic, window: &Window) -> CauseKind {
    // After a shift the cumulative shares are off to one side, whatever the bins.
    let (mut gap, mut sum, mut size) = (0.0f64, 0.0f64, 0.0f64);
    for (live, expected) in window.live.iter().zip(&window.expected).skip(1) {
        gap += live - expected;
        sum += gap;
        size += gap.abs();
    }
    let shifted = statistic == Statistic::Rank || sum.abs() > 0.8 * size;
    if shifted { CauseKind::Shifted } else { CauseKind::Reshaped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Temperatures in degrees Celsius, in the reference's bins.
    fn world() -> (Vec<f64>, Bins, Vec<f64>) {
        let mut random = Random(5);
        let mut sorted: Vec<f64> = (0..3200).map(|_| 12.0 + 8.0 * random.normal()).collect();
        let values = sorted[..300].to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let edges = (1..32).map(|edge| sorted[edge * 100]).collect();
        (values, Bins::Numeric { edges }, [vec![0.0], vec![100.0; 32]].concat())
    }

    #[test]
    fn units_are_told_apart() {
        let (values, bins, expected) = world();
        let named = |factor: f64, offset: f64| {
            let changed: Vec<f64> = values.iter().map(|v| factor * v + offset).collect();
            unit(&changed, &bins, &expected)
        };
        for (name, factor, offset) in UNITS {
            let known = CauseKind::UnitChange { factor, offset, name: Some(name.to_owned()) };
            assert_eq!(named(factor, offset), Some(known), "{name}");
        }
        assert_eq!(named(1.0, 0.0), None);
        assert_eq!(named(1.0, 1.6), None, "a shift of .2 standard deviations is no unit");
        assert!(
            matches!(named(7.0, 3.0), Some(CauseKind::UnitChange { factor, name: None, .. }) if (6.0..8.0).contains(&factor))
        );
    }

    #[test]
    fn a_stuck_sensor_is_no_constant_column() {
        let (values, bins, expected) = world();
        let stuck = [values.clone(), vec![3.25; 400]].concat();
        assert_eq!(frozen(&stuck, &bins, &expected), Some(CauseKind::Frozen { value: 3.25 }));
        assert_eq!(frozen(&values, &bins, &expected), None);
        let constant = Bins::Numeric { edges: vec![0.0] };
        assert_eq!(frozen(&[0.0; 100], &constant, &[0.0, 90.0, 10.0]), None);
    }
}
