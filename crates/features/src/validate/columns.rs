//! What is counted of each column of a table, in one pass, and what of that can be added up.

use super::distance::distance;
use super::report::{Example, Finding, Status};
use crate::columns::Values;
use crate::hash::{Atom, Purpose, SlotHash};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use vocabulary::contract::{Column, ColumnKind, Contract, Distribution, Expectation, Measure};
use vocabulary::profile::{Bins, FeatureReference};
use vocabulary::time::{Span, Timestamp};

/// Rows shown for an expectation.
pub(super) const EXAMPLES_MAX: usize = 5;

/// What a column's values over all rows are compared with.
#[derive(Clone, Debug)]
pub(super) struct ColumnPlan {
    pub(super) column: Column,
    pub(super) guess: usize,
    /// How old the newest event with a value may be.
    freshness: Option<Span>,
    shape: Option<Shape>,
}

/// A distribution to keep.
#[derive(Clone, Debug)]
struct Shape {
    declared: Distribution,
    measure: Measure,
    reference: Option<Reference>,
}

#[derive(Clone, Debug)]
struct Reference {
    bins: Bins,
    /// Of words, the place of each among the bins.
    places: HashMap<String, usize>,
    /// Of each bin, nulls aside.
    shares: Vec<f64>,
    whence: &'static str,
}

/// What was seen of a column.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnSeen {
    nulls: u64,
    /// Of each value the first row that has it.
    first: HashMap<u128, u64, BuildHasherDefault<AsIs>>,
    doubles: u64,
    /// The first rows that repeat a value, and the value.
    repeats: Vec<(u64, u128)>,
    bins: Vec<u64>,
    /// The newest event with a value.
    newest: Option<i64>,
}

/// Keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

impl ColumnPlan {
    /// `registered` are the references of a version, for columns whose contract has none.
    pub(super) fn new(
        contract: &Contract,
        column: &Column,
        guess: usize,
        registered: &[FeatureReference],
    ) -> ColumnPlan {
        let by_row = contract.time.as_ref() != Some(&column.name)
            && contract.time.is_some()
            && (column.kind == ColumnKind::Timestamp || column.observed_at.is_some());
        let shape = column.distribution.as_ref().map(|declared| Shape {
            declared: declared.clone(),
            measure: declared.measure_for(column.kind),
            reference: Reference::declared(declared)
                .or_else(|| Reference::registered(registered.iter().find(|feature| feature.name == column.name)?)),
        });
        ColumnPlan { column: column.clone(), guess, freshness: column.freshness.filter(|_| !by_row), shape }
    }

    pub(super) fn is_idle(&self) -> bool {
        let column = &self.column;
        !column.unique && column.null_share.is_none() && self.freshness.is_none() && self.shape.is_none()
    }

    /// Takes the rows of a batch; `first` is the place of its first row, `times` are its events' instants.
    pub(super) fn observe(&self, values: &Values<'_>, first: u64, times: Option<&Values<'_>>, seen: &mut ColumnSeen) {
        seen.nulls += values.null_count() as u64;
        if self.column.unique {
            for row in (0..values.len()).filter(|row| !values.is_null(*row)) {
                seen.add(fingerprint(values, row), first + row as u64);
            }
        }
        if let (Some(_), Some(times)) = (self.freshness, times) {
            let newest =
                (0..values.len()).filter(|row| !values.is_null(*row)).filter_map(|row| times.micros(row)).max();
            seen.newest = seen.newest.max(newest);
        }
        if let Some(reference) = self.shape.as_ref().and_then(|shape| shape.reference.as_ref()) {
            seen.bins.resize(reference.shares.len(), 0);
            for row in (0..values.len()).filter(|row| !values.is_null(*row)) {
                seen.bins[reference.bin(values, row)] += 1;
            }
        }
    }

