//! What becomes of categories: codes, means, slots of a shared table, or rows of their own.

use super::super::Recipe;
use super::super::means::{ClassMean, Learned, Mean, smoothed, with_key};
use super::super::plan::Means;
use super::super::step::{Class, Step};
use super::super::table::Census;
use super::{Fitter, constant_note};
use crate::FeatureError;
use crate::columns::Values;
use std::collections::{BTreeMap, HashMap, HashSet};
use vocabulary::model::Task;

/// String columns with more categories than this get target means instead of codes. As in `FeatureSpec::target_mean`.
const CODES_MAX: usize = 16;
/// Rows' worth of prior in a target mean. A judgement, in the customary range of 10 to 100.
const SMOOTHING: f64 = 20.0;
/// A key seen fewer times is treated as unseen, so that models meet unseen keys while they learn.
const KEY_ROWS_MIN: u64 = 2;
/// Means of one step at most: some 10 MB in a pipeline. The keys are the most frequent ones.
const MEANS_MAX: usize = 100_000;
/// Classes with a mean of their own at most: the most frequent ones. A judgement: each is a column, and costs as one.
const CLASSES_MAX: usize = 16;
/// A number named like a key is one where its values come back this often on average.
const ROWS_PER_KEY_MIN: usize = 2;

impl Fitter<'_> {
    /// One category as a slot: of its own table for a network, of the shared one otherwise.
    pub(super) fn slot(&mut self, columns: Vec<String>) -> Result<Option<Step>, FeatureError> {
        let (views, name) = (self.views(&columns)?, columns.join("*"));
        if self.recipe != Recipe::Network {
            let useful = columns.len() > 1 || self.says_something(&name, views[0]);
            return Ok(useful.then_some(Step::Category { columns }));
        }
        let min_rows = u64::from(self.spec.features.vocabulary.min_rows);
        let census = Census::take(&views, self.rows(), min_rows);
        if census.different() == 0 {
            self.note(format!("\"{name}\" has no value in the rows to learn from; it is left out"));
            return Ok(None);
        }
        if census.ranked.is_empty() {
            self.note(format!("\"{name}\" has no value that occurs {min_rows} times; it is left out"));
            return Ok(None);
        }
        if census.different() == 1 && census.nulls == 0 {
            self.note(constant_note(&name, &format!("\"{}\"", census.ranked[0].0)));
        }
        self.censuses.push(census);
        Ok(Some(Step::Vocabulary { columns, values: Vec::new(), buckets: 1 }))
    }

    /// Whether a value comes back; notes where none does, or where there is but one.
    fn says_something(&mut self, name: &str, values: Values<'_>) -> bool {
        let (mut seen, mut rows, mut nulls, mut buffer) = (HashSet::<String>::new(), 0u64, 0u64, String::new());
        for row in self.rows() {
            let new =
                with_key(&[values], &[0], row, &mut buffer, |key| !seen.contains(key) && seen.insert(key.to_owned()));
            match new {
                None => nulls += 1,
                Some(_) => rows += 1,
            }
            // Two different values of which one came back: the usual case, seen within a few rows.
            if seen.len() > 1 && rows > seen.len() as u64 {
                return true;
            }
        }
        match seen.len() as u64 {
            0 => self.note(format!("\"{name}\" has no value in the rows to learn from; it is left out")),
            1 if nulls == 0 => {
                let value = seen.into_iter().next().unwrap_or_default();
                self.note(constant_note(name, &format!("\"{value}\"")));
                return true;
            }
            1 => return true,
            _ => self.note(format!("\"{name}\" has no value that occurs twice; it is left out")),
        }
        false
    }

    /// Codes for the frequent categories, or means: by the declaration, or else by the number of categories.
    pub(super) fn category(&mut self, column: String, means: Means) -> Result<Option<Step>, FeatureError> {
        let census = Census::take(&[self.view(&column)?], self.rows(), 1);
        if census.different() == 0 {
            self.note(format!("\"{column}\" has no value in the rows to learn from; it is left out"));
            return Ok(None);
        }
        if census.different() == 1 && census.nulls == 0 {
            self.note(constant_note(&column, &format!("\"{}\"", census.ranked[0].0)));
        }
        let many = census.different() > CODES_MAX;
        match means {
            Means::Always => return self.means(vec![column]),
            Means::IfMany if many => return self.means(vec![column]),
            Means::Declared if many => return Ok(None),
            Means::IfMany | Means::Declared | Means::Never => {}
        }
        let values = census.ranked.into_iter().take(CODES_MAX).map(|(value, _)| value).collect();
        Ok(Some(Step::Codes { column, values }))
    }

    /// An int column that is named like a key, and stands as a number already: a category as well where its values come
    /// back.
    pub(super) fn key(&mut self, column: String) -> Result<Option<Step>, FeatureError> {
        let census = Census::take(&[self.view(&column)?], self.rows(), 1);
        let rows = self.data.rows.len() - census.nulls as usize;
        let comes_back = census.different() > CODES_MAX && census.different() * ROWS_PER_KEY_MIN <= rows;
        if !comes_back {
            return Ok(None);
        }
        match self.recipe {
            Recipe::Trees => self.means(vec![column]),
            Recipe::Linear | Recipe::Network => self.slot(vec![column]),
        }
    }

    pub(super) fn means(&mut self, columns: Vec<String>) -> Result<Option<Step>, FeatureError> {
        let classes = self.classes();
        let learned = Learned::of(classes.as_deref());
        let width = learned.width();
        let Tallied { priors, tallies, kept } = self.tallied(&columns, &learned, KEY_ROWS_MIN)?;
        if kept.is_empty() {
            return Ok(None);
        }
        let mean = |tally: &Tally, place: usize| smoothed(tally.sums[place], tally.targets, priors[place], SMOOTHING);
        let log_count = |tally: &Tally| (tally.rows as f64).ln_1p();
        Ok(Some(match classes {
            None => {
                let entry = |tally: &Tally| Mean { mean: mean(tally, 0), log_count: log_count(tally) };
                let entries = kept.iter().map(|key| (key.clone(), entry(&tallies[key]))).collect();
                Step::Means { columns, prior: priors[0], smoothing: SMOOTHING, entries }
            }
            Some(classes) => {
                let entry = |tally: &Tally| ClassMean {
                    means: (0..width).map(|place| mean(tally, place) as f32).collect(),
                    log_count: log_count(tally),
                };
                let entries: BTreeMap<String, ClassMean> =
                    kept.iter().map(|key| (key.clone(), entry(&tallies[key]))).collect();
                Step::ClassMeans { columns, classes, priors, smoothing: SMOOTHING, entries }
            }
        }))
    }

    /// What each key has seen, and which keys are kept; with a note where none is.
    pub(super) fn tallied(
        &mut self,
        columns: &[String],
        learned: &Learned,
        min_rows: u64,
    ) -> Result<Tallied, FeatureError> {
        let views = self.views(columns)?;
        let target = |row: usize| Some(self.data.target[row]).filter(|value| value.is_finite());
        let width = learned.width();
        let mut whole = Tally::new(width);
        self.rows().for_each(|row| whole.add(target(row), learned));
        let priors: Vec<f64> = whole.sums.iter().map(|sum| sum / whole.targets.max(1.0)).collect();
        let places: Vec<usize> = (0..columns.len()).collect();
        let (mut tallies, mut buffer) = (HashMap::<String, Tally>::new(), String::new());
        for row in self.rows() {
            with_key(&views, &places, row, &mut buffer, |key| {
                let tally = match tallies.get_mut(key) {
                    Some(tally) => tally,
                    None => tallies.entry(key.to_owned()).or_insert_with(|| Tally::new(width)),
                };
                tally.add(target(row), learned);
            });
        }
        let most = (MEANS_MAX / width.max(1)).max(1);
        let kept = self.frequent(columns, &tallies, most, min_rows).unwrap_or_default();
        Ok(Tallied { priors, tallies, kept })
    }

    /// The classes that get a mean of their own: the most frequent ones, in their declared order; the second alone where
    /// there are two. None where the target is one quantity.
    pub(super) fn classes(&self) -> Option<Vec<Class>> {
        if self.spec.task != Task::Multiclass {
            return None;
        }
        let names = self.spec.class_names();
        let mut counts = vec![0u64; names.len()];
        for target in self.rows().map(|row| self.data.target[row]).filter(|target| target.is_finite()) {
            if let Some(count) = counts.get_mut(target as usize) {
                *count += 1;
            }
        }
        let mut places: Vec<usize> = (0..names.len()).collect();
        places.sort_by_key(|place| std::cmp::Reverse(counts[*place]));
        places.truncate(CLASSES_MAX);
        places.sort_unstable();
        if names.len() == 2 {
            places = vec![1];
        }
        Some(places.into_iter().map(|place| Class { place: place as u32, name: names[place].clone() }).collect())
    }

    /// The keys that get means, with a note where they are not all; none where there are none.
    fn frequent(
        &mut self,
        columns: &[String],
        tallies: &HashMap<String, Tally>,
        most: usize,
        min_rows: u64,
    ) -> Option<Vec<String>> {
        let name = columns.join("*");
        let counts = tallies.iter().filter(|(_, tally)| tally.rows >= min_rows);
        let kept = most_frequent(counts.map(|(key, tally)| (key.as_str(), tally.rows)).collect(), most);
        if kept.is_empty() {
            self.note(format!("\"{name}\" has no value that occurs {min_rows} times; it is left out"));
            return None;
        }
        if kept.len() == most {
            self.note(format!("of the {} values of \"{name}\" only the {most} most frequent are kept", tallies.len()));
        }
        Some(kept.into_iter().map(|(key, _)| key.to_owned()).collect())
    }
}

/// What all keys have seen.
pub(super) struct Tallied {
    /// The mean of all rows for each of what is learned.
    pub(super) priors: Vec<f64>,
    pub(super) tallies: HashMap<String, Tally>,
    /// The keys that are frequent enough, the most frequent first.
    pub(super) kept: Vec<String>,
}

/// What one key has seen. Sums run in the order of the rows.
pub(super) struct Tally {
    pub(super) rows: u64,
    pub(super) targets: f64,
    pub(super) sums: Vec<f64>,
}

impl Tally {
    fn new(width: usize) -> Tally {
        Tally { rows: 0, targets: 0.0, sums: vec![0.0; width] }
    }

    fn add(&mut self, target: Option<f64>, learned: &Learned) {
        self.rows += 1;
        if let Some(target) = target {
            self.targets += 1.0;
            learned.add(target, &mut self.sums);
        }
    }
}

/// The most frequent first; of equally frequent ones the lesser.
fn most_frequent(counts: Vec<(&str, u64)>, most: usize) -> Vec<(&str, u64)> {
    let mut ranked = counts;
    ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    ranked.truncate(most);
    ranked
}
