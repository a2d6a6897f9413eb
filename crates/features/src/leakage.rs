//! Columns that know the outcome: what was written after the event must not be an input, or the model is good only until
//! it is used. Three signs, of which the first is declared and the others are seen in the data:
//!
//! - `known_at` of the contract names an instant that comes after the event;
//! - a column has values only where the outcome is known, and (nearly) always there;
//! - a column alone tells the target almost perfectly, on rows that this was not learned from.
//!
//! Each sign is strict, since a false alarm stops honest work: on real data no single column known beforehand tells the
//! target that well. Where one does, the contract can say so (`known_at = "event"`).

use crate::FeatureError;
use crate::columns::{Values, column_index};
use crate::hash::Atom;
use crate::statistics::{edges, sorted_finite};
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use std::collections::HashMap;
use vocabulary::contract::{Column, ColumnKind, Contract, KNOWN_AT_EVENT};
use vocabulary::model::{ModelSpec, Task};
use vocabulary::time::Timestamp;

/// How well a column alone must tell the target to be suspected: area under the curve, or the share of what a constant
/// guess leaves open. A judgement: the best honest column of the flights reaches .69, of the census incomes (adult) .78.
pub const TELLS_AT_LEAST: f64 = 0.99;
/// Rows with and without an outcome, or of each class, from which something is concluded.
const ROWS_MIN: usize = 20;
/// Rows that are looked at; of more, every second, third … is taken.
const ROWS_MAX: usize = 100_000;
/// Parts of about equal weight into which a column's numbers are cut.
const NUMERIC_BINS: usize = 256;
/// A column of words with more different values than rows divided by this names things one by one: it recalls, and does
/// not tell.
const ROWS_A_WORD: usize = 20;

/// A column that seems to know the outcome.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Leak {
    pub column: String,
    pub sign: Sign,
    /// Why it is suspected.
    pub what: String,
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// By declaration it becomes known after the event.
    KnownLater,
    /// It is there exactly where the outcome is.
    ThereWithOutcome,
    /// It alone tells the target.
    TellsTarget,
}

/// The suspects among the columns that a model takes as inputs. `batch` is canonical; `target` has one value a row, NaN
/// where the outcome is not known (see [`crate::target_values`]).
pub fn leaks(
    spec: &ModelSpec,
    contract: &Contract,
    batch: &RecordBatch,
    target: &[f64],
) -> Result<Vec<Leak>, FeatureError> {
    let contract = &*spec.widened(contract);
    let time = spec.time.as_ref().or(contract.time.as_ref());
    let times = match time {
        Some(name) => Some(Values::of_any(batch.column(column_index(batch.schema_ref(), name, usize::MAX)?), name)?),
        None => None,
    };
    let sample: Vec<usize> = (0..batch.num_rows()).step_by(batch.num_rows().div_ceil(ROWS_MAX).max(1)).collect();
    let data = Data { spec, batch, target, times, sample };
    let mut leaks = Vec::new();
    let mut told: Vec<(&Column, f64)> = Vec::new();
    for column in contract.columns.iter().filter(|column| is_input(spec, contract, column)) {
        match &column.known_at {
            Some(known) if known == KNOWN_AT_EVENT || Some(known) == time => continue,
            Some(known) => leaks.extend(data.known_later(column, known)?),
            None => match data.there_with_outcome(column)? {
                Some(leak) => leaks.push(leak),
                None => told.extend(data.tells(column)?.map(|score| (column, score))),
            },
        }
    }
    told.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.name.cmp(&b.0.name)));
    let honest = told.iter().find(|(_, score)| *score < TELLS_AT_LEAST).copied();
    let suspects = told.iter().filter(|(_, score)| *score >= TELLS_AT_LEAST);
    leaks.extend(suspects.map(|(column, score)| data.teller(column, *score, honest)));
    Ok(leaks)
}

/// Whether the pipeline takes the column for itself or its parts.
fn is_input(spec: &ModelSpec, contract: &Contract, column: &Column) -> bool {
    let features = &spec.features;
    let reserved = spec.reserved_columns().chain(contract.key.as_deref()).any(|name| name == column.name);
    let listed = features.columns.contains(&column.name);
    let differs = features.difference.iter().any(|d| d.later == column.name || d.earlier == column.name);
    let excluded = features.exclude.contains(&column.name);
    (listed || (features.columns.is_empty() && !reserved) || (differs && !reserved)) && !excluded
}

struct Data<'a> {
    spec: &'a ModelSpec,
    batch: &'a RecordBatch,
    target: &'a [f64],
    /// When the events were.
    times: Option<Values<'a>>,
    /// The rows that are looked at.
    sample: Vec<usize>,
}

