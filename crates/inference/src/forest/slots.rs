//! What trees read: each feature in the forms that its nodes want, made once a row. Missing values become an end of the
//! number line there, so that a node needs one comparison. Also knows which numbers the trees cannot tell apart.

use super::build::{Codes, Missing, Test};
use super::{Real, ZERO_THRESHOLD};
use std::collections::HashMap;

/// One form of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Prepare {
    /// As it is; what is missing is NaN.
    Raw(Missing),
    /// What is missing is minus infinity where it passes, else plus infinity.
    Number(Missing, bool),
    /// The category's code; [`NO_CATEGORY`] where there is none, [`EVERY_CATEGORY`] where what is missing passes.
    Category(Codes, bool),
}

pub(super) const NO_CATEGORY: f64 = -1.0;
pub(super) const EVERY_CATEGORY: f64 = -2.0;

/// The forms that a forest's nodes read, and what they compare with.
#[derive(Clone, Debug)]
pub(super) struct Slots<F> {
    features: usize,
    places: HashMap<(usize, Prepare), usize>,
    /// Slot 0 is the constant 0, which leaves read.
    list: Vec<(u32, Prepare)>,
    /// For each feature: the thresholds (`x <= threshold`) of all its nodes.
    thresholds: Vec<Vec<F>>,
    /// For each feature: one more than the largest category that any node knows.
    categories: Vec<u32>,
}

impl<F: Real> Slots<F> {
    pub(super) fn new(features: usize) -> Self {
        Slots {
            features,
            places: HashMap::new(),
            list: Vec::new(),
            thresholds: vec![Vec::new(); features],
            categories: vec![0; features],
        }
    }

    pub(super) fn slot(&mut self, feature: usize, prepare: Prepare) -> usize {
        let next = self.list.len() + 1;
        let place = *self.places.entry((feature, prepare)).or_insert(next);
        if place == next {
            self.list.push((feature as u32, prepare));
            if let Prepare::Raw(Missing::NanOrZero) | Prepare::Number(Missing::NanOrZero, _) = prepare {
                let zero = F::from_f64(ZERO_THRESHOLD);
                self.thresholds[feature].extend([(-zero).next_down(), zero]);
            }
        }
        place
    }

    /// Remembers what a node compares the feature with.
    pub(super) fn note(&mut self, feature: usize, test: &Test<F>) {
        match test {
            Test::AtMost(threshold) => self.thresholds[feature].push(*threshold),
            Test::Below(threshold) => self.thresholds[feature].push(threshold.next_down()),
            Test::Equal(value) => self.thresholds[feature].extend([value.next_down(), *value]),
            Test::Member(bits) => {
                self.categories[feature] = self.categories[feature].max(32 * bits.len() as u32);
            }
        }
    }

    pub(super) fn finish(mut self) -> Self {
        for list in &mut self.thresholds {
            list.retain(|threshold| !threshold.is_nan());
            // Minus zero and zero are one threshold.
            list.iter_mut().for_each(|threshold| *threshold += F::ZERO);
            list.sort_by(F::total_order);
            list.dedup_by(|a, b| a == b);
        }
        self.places = HashMap::new();
        self
    }

    pub(super) fn features(&self) -> usize {
        self.features
    }

    /// Slots of one row.
    pub(super) fn width(&self) -> usize {
        self.list.len() + 1
    }

    pub(super) fn bytes(&self) -> usize {
        self.list.len() * 12 + self.thresholds.iter().map(|list| list.len() * size_of::<F>()).sum::<usize>()
    }

    /// Fills the slots of a row.
    pub(super) fn fill(&self, row: &[F], out: &mut [F]) {
        out[0] = F::ZERO;
        for ((feature, prepare), out) in self.list.iter().zip(&mut out[1..]) {
            *out = prepared(row[*feature as usize], *prepare);
        }
    }

    /// Replaces each number by one number for all that the nodes cannot tell from it: the upper end of its interval
    /// between thresholds, or its category. Walking the result gives the same leaves.
    pub(super) fn canonical(&self, row: &mut [F]) {
        for (feature, value) in row.iter_mut().enumerate() {
            let (thresholds, categories) = (&self.thresholds[feature], self.categories[feature]);
            *value = match (thresholds.last(), categories) {
                (None, 0) => F::ZERO,
                _ if value.is_nan() => F::NAN,
                (Some(last), 0) => {
                    let place = thresholds.partition_point(|threshold| *threshold < *value);
                    thresholds.get(place).copied().unwrap_or_else(|| last.next_up())
                }
                // Between -1 and 0 the libraries differ, so that those numbers stay apart.
                (None, categories) if *value <= F::from_f64(-1.0) || *value >= F::from_f64(f64::from(categories)) => {
                    F::from_f64(NO_CATEGORY)
                }
                (None, _) if *value >= F::ZERO => value.trunc() + F::ZERO,
                (None, _) => F::from_f64(-0.5),
                (Some(_), _) => *value,
            };
        }
    }
}

fn prepared<F: Real>(value: F, prepare: Prepare) -> F {
    let missing = |kind: Missing| {
        let zero = F::from_f64(ZERO_THRESHOLD);
        value.is_nan() || (kind == Missing::NanOrZero && value >= -zero && value <= zero)
    };
    match prepare {
        Prepare::Number(kind, passes) => match (missing(kind), passes) {
            (false, _) => value,
            (true, true) => -F::INFINITY,
            (true, false) => F::INFINITY,
        },
        Prepare::Raw(kind) if missing(kind) => F::NAN,
        Prepare::Raw(_) => value,
        Prepare::Category(_, true) if value.is_nan() => F::from_f64(EVERY_CATEGORY),
        Prepare::Category(codes, _) => {
            // 2^31 and 2^24 are where the libraries stop to count categories.
            let known = match codes {
                Codes::Truncated => value > F::from_f64(-1.0) && value < F::from_f64(2_147_483_648.0),
                Codes::NonNegative => value >= F::ZERO && value < F::from_f64(16_777_216.0),
            };
            if known { value.trunc() } else { F::from_f64(NO_CATEGORY) }
        }
    }
}