    /// What the column's expectations came to.
    pub(super) fn findings(&self, seen: &ColumnSeen, rows: u64, as_of: Option<Timestamp>) -> Vec<Finding> {
        let mut found = Vec::new();
        let share = |count: u64| if rows == 0 { 0.0 } else { count as f64 / rows as f64 };
        if let Some(most) = self.column.null_share {
            let is = share(seen.nulls);
            let said = format!("{:.3} % are null", 100.0 * is);
            let declared = format!("at most {} % null", 100.0 * most);
            let finding = self.finding(Expectation::NullShare, declared, is > most, said);
            found.push(Finding { count: seen.nulls, share: is, ..finding });
        }
        if self.column.unique {
            let said = format!("{} rows repeat a value", seen.doubles);
            let finding = self.finding(Expectation::Unique, "no value twice".into(), seen.doubles > 0, said);
            let example = |(row, value): &(u64, u128)| Example {
                row: *row,
                values: [("repeats row".to_owned(), seen.first.get(value).copied().into())].into_iter().collect(),
            };
            let examples = seen.repeats.iter().map(example).collect();
            found.push(Finding { count: seen.doubles, share: share(seen.doubles), examples, ..finding });
        }
        found.extend(self.freshness.map(|most| self.fresh(most, seen, as_of)));
        found.extend(self.shape.as_ref().map(|shape| self.shaped(shape, seen)));
        found
    }

    fn fresh(&self, most: Span, seen: &ColumnSeen, as_of: Option<Timestamp>) -> Finding {
        let declared = format!("the newest event with a value at most {most} old");
        match (seen.newest, as_of) {
            (Some(newest), Some(as_of)) => {
                let age = as_of - Timestamp(newest);
                let said = format!("it is of {}, at {as_of}", Timestamp(newest));
                self.finding(Expectation::Freshness, declared, age > most, said)
            }
            (None, Some(_)) => self.finding(Expectation::Freshness, declared, true, "no row has a value".into()),
            _ => self.skipped(Expectation::Freshness, declared, "the contract declares no time, or no row has one"),
        }
    }

    fn shaped(&self, shape: &Shape, seen: &ColumnSeen) -> Finding {
        let (measure, tolerance) = (shape.measure, shape.declared.tolerance);
        let declared = format!("{} from its reference at most {tolerance}", measure.name());
        let Some(reference) = &shape.reference else {
            let why = "there is no reference: the contract has none, and no version is registered that has";
            return self.skipped(Expectation::Distribution, declared, why);
        };
        let values: u64 = seen.bins.iter().sum();
        if values == 0 {
            return self.skipped(Expectation::Distribution, declared, "no row has a value");
        }
        let shares: Vec<f64> = seen.bins.iter().map(|count| *count as f64 / values as f64).collect();
        let distance = distance(measure, &shares, &reference.shares);
        let said = format!("{distance:.4} from {}{}", reference.whence, reference.widest(&shares));
        self.finding(Expectation::Distribution, declared, distance > tolerance, said)
    }

    fn finding(&self, expectation: Expectation, declared: String, broken: bool, said: String) -> Finding {
        super::of_table(&self.column.name, expectation, self.column.severity_of(expectation), declared, broken, said)
    }

    fn skipped(&self, expectation: Expectation, declared: String, why: &str) -> Finding {
        Finding { status: Status::Skipped, ..self.finding(expectation, declared, false, why.to_owned()) }
    }
}

impl ColumnSeen {
    fn add(&mut self, fingerprint: u128, row: u64) {
        let first = *self.first.entry(fingerprint).or_insert(row);
        if first != row {
            self.doubles += 1;
            if self.repeats.len() < EXAMPLES_MAX {
                self.repeats.push((row, fingerprint));
            }
        }
    }

    /// Adds what was seen of later rows.
    pub(super) fn merge(&mut self, later: ColumnSeen) {
        self.nulls += later.nulls;
        self.newest = self.newest.max(later.newest);
        self.doubles += later.doubles;
        if self.bins.len() < later.bins.len() {
            self.bins.resize(later.bins.len(), 0);
        }
        self.bins.iter_mut().zip(&later.bins).for_each(|(sum, count)| *sum += count);
        let mut repeats = later.repeats;
        for (fingerprint, row) in later.first {
            let first = *self.first.entry(fingerprint).or_insert(row);
            if first != row {
                self.doubles += 1;
                repeats.push((row, fingerprint));
            }
        }
        // The map gives its keys in no order; the rows shown are the first.
        repeats.sort_unstable();
        self.repeats.extend(repeats);
        self.repeats.truncate(EXAMPLES_MAX);
    }
}