impl<'a> Data<'a> {
    fn values(&self, column: &Column) -> Result<Values<'a>, FeatureError> {
        let index = column_index(self.batch.schema_ref(), &column.name, usize::MAX)?;
        Values::new(self.batch.column(index), &column.name, column.kind)
    }

    fn known_later(&self, column: &Column, known: &str) -> Result<Option<Leak>, FeatureError> {
        let Some(times) = &self.times else { return Ok(None) };
        let values = self.values(column)?;
        let index = column_index(self.batch.schema_ref(), known, usize::MAX)?;
        let known_at = Values::new(self.batch.column(index), known, ColumnKind::Timestamp)?;
        let later = |row: &usize| {
            let pair = known_at.micros(*row).zip(times.micros(*row));
            !values.is_null(*row) && pair.is_some_and(|(known, event)| known > event)
        };
        let rows: Vec<usize> = (0..self.batch.num_rows()).filter(later).collect();
        let Some(first) = rows.first() else { return Ok(None) };
        let instant =
            |values: &Values<'_>| values.micros(*first).map_or_else(String::new, |at| Timestamp(at).to_string());
        Ok(Some(Leak {
            column: column.name.clone(),
            sign: Sign::KnownLater,
            what: format!(
                "in {} of {} rows it became known after the event; the first: row {first}, known at {} ({known}), the event at {}",
                rows.len(),
                self.batch.num_rows(),
                instant(&known_at),
                instant(times)
            ),
            remedy: format!(
                "take what was known at the event into the data, or exclude it: [features] exclude = [\"{}\"]",
                column.name
            ),
        }))
    }

    fn there_with_outcome(&self, column: &Column) -> Result<Option<Leak>, FeatureError> {
        let values = self.values(column)?;
        // With the outcome known and not known: rows, and rows with a value.
        let (mut rows, mut there) = ([0usize; 2], [0usize; 2]);
        for row in 0..self.batch.num_rows() {
            let known = usize::from(!self.target[row].is_nan());
            rows[known] += 1;
            there[known] += usize::from(!values.is_null(row));
        }
        let enough = rows.iter().all(|rows| *rows >= ROWS_MIN);
        if !enough || there[0] > 0 || (there[1] as f64) < TELLS_AT_LEAST * rows[1] as f64 {
            return Ok(None);
        }
        Ok(Some(Leak {
            column: column.name.clone(),
            sign: Sign::ThereWithOutcome,
            what: format!(
                "it has a value in {} of {} rows whose outcome is known, and in none of {} whose outcome is not: it is \
                 written with the outcome",
                there[1], rows[1], rows[0]
            ),
            remedy: self.remedy(column),
        }))
    }

    fn teller(&self, column: &Column, score: f64, honest: Option<(&Column, f64)>) -> Leak {
        let measure = match self.spec.task {
            Task::Binary => "area under the curve",
            Task::Multiclass => "share of a constant guess's errors that it avoids",
            Task::Regression => "share of the variance of the target's ranks",
        };
        let next = honest.map_or_else(String::new, |(next, score)| {
            format!("; the best of the other columns, \"{}\", has {score:.2}", next.name)
        });
        Leak {
            column: column.name.clone(),
            sign: Sign::TellsTarget,
            what: format!(
                "it alone tells \"{}\" almost perfectly ({measure} {score:.4} on rows that this was not learned from{next}): \
                 it was probably written when the outcome was known",
                self.spec.target
            ),
            remedy: self.remedy(column),
        }
    }

    fn remedy(&self, column: &Column) -> String {
        format!(
            "exclude it: [features] exclude = [\"{}\"]; or, if it is known when the event is, say so in the contract: \
             known_at = \"{KNOWN_AT_EVENT}\"",
            column.name
        )
    }

    /// How well the column alone tells the target, from 0 to 1; none where that can't be said. Two halves of the rows
    /// teach each other.
    fn tells(&self, column: &Column) -> Result<Option<f64>, FeatureError> {
        let values = self.values(column)?;
        let rows: Vec<usize> = self.sample.iter().copied().filter(|row| !self.target[*row].is_nan()).collect();
        let Some(bins) = self.bins(&values, &rows) else { return Ok(None) };
        let outcomes: Vec<f64> = rows.iter().map(|row| self.target[*row]).collect();
        let halves = [0, 1].map(|half| {
            let split = |taught: bool| (0..rows.len()).filter(move |place| (place % 2 == half) == taught);
            match self.spec.task {
                Task::Binary => area(&bins, &outcomes, split(true), split(false)),
                Task::Multiclass => avoided(&bins, &outcomes, split(true), split(false)),
                Task::Regression => {
                    let ranks = ranks(&outcomes);
                    explained(&bins, &ranks, split(true), split(false))
                }
            }
        });
        Ok(halves[0].zip(halves[1]).map(|(a, b)| 0.5 * (a + b)))
    }

    /// The bin of each row; none for columns that name things one by one.
    fn bins(&self, values: &Values<'a>, rows: &[usize]) -> Option<Bins> {
        if rows.len() < 2 * ROWS_MIN {
            return None;
        }
        let number = |row: usize| match (values, &self.times) {
            (Values::Time(_), Some(times)) => Some(values.micros(row)?.saturating_sub(times.micros(row)?) as f64),
            (Values::Time(_), None) => values.micros(row).map(|at| at as f64),
            _ => values.number(row),
        };
        if matches!(values, Values::Text(_) | Values::Bool(_)) {
            let mut places: HashMap<Atom<'_>, usize> = HashMap::new();
            let of = rows.iter().map(|row| {
                let next = places.len();
                *places.entry(values.atom(*row)).or_insert(next)
            });
            let of: Vec<usize> = of.collect();
            let recalls = places.len() > 2 && places.len() > rows.len() / ROWS_A_WORD;
            return (!recalls).then_some(Bins { of, count: places.len() });
        }
        let edges =
            edges(&sorted_finite(rows.iter().map(|row| number(*row))), NUMERIC_BINS.min(rows.len() / ROWS_A_WORD));
        let bin = |row: &usize| number(*row).map_or(0, |value| 1 + edges.partition_point(|edge| *edge < value));
        Some(Bins { of: rows.iter().map(bin).collect(), count: edges.len() + 2 })
    }
}

