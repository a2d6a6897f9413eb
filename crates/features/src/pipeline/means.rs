//! Target means: the key of one or several columns' values, and what is known of each key.

use super::step::Class;
use crate::columns::Values;
use crate::hash::{Atom, Quick};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use vocabulary::elementary::ln;
use vocabulary::model::CountForm;

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

/// What is known of one key of [`Statistics`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// Rows to learn from with this key.
    pub(super) rows: u64,
    /// The smoothed means, one for each prior.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) means: Vec<f32>,
}

/// Statistics of a key: means of the target, or how often it occurs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statistics {
    pub(super) columns: Vec<String>,
    pub(super) gives: Gives,
    /// Rows that were learned from.
    pub(super) rows: u64,
    pub(super) entries: BTreeMap<String, Known>,
    /// Mean and deviation of each output over the rows, by which it is standardised; a missing value then counts as the
    /// mean, and a flag says that it is missing. None for learners that take numbers as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) standard: Option<Vec<[f64; 2]>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Gives {
    /// Of the target itself, where there are no classes.
    Means {
        classes: Vec<Class>,
        priors: Vec<f64>,
        smoothing: f64,
    },
    Counts(Vec<CountForm>),
}

impl Statistics {
    /// Outputs, without the flag of what is missing.
    pub(super) fn width(&self) -> usize {
        match &self.gives {
            Gives::Means { priors, .. } => priors.len(),
            Gives::Counts(forms) => forms.len(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let width = self.width();
        let means = |known: usize| match &self.gives {
            Gives::Means { classes, priors, smoothing } => {
                let of_classes = if classes.is_empty() { priors.len() == 1 } else { priors.len() == classes.len() };
                known == width && of_classes && *smoothing >= 0.0 && priors.iter().all(|prior| prior.is_finite())
            }
            Gives::Counts(_) => known == 0,
        };
        let standard = self.standard.as_ref().is_none_or(|standard| {
            let sound = |[mean, scale]: &[f64; 2]| mean.is_finite() && scale.is_finite() && *scale > 0.0;
            standard.len() == width && standard.iter().all(sound)
        });
        let sound = !self.columns.is_empty()
            && width > 0
            && standard
            && self.rows > 0
            && self.entries.values().all(|known| means(known.means.len()));
        if sound {
            Ok(())
        } else {
            Err(format!("the statistics of {:?} are not sound; the file was changed", self.columns))
        }
    }

    /// The names of the outputs, the flag of what is missing among them.
    pub(super) fn names(&self) -> Vec<String> {
        let name = self.columns.join("*");
        let mut names: Vec<String> = match &self.gives {
            Gives::Means { classes, .. } if classes.is_empty() => vec![format!("{name}:target")],
            Gives::Means { classes, .. } => {
                classes.iter().map(|class| format!("{name}:target:{}", class.name)).collect()
            }
            Gives::Counts(forms) => forms.iter().map(|form| format!("{name}:{}", count_name(*form))).collect(),
        };
        if self.standard.is_some() {
            let what = if matches!(self.gives, Gives::Means { .. }) { "target_missing" } else { "count_missing" };
            names.push(format!("{name}:{what}"));
        }
        names
    }

    /// What a key gives, before it is standardised; none is a key that was not seen.
    pub(super) fn figures(&self, known: Option<&Known>) -> Vec<f32> {
        match (&self.gives, known) {
            (Gives::Means { .. }, Some(known)) => known.means.clone(),
            (Gives::Means { priors, .. }, None) => priors.iter().map(|prior| *prior as f32).collect(),
            (Gives::Counts(forms), known) => {
                let rows = known.map_or(0, |known| known.rows);
                let figure = |form: &CountForm| match form {
                    CountForm::Log => ln(1.0 + rows as f64) as f32,
                    CountForm::Share => (rows as f64 / self.rows as f64) as f32,
                };
                forms.iter().map(figure).collect()
            }
        }
    }

    /// Outputs as the model gets them, for a key and for a null.
    pub(super) fn outputs(&self, known: Option<&Known>) -> Vec<f32> {
        let mut figures = self.figures(known);
        let scales = self.standard.iter().flatten();
        figures.iter_mut().zip(scales).for_each(|(figure, scale)| *figure = standardised(*figure, *scale));
        figures.iter_mut().for_each(|figure| *figure += 0.0);
        figures.extend(self.standard.iter().map(|_| 0.0));
        figures
    }

    pub(super) fn missing(&self) -> Vec<f32> {
        match &self.standard {
            None => vec![f32::NAN; self.width()],
            Some(standard) => standard.iter().map(|_| 0.0).chain([1.0]).collect(),
        }
    }
}

fn standardised(value: f32, [mean, scale]: [f64; 2]) -> f32 {
    ((f64::from(value) - mean) / scale) as f32 + 0.0
}

pub(super) fn count_name(form: CountForm) -> &'static str {
    match form {
        CountForm::Log => "count",
        CountForm::Share => "share",
    }
}

/// The step at run time: some numbers for each key, of which the first are means of the target.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    columns: Vec<usize>,
    learned: Learned,
    /// One for each mean.
    priors: Vec<f64>,
    smoothing: f64,
    /// Places of the keys.
    entries: HashMap<Box<str>, u32, Quick>,
    /// Row-major: those of each place.
    values: Vec<f32>,
    unseen: Vec<f32>,
    missing: Vec<f32>,
    /// Of each mean, where there is one.
    standard: Vec<[f64; 2]>,
}

