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

/// The step at run time.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    pub(super) columns: Vec<usize>,
    pub(super) prior: f64,
    pub(super) smoothing: f64,
    entries: HashMap<Box<str>, Entry>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Place of the key among the entries.
    pub(super) place: u32,
    pub(super) mean: f32,
    pub(super) log_count: f32,
}

/// `(sum + smoothing * prior) / (count + smoothing)`, the m-estimate (Micci-Barreca, 2001).
pub(super) fn smoothed(sum: f64, count: f64, prior: f64, smoothing: f64) -> f64 {
    (sum + smoothing * prior) / (count + smoothing)
}

impl Encoder {
    pub(super) fn new(columns: Vec<usize>, prior: f64, smoothing: f64, entries: &BTreeMap<String, Mean>) -> Encoder {
        let entry = |(place, (key, mean)): (usize, (&String, &Mean))| {
            let entry = Entry { place: place as u32, mean: mean.mean as f32, log_count: mean.log_count as f32 };
            (key.as_str().into(), entry)
        };
        Encoder { columns, prior, smoothing, entries: entries.iter().enumerate().map(entry).collect() }
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is known of the row's key: `None` for a null, `Some(None)` for a key that was not seen.
    pub(super) fn entry(&self, columns: &[Values<'_>], row: usize, buffer: &mut String) -> Option<Option<Entry>> {
        with_key(columns, &self.columns, row, buffer, |key| self.entries.get(key).copied())
    }
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