struct Bins {
    of: Vec<usize>,
    count: usize,
}

/// The area under the curve of the bins' means, learned from `taught`, on `asked`; ties count half.
fn area(
    bins: &Bins,
    outcomes: &[f64],
    taught: impl Iterator<Item = usize>,
    asked: impl Iterator<Item = usize>,
) -> Option<f64> {
    let means = means(bins, outcomes, taught)?;
    let mut found: Vec<(f64, f64)> = asked.map(|place| (means[bins.of[place]], outcomes[place])).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut pairs, mut positives) = (0.0, 0.0, 0.0);
    for tied in found.chunk_by(|a, b| a.0 == b.0) {
        let ones: f64 = tied.iter().map(|(_, outcome)| outcome).sum();
        let zeros = tied.len() as f64 - ones;
        pairs += ones * (below + 0.5 * zeros);
        below += zeros;
        positives += ones;
    }
    let enough = positives >= ROWS_MIN as f64 / 2.0 && below >= ROWS_MIN as f64 / 2.0;
    enough.then(|| pairs / (positives * below))
}

/// The share of the variance that the bins' means explain.
fn explained(
    bins: &Bins,
    outcomes: &[f64],
    taught: impl Iterator<Item = usize>,
    asked: impl Iterator<Item = usize>,
) -> Option<f64> {
    let means = means(bins, outcomes, taught)?;
    let asked: Vec<usize> = asked.collect();
    let mean = asked.iter().map(|place| outcomes[*place]).sum::<f64>() / asked.len() as f64;
    let (mut left, mut all) = (0.0, 0.0);
    for place in asked {
        let (error, deviation) = (outcomes[place] - means[bins.of[place]], outcomes[place] - mean);
        left += error * error;
        all += deviation * deviation;
    }
    (all > 0.0).then(|| 1.0 - left / all)
}

/// The mean of each bin; that of all where a bin is empty.
fn means(bins: &Bins, outcomes: &[f64], taught: impl Iterator<Item = usize>) -> Option<Vec<f64>> {
    let mut sums = vec![(0.0, 0.0); bins.count];
    for place in taught {
        let (sum, count) = &mut sums[bins.of[place]];
        *sum += outcomes[place];
        *count += 1.0;
    }
    let (sum, count) = sums.iter().fold((0.0, 0.0), |all, bin| (all.0 + bin.0, all.1 + bin.1));
    let mean = |(s, n): &(f64, f64)| if *n > 0.0 { s / n } else { sum / count };
    (count > 0.0).then(|| sums.iter().map(mean).collect())
}