/// What of the target the means are of.
#[derive(Clone, Debug)]
pub(super) enum Learned {
    /// The target itself: one mean.
    Quantity,
    /// Whether the target is a class: a mean for each of these classes.
    Classes(Vec<u32>),
    Nothing,
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
        let values = entries.values().flat_map(|entry| [entry.mean as f32 + 0.0, entry.log_count as f32]).collect();
        Encoder {
            columns,
            learned: Learned::Quantity,
            priors: vec![prior],
            smoothing,
            entries: index(entries.keys()),
            values,
            unseen: vec![prior as f32 + 0.0, 0.0],
            missing: vec![f32::NAN; 2],
            standard: Vec::new(),
        }
    }

    pub(super) fn of_classes(
        columns: Vec<usize>,
        classes: Vec<u32>,
        priors: &[f64],
        smoothing: f64,
        entries: &BTreeMap<String, ClassMean>,
    ) -> Encoder {
        let of = |entry: &ClassMean| {
            let means: Vec<f32> = entry.means.iter().map(|mean| mean + 0.0).collect();
            means.into_iter().chain([entry.log_count as f32])
        };
        Encoder {
            columns,
            learned: Learned::Classes(classes),
            priors: priors.to_vec(),
            smoothing,
            entries: index(entries.keys()),
            values: entries.values().flat_map(of).collect(),
            unseen: priors.iter().map(|prior| *prior as f32 + 0.0).chain([0.0]).collect(),
            missing: vec![f32::NAN; priors.len() + 1],
            standard: Vec::new(),
        }
    }

    pub(super) fn of_statistics(columns: Vec<usize>, statistics: &Statistics) -> Encoder {
        let (learned, priors, smoothing) = match &statistics.gives {
            Gives::Means { classes, priors, smoothing } if classes.is_empty() => {
                (Learned::Quantity, priors.clone(), *smoothing)
            }
            Gives::Means { classes, priors, smoothing } => {
                (Learned::Classes(classes.iter().map(|class| class.place).collect()), priors.clone(), *smoothing)
            }
            Gives::Counts(_) => (Learned::Nothing, Vec::new(), 0.0),
        };
        Encoder {
            columns,
            learned,
            priors,
            smoothing,
            entries: index(statistics.entries.keys()),
            values: statistics.entries.values().flat_map(|known| statistics.outputs(Some(known))).collect(),
            unseen: statistics.outputs(None),
            missing: statistics.missing(),
            standard: statistics.standard.clone().unwrap_or_default(),
        }
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Means of a row.
    pub(super) fn means(&self) -> usize {
        self.priors.len()
    }

    /// Numbers of a row.
    pub(super) fn width(&self) -> usize {
        self.unseen.len()
    }

    /// The place of the row's key: `None` for a null, `Some(None)` for a key that was not seen.
    pub(super) fn entry(&self, columns: &[Values<'_>], row: usize, buffer: &mut String) -> Option<Option<u32>> {
        with_key(columns, &self.columns, row, buffer, |key| self.entries.get(key).copied())
    }

    /// Writes what is known of a row's key.
    #[inline]
    pub(super) fn write(&self, entry: Option<Option<u32>>, dense: &mut [f32]) {
        let width = self.width();
        dense[..width].copy_from_slice(match entry {
            None => &self.missing,
            Some(None) => &self.unseen,
            Some(Some(place)) => &self.values[place as usize * width..][..width],
        });
    }

    /// Adds a target to the sums of the means.
    pub(super) fn add(&self, target: f64, sums: &mut [f64]) {
        self.learned.add(target, sums);
    }

    /// Writes the means that follow from `sums` over `count` targets.
    pub(super) fn write_known(&self, sums: &[f64], count: f64, dense: &mut [f32]) {
        for (place, ((mean, sum), prior)) in dense.iter_mut().zip(sums).zip(&self.priors).enumerate() {
            // Without smoothing nothing is known before the first row.
            let known =
                if count + self.smoothing > 0.0 { smoothed(*sum, count, *prior, self.smoothing) } else { *prior };
            let known = known as f32 + 0.0;
            *mean = self.standard.get(place).map_or(known, |scale| standardised(known, *scale));
        }
    }
}

impl Learned {
    /// Of the target itself where there are no classes.
    pub(super) fn of(classes: Option<&[Class]>) -> Learned {
        match classes {
            None => Learned::Quantity,
            Some(classes) => Learned::Classes(classes.iter().map(|class| class.place).collect()),
        }
    }

    pub(super) fn width(&self) -> usize {
        match self {
            Learned::Quantity => 1,
            Learned::Classes(classes) => classes.len(),
            Learned::Nothing => 0,
        }
    }

    /// Adds a target to a sum for each mean.
    pub(super) fn add(&self, target: f64, sums: &mut [f64]) {
        match self {
            Learned::Quantity => sums[0] += target,
            Learned::Nothing => {}
            Learned::Classes(classes) => {
                if let Some(place) = classes.iter().position(|class| f64::from(*class) == target) {
                    sums[place] += 1.0;
                }
            }
        }
    }
}

fn index<'a>(keys: impl Iterator<Item = &'a String>) -> HashMap<Box<str>, u32, Quick> {
    keys.zip(0..).map(|(key, place)| (key.as_str().into(), place)).collect()
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
