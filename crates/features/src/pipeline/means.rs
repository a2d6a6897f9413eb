//! Target means: the key of one or several columns' values, and what is known of each key.

use crate::columns::Values;
use crate::hash::Atom;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// What is known of one key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mean {
    /// The target's mean, smoothed towards the prior.
    pub(super) mean: f64,
    /// `ln(1 + rows)` with this key among the fitted rows; taken at fit, since logarithms differ between platforms.
    pub(super) log_count: f64,
}

/// What is known of one key for each of several classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClassMean {
    /// The share of each class, smoothed towards its prior. In single precision, as the model gets it: a class more is
    /// a number more for each key.
    pub(super) means: Vec<f32>,
    pub(super) log_count: f64,
}

/// The step at run time: for each key some means, and a count.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    columns: Vec<usize>,
    learned: Learned,
    /// One for each mean.
    priors: Vec<f64>,
    smoothing: f64,
    entries: HashMap<Box<str>, Entry>,
    /// Row-major: those of each place.
    means: Vec<f32>,
}

/// What of the target the means are of.
#[derive(Clone, Debug)]
pub(super) enum Learned {
    /// The target itself: one mean.
    Quantity,
    /// Whether the target is a class: a mean for each of these classes.
    Classes(Vec<u32>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Place of the key among the entries.
    pub(super) place: u32,
    pub(super) log_count: f32,
}

/// `(sum + smoothing * prior) / (count + smoothing)`, the m-estimate (Micci-Barreca, 2001).
pub(super) fn smoothed(sum: f64, count: f64, prior: f64, smoothing: f64) -> f64 {
    (sum + smoothing * prior) / (count + smoothing)
}

impl Encoder {
    pub(super) fn of_quantity(
        columns: Vec<usize>,
        prior: f64,
        smoothing: f64,
        entries: &BTreeMap<String, Mean>,
    ) -> Encoder {
        let means = entries.values().map(|entry| entry.mean as f32).collect();
        let entries = index(entries.iter().map(|(key, entry)| (key, entry.log_count)));
        Encoder { columns, learned: Learned::Quantity, priors: vec![prior], smoothing, entries, means }
    }

    pub(super) fn of_classes(
        columns: Vec<usize>,
        classes: Vec<u32>,
        priors: &[f64],
        smoothing: f64,
        entries: &BTreeMap<String, ClassMean>,
    ) -> Encoder {
        let means = entries.values().flat_map(|entry| &entry.means).copied().collect();
        let entries = index(entries.iter().map(|(key, entry)| (key, entry.log_count)));
        Encoder { columns, learned: Learned::Classes(classes), priors: priors.to_vec(), smoothing, entries, means }
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Means of a row.
    pub(super) fn width(&self) -> usize {
        self.priors.len()
    }

    /// What is known of the row's key: `None` for a null, `Some(None)` for a key that was not seen.
    pub(super) fn entry(&self, columns: &[Values<'_>], row: usize, buffer: &mut String) -> Option<Option<Entry>> {
        with_key(columns, &self.columns, row, buffer, |key| self.entries.get(key).copied())
    }

    /// Writes the means of a row's key, and its count behind them.
    #[inline]
    pub(super) fn write(&self, entry: Option<Option<Entry>>, dense: &mut [f32]) {
        let width = self.width();
        match entry {
            None => dense[..=width].fill(f32::NAN),
            Some(None) => {
                dense.iter_mut().zip(&self.priors).for_each(|(mean, prior)| *mean = *prior as f32 + 0.0);
                dense[width] = 0.0;
            }
            Some(Some(entry)) => {
                let means = &self.means[entry.place as usize * width..][..width];
                dense.iter_mut().zip(means).for_each(|(mean, known)| *mean = *known + 0.0);
                dense[width] = entry.log_count;
            }
        }
    }

    /// Adds a target to the sums of the means.
    pub(super) fn add(&self, target: f64, sums: &mut [f64]) {
        self.learned.add(target, sums);
    }

    /// Writes the means that follow from `sums` over `count` targets.
    pub(super) fn write_known(&self, sums: &[f64], count: f64, dense: &mut [f32]) {
        for ((mean, sum), prior) in dense.iter_mut().zip(sums).zip(&self.priors) {
            *mean = smoothed(*sum, count, *prior, self.smoothing) as f32 + 0.0;
        }
    }
}

impl Learned {
    pub(super) fn width(&self) -> usize {
        match self {
            Learned::Quantity => 1,
            Learned::Classes(classes) => classes.len(),
        }
    }

    /// Adds a target to a sum for each mean.
    pub(super) fn add(&self, target: f64, sums: &mut [f64]) {
        match self {
            Learned::Quantity => sums[0] += target,
            Learned::Classes(classes) => {
                if let Some(place) = classes.iter().position(|class| f64::from(*class) == target) {
                    sums[place] += 1.0;
                }
            }
        }
    }
}

fn index<'a>(entries: impl Iterator<Item = (&'a String, f64)>) -> HashMap<Box<str>, Entry> {
    let entry = |(place, (key, log_count)): (u32, (&'a String, f64))| {
        (key.as_str().into(), Entry { place, log_count: log_count as f32 })
    };
    (0..).zip(entries).map(entry).collect()
}

/// Hands the row's key to `use_key`. The key of one column is its value as text, and null has none. The key of several
/// is each value as text after its length, and `-` for null, so that different rows of values have different keys.
pub(super) fn with_key<R>(
    columns: &[Values<'_>],
    places: &[usize],
    row: usize,
    buffer: &mut String,
    use_key: impl FnOnce(&str) -> R,
) -> Option<R> {
    buffer.clear();
    if let [place] = places {
        return match columns[*place].atom(row) {
            Atom::Null => None,
            Atom::Text(text) => Some(use_key(text)),
            other => {
                push_text(other, buffer);
                Some(use_key(buffer))
            }
        };
    }
    for place in places {
        let atom = columns[*place].atom(row);
        match atom {
            Atom::Null => buffer.push_str("- "),
            Atom::Text(text) => {
                let _ = write!(buffer, "{}:{text} ", text.len());
            }
            other => {
                buffer.push_str("0:");
                push_text(other, buffer);
                buffer.push(' ');
            }
        }
    }
    Some(use_key(buffer))
}

/// Appends a bool or an int; writing into a string cannot fail.
fn push_text(atom: Atom<'_>, buffer: &mut String) {
    let _ = match atom {
        Atom::Bool(value) => write!(buffer, "{value}"),
        Atom::Int(value) => write!(buffer, "{value}"),
        Atom::Null | Atom::Text(_) => Ok(()),
    };
}