/// Of the errors that the most frequent class would make, the share that each bin's most frequent class does not.
fn avoided(
    bins: &Bins,
    classes: &[f64],
    taught: impl Iterator<Item = usize>,
    asked: impl Iterator<Item = usize>,
) -> Option<f64> {
    let count = 1 + classes.iter().fold(0.0_f64, |most, class| most.max(*class)) as usize;
    let mut counts = vec![vec![0u32; count]; bins.count];
    let mut all = vec![0u32; count];
    for place in taught {
        counts[bins.of[place]][classes[place] as usize] += 1;
        all[classes[place] as usize] += 1;
    }
    let most = |counts: &[u32]| (0..count).max_by_key(|class| (counts[*class], std::cmp::Reverse(*class))).unwrap_or(0);
    let guess = most(&all);
    let guesses: Vec<usize> =
        counts.iter().map(|counts| if counts.iter().all(|n| *n == 0) { guess } else { most(counts) }).collect();
    let (mut wrong, mut wrong_constant) = (0usize, 0usize);
    for place in asked {
        wrong += usize::from(guesses[bins.of[place]] != classes[place] as usize);
        wrong_constant += usize::from(guess != classes[place] as usize);
    }
    (wrong_constant >= ROWS_MIN / 2).then(|| 1.0 - wrong as f64 / wrong_constant as f64)
}

