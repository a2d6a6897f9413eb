//! How long ago a key was last seen. A fitted pipeline knows what its rows said and nothing of what came since, so it is
//! declared how old it usually is when it answers, and training rows see only rows that are older by that.

use super::means::with_key;
use super::program::{Op, Program};
use crate::columns::Values;
use crate::hash::Quick;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use vocabulary::elementary::ln;
use vocabulary::inputs::Inputs;

/// The step as it lands on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recency {
    pub(super) columns: Vec<String>,
    pub(super) time: String,
    pub(super) delay_us: i64,
    pub(super) most_us: i64,
    /// When each key was last seen, in microseconds since 1970.
    pub(super) last: BTreeMap<String, i64>,
    /// Mean and deviation over the rows that were learned from; a missing value then counts as the mean, and a flag says
    /// that it is missing. None for learners that take numbers as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) standard: Option<[f64; 2]>,
}

impl Recency {
    pub(super) fn check(&self) -> Result<(), String> {
        let standard = self.standard.is_none_or(|[mean, scale]| mean.is_finite() && scale.is_finite() && scale > 0.0);
        match !self.columns.is_empty() && 0 <= self.delay_us && self.delay_us < self.most_us && standard {
            true => Ok(()),
            false => Err(format!("the recency of {:?} is not sound; the file was changed", self.columns)),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let name = self.columns.join("*");
        let missing = self.standard.map(|_| format!("{name}:since_missing"));
        std::iter::once(format!("{name}:since")).chain(missing).collect()
    }

    /// `ln(1 + seconds)` from `last` to `at`, within the bounds; a key that was not seen is as old as can be.
    pub(super) fn figure(&self, at: i64, last: Option<i64>) -> f64 {
        let since = last.map_or(self.most_us, |last| at.saturating_sub(last).clamp(self.delay_us, self.most_us));
        ln(1.0 + since as f64 / 1e6)
    }

    fn standardised(&self, figure: f64) -> f32 {
        self.standard.map_or(figure, |[mean, scale]| (figure - mean) / scale) as f32 + 0.0
    }
}

/// The step at run time.
#[derive(Clone, Debug)]
pub(super) struct RecencyEncoder {
    columns: Vec<usize>,
    time: usize,
    last: HashMap<Box<str>, i64, Quick>,
    /// Without its table.
    step: Recency,
}

impl RecencyEncoder {
    pub(super) fn new(columns: Vec<usize>, time: usize, step: &Recency) -> RecencyEncoder {
        let last = step.last.iter().map(|(key, at)| (key.as_str().into(), *at)).collect();
        let (names, name) = (step.columns.clone(), step.time.clone());
        let step = Recency { columns: names, time: name, last: BTreeMap::new(), ..*step };
        RecencyEncoder { columns, time, last, step }
    }

    /// Numbers of a row.
    pub(super) fn width(&self) -> usize {
        1 + usize::from(self.step.standard.is_some())
    }

    #[inline]
    pub(super) fn write(&self, columns: &[Values<'_>], row: usize, buffer: &mut String, dense: &mut [f32]) {
        let last = with_key(columns, &self.columns, row, buffer, |key| self.last.get(key).copied());
        self.put(columns[self.time].micros(row).zip(last), dense);
    }

    /// The row's time and when its key was last seen; none where the row has no time or no key.
    fn put(&self, seen: Option<(i64, Option<i64>)>, dense: &mut [f32]) {
        let figure = seen.map(|(at, last)| self.step.standardised(self.step.figure(at, last)));
        if self.step.standard.is_some() {
            dense[1] = if figure.is_none() { 1.0 } else { 0.0 };
            dense[0] = figure.unwrap_or(0.0);
        } else {
            dense[0] = figure.unwrap_or(f32::NAN);
        }
    }
}

/// For each row the newest time at which its key was seen among rows that are older by `delay_us`, in the order of `times`;
/// `key` gives a row's key, and rows without one or without a time are not seen.
pub(super) fn last_seen(
    rows: &[usize],
    times: &Values<'_>,
    delay_us: i64,
    mut key: impl FnMut(usize) -> Option<u32>,
) -> HashMap<usize, i64> {
    let mut timed: Vec<(i64, usize, u32)> =
        rows.iter().filter_map(|row| Some((times.micros(*row)?, *row, key(*row)?))).collect();
    timed.sort_unstable();
    let (mut seen, mut newest, mut found) = (0, HashMap::<u32, i64>::new(), HashMap::new());
    for (at, row, key) in &timed {
        // Strictly before: rows of one instant do not see each other, nor themselves.
        while let Some((then, _, other)) =
            timed.get(seen).filter(|(then, ..)| then.saturating_add(delay_us) <= *at && then < at)
        {
            newest.insert(*other, *then);
            seen += 1;
        }
        if let Some(last) = newest.get(key) {
            found.insert(*row, *last);
        }
    }
    found
}

/// Puts, for each row that is learned from, what was known when the pipeline would have been older by the delay.
pub(super) fn replace(program: &Program, columns: &[Values<'_>], rows: usize, inputs: &mut Inputs) {
    let mut buffer = String::new();
    for op in &program.ops {
        let Op::Recency { encoder, dense } = op else { continue };
        let all: Vec<usize> = (0..rows).collect();
        let mut numbers: HashMap<Box<str>, u32> = HashMap::new();
        let mut keys = Vec::with_capacity(rows);
        for row in 0..rows {
            let number = with_key(columns, &encoder.columns, row, &mut buffer, |key| {
                // A key that the pipeline takes as unseen is unseen here too.
                encoder.last.contains_key(key).then(|| {
                    let next = numbers.len() as u32;
                    *numbers.entry(key.into()).or_insert(next)
                })
            });
            keys.push(number);
        }
        let times = &columns[encoder.time];
        let last = last_seen(&all, times, encoder.step.delay_us, |row| keys[row].flatten());
        for (row, key) in keys.iter().enumerate() {
            let seen = times.micros(row).zip(key.map(|_| last.get(&row).copied()));
            encoder.put(seen, &mut inputs.dense[row * inputs.dense_width + dense..]);
        }
    }
}