/// 128 bits of a value's hash: of ten million different values, two are alike once in 10^24 tables.
fn fingerprint(values: &Values<'_>, row: usize) -> u128 {
    let atom = match values {
        Values::Float(array) => Atom::Int((array.value(row) + 0.0).to_bits() as i64),
        Values::Time(array) => Atom::Int(array.value(row)),
        _ => values.atom(row),
    };
    let half = |seed| u128::from(SlotHash::prefix(seed, Purpose::Unknown, &[]).with(atom).finish());
    half(1) << 64 | half(2)
}

impl Reference {
    fn declared(declared: &Distribution) -> Option<Reference> {
        let mut shares = declared.shares.clone()?;
        let bins = match (&declared.edges, &declared.values) {
            (Some(edges), _) => Bins::Numeric { edges: edges.clone() },
            (_, Some(values)) => {
                shares.push((1.0 - shares.iter().sum::<f64>()).max(0.0));
                Bins::Categories { values: values.clone() }
            }
            _ => return None,
        };
        Some(Reference::new(bins, shares, "the contract's reference"))
    }

    fn registered(feature: &FeatureReference) -> Option<Reference> {
        let mut counts = vec![0u64; feature.bins.len()];
        for hour in &feature.counts {
            counts.iter_mut().zip(hour).for_each(|(sum, count)| *sum += u64::from(*count));
        }
        let counts = &counts[1..];
        let values: u64 = counts.iter().sum();
        let shares = counts.iter().map(|count| *count as f64 / values as f64).collect();
        (values > 0).then(|| Reference::new(feature.bins.clone(), shares, "the version's reference"))
    }

    fn new(bins: Bins, shares: Vec<f64>, whence: &'static str) -> Reference {
        let places = match &bins {
            Bins::Categories { values } => values.iter().cloned().zip(0..).collect(),
            Bins::Numeric { .. } => HashMap::new(),
        };
        Reference { bins, places, shares, whence }
    }

    /// The bin of a value that is not null, from 0.
    fn bin(&self, values: &Values<'_>, row: usize) -> usize {
        let last = self.shares.len() - 1;
        let word = |word: &str| self.places.get(word).copied().unwrap_or(last);
        match (&self.bins, values) {
            (Bins::Categories { .. }, Values::Text(array)) => word(array.value(row)),
            (Bins::Categories { .. }, Values::Bool(array)) => word(if array.value(row) { "true" } else { "false" }),
            (Bins::Numeric { edges }, _) => {
                values.number(row).map_or(last, |value| edges.partition_point(|edge| *edge < value)).min(last)
            }
            _ => last,
        }
    }

    /// Where the distributions differ most, in words.
    fn widest(&self, shares: &[f64]) -> String {
        let gap = |(_, (a, b)): &(usize, (&f64, &f64))| (**a - **b).abs();
        let widest = shares.iter().zip(&self.shares).enumerate().max_by(|a, b| gap(a).total_cmp(&gap(b)));
        let Some((place, (is, was))) = widest else { return String::new() };
        let bin = match &self.bins {
            Bins::Categories { values } => match values.get(place) {
                Some(value) => format!("\"{value}\""),
                None => "other words".to_owned(),
            },
            Bins::Numeric { edges } if edges.is_empty() => "all".to_owned(),
            Bins::Numeric { edges } if place == 0 => format!("up to {}", edges[0]),
            Bins::Numeric { edges } if place >= edges.len() => format!("above {}", edges[edges.len() - 1]),
            Bins::Numeric { edges } => format!("above {} up to {}", edges[place - 1], edges[place]),
        };
        format!("; most of all {bin}: {:.2} % instead of {:.2} %", 100.0 * is, 100.0 * was)
    }
}