/// The place of each value among all, from 0 to 1; the same values have the same.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = (before as f64 + 0.5 * tied.len() as f64) / values.len() as f64;
        tied.iter().for_each(|place| ranks[*place] = rank);
        before += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{column, contract, spec};
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    const ROWS: usize = 2000;

    fn uniform(row: usize, purpose: u64) -> f64 {
        let hash = crate::hash::finish(row as u64 * 31 + purpose * 1_000_003);
        (hash >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A delay that is half told by the wind; late from 15 minutes on; every ninth outcome is not known.
    fn delay(row: usize) -> f64 {
        30.0 * uniform(row, 1) + 25.0 * (uniform(row, 2) - 0.5)
    }

    fn is_known(row: usize) -> bool {
        !row.is_multiple_of(9)
    }

    type Planted = (&'static str, ColumnKind, ArrayRef);

    fn floats(value: impl Fn(usize) -> Option<f64>) -> ArrayRef {
        Arc::new((0..ROWS).map(value).collect::<Float64Array>())
    }

    fn instants(value: impl Fn(usize) -> Option<i64>) -> ArrayRef {
        Arc::new((0..ROWS).map(value).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    }

    fn found(planted: Vec<Planted>, task: Task, edit: impl FnOnce(&mut Contract, &mut ModelSpec)) -> Vec<Leak> {
        let minute = 60_000_000;
        let at = instants(|row| Some(row as i64 * minute));
        let target = floats(|row| {
            is_known(row).then(|| match task {
                Task::Regression => delay(row),
                _ => f64::from(u8::from(delay(row) > 15.0)),
            })
        });
        let mut all: Vec<Planted> = vec![
            ("at", ColumnKind::Timestamp, at),
            ("y", ColumnKind::Float, target),
            ("wind", ColumnKind::Float, floats(|row| Some(uniform(row, 1)))),
            ("noise", ColumnKind::Float, floats(|row| (uniform(row, 3) < 0.9).then(|| uniform(row, 4)))),
        ];
        all.extend(planted);
        let mut contract = contract(all.iter().map(|(name, kind, _)| column(name, *kind)).collect());
        contract.time = Some("at".into());
        let mut spec = ModelSpec { task, time: Some("at".into()), ..spec("y") };
        edit(&mut contract, &mut spec);
        let batch =
            RecordBatch::try_from_iter_with_nullable(all.into_iter().map(|(name, _, array)| (name, array, true)));
        let batch = batch.unwrap();
        let target = crate::target_values(&spec, &batch).unwrap();
        leaks(&spec, &contract, &batch, &target).unwrap()
    }

    fn signs(leaks: &[Leak]) -> Vec<(&str, Sign)> {
        leaks.iter().map(|leak| (leak.column.as_str(), leak.sign)).collect()
    }

    #[test]
    fn honest_columns_are_not_suspected() {
        for task in [Task::Binary, Task::Regression] {
            assert_eq!(signs(&found(Vec::new(), task, |_, _| {})), []);
        }
        let name: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("n{}", row / 3))));
        assert_eq!(signs(&found(vec![("name", ColumnKind::String, name)], Task::Binary, |_, _| {})), []);
    }

    #[test]
    fn a_column_that_tells_the_target_is_caught_with_the_reason() {
        let planted = || vec![("minutes", ColumnKind::Float, floats(|row| Some(delay(row).round())))];
        let leaks = found(planted(), Task::Binary, |_, _| {});
        assert_eq!(signs(&leaks), [("minutes", Sign::TellsTarget)]);
        assert!(
            leaks[0].what.contains("it alone tells \"y\"") && leaks[0].what.contains("\"wind\", has 0.8"),
            "{leaks:?}"
        );
        assert!(leaks[0].remedy.contains("exclude = [\"minutes\"]"), "{leaks:?}");
        assert_eq!(signs(&found(planted(), Task::Regression, |_, _| {})), [("minutes", Sign::TellsTarget)]);
        let word: ArrayRef =
            Arc::new(StringArray::from_iter((0..ROWS).map(|row| (delay(row) > 15.0).then_some("yes"))));
        let leaks = found(vec![("refunded", ColumnKind::String, word)], Task::Binary, |_, _| {});
        assert_eq!(signs(&leaks), [("refunded", Sign::TellsTarget)], "null is a value, too");
    }

    #[test]
    fn an_instant_that_tells_the_target_is_caught_by_its_distance_from_the_event() {
        let arrived = instants(|row| Some(row as i64 * 60_000_000 + (delay(row) * 60e6) as i64));
        let leaks = found(vec![("arrived", ColumnKind::Timestamp, arrived)], Task::Binary, |_, _| {});
        assert_eq!(signs(&leaks), [("arrived", Sign::TellsTarget)]);
    }

    #[test]
    fn a_column_that_comes_with_the_outcome_is_caught() {
        let gate: ArrayRef =
            Arc::new((0..ROWS).map(|row| is_known(row).then_some((row % 7) as i64)).collect::<Int64Array>());
        let leaks = found(vec![("gate", ColumnKind::Int, gate)], Task::Binary, |_, _| {});
        assert_eq!(signs(&leaks), [("gate", Sign::ThereWithOutcome)]);
        assert!(leaks[0].what.contains("none of 223 whose outcome is not"), "{leaks:?}");
    }

    #[test]
    fn what_becomes_known_later_by_declaration_is_caught_however_little_it_tells() {
        let planted = || {
            vec![
                ("rating", ColumnKind::Float, floats(|row| Some(uniform(row, 5)))),
                ("rated", ColumnKind::Timestamp, instants(|row| Some((row as i64 + 1) * 60_000_000))),
            ]
        };
        let known = |at: &'static str| {
            move |contract: &mut Contract, spec: &mut ModelSpec| {
                contract.columns.iter_mut().find(|column| column.name == "rating").unwrap().known_at = Some(at.into());
                spec.features.exclude = vec!["rated".into()];
            }
        };
        let leaks = found(planted(), Task::Binary, known("rated"));
        assert_eq!(signs(&leaks), [("rating", Sign::KnownLater)]);
        assert!(
            leaks[0].what.starts_with("in 2000 of 2000 rows it became known after the event; the first: row 0"),
            "{leaks:?}"
        );
        assert_eq!(signs(&found(planted(), Task::Binary, known("at"))), []);
    }

    #[test]
    fn what_is_stated_or_excluded_is_not_suspected() {
        let planted = || vec![("minutes", ColumnKind::Float, floats(|row| Some(delay(row))))];
        let stated = |contract: &mut Contract, _: &mut ModelSpec| contract.columns[4].known_at = Some("event".into());
        assert_eq!(signs(&found(planted(), Task::Binary, stated)), []);
        let excluded = |_: &mut Contract, spec: &mut ModelSpec| spec.features.exclude = vec!["minutes".into()];
        assert_eq!(signs(&found(planted(), Task::Binary, excluded)), []);
    }

    #[test]
    fn classes_are_told_too() {
        let classes = ["a", "b", "c"];
        let class = |row: usize| classes[(3.0 * uniform(row, 1)) as usize];
        let words = |array: Vec<&'static str>| Arc::new(StringArray::from(array)) as ArrayRef;
        let y = words((0..ROWS).map(class).collect());
        let code = words((0..ROWS).map(|row| if class(row) == "b" { "x" } else { class(row) }).collect());
        let noisy = words((0..ROWS).map(|row| if uniform(row, 9) < 0.9 { class(row) } else { "a" }).collect());
        let batch = RecordBatch::try_from_iter([("y", y), ("code", code), ("noisy", noisy)]).unwrap();
        let contract = contract(["y", "code", "noisy"].map(|name| column(name, ColumnKind::String)).to_vec());
        let classes = classes.map(|name| vocabulary::contract::Scalar::Text(name.into())).to_vec();
        let spec = ModelSpec { task: Task::Multiclass, classes, ..spec("y") };
        let target = crate::target_values(&spec, &batch).unwrap();
        assert_eq!(signs(&leaks(&spec, &contract, &batch, &target).unwrap()), [("code", Sign::TellsTarget)]);
    }
}
