//! A category's own table: which row a value has, and which values get one.

use super::means::with_key;
use super::transform::category;
use crate::columns::Values;
use crate::hash::{Atom, Quick, SlotHash, among};
use std::collections::HashMap;

/// Values without an own row that share one where they are many. A judgement: what is too rare for a row of its own has
/// a common meaning, "rare", and needs few of them.
const RARE_PER_BUCKET: usize = 16;
const RARE_BUCKETS_MAX: usize = 64;
/// Values that share a row where they occur often enough for their own, but there was no room.
const CROWDED_PER_BUCKET: usize = 4;

/// The step at run time.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: Vec<usize>,
    rows: HashMap<Box<str>, u32, Quick>,
    prefix: SlotHash,
    buckets: u32,
}

impl Table {
    /// `None` where `values` holds one twice.
    pub(super) fn new(columns: Vec<usize>, values: &[String], buckets: u32, prefix: SlotHash) -> Option<Table> {
        let rows: HashMap<Box<str>, u32, Quick> =
            (1..).zip(values).map(|(row, value)| (value.as_str().into(), row)).collect();
        (rows.len() == values.len()).then_some(Table { columns, rows, prefix, buckets })
    }

    /// 0 for null (of all columns), the place of a known value from 1, a bucket behind those for any other.
    #[inline]
    pub(super) fn row(&self, columns: &[Values<'_>], row: usize, buffer: &mut String) -> u32 {
        if is_null(columns, &self.columns, row) {
            return 0;
        }
        let known = with_key(columns, &self.columns, row, buffer, |key| self.rows.get(key).copied());
        known.flatten().unwrap_or_else(|| {
            let hash = self.hash(columns, row);
            1 + self.rows.len() as u32 + among(hash, self.buckets)
        })
    }

    /// Tells values apart.
    pub(super) fn hash(&self, columns: &[Values<'_>], row: usize) -> u64 {
        category(columns, &self.columns, self.prefix, row).finish()
    }
}

fn is_null(columns: &[Values<'_>], places: &[usize], row: usize) -> bool {
    places.iter().all(|place| columns[*place].atom(row) == Atom::Null)
}

/// What the rows to learn from hold of one category.
pub(super) struct Census {
    /// Values that occur often enough for their own row, the most frequent first, and in how many rows each occurs.
    pub(super) ranked: Vec<(String, u64)>,
    /// Different values that are too rare.
    rare: usize,
    pub(super) nulls: u64,
}

impl Census {
    pub(super) fn take(views: &[Values<'_>], rows: impl Iterator<Item = usize>, min_rows: u64) -> Census {
        let places: Vec<usize> = (0..views.len()).collect();
        let (mut counts, mut nulls, mut buffer) = (HashMap::<String, u64>::new(), 0, String::new());
        for row in rows {
            if is_null(views, &places, row) {
                nulls += 1;
                continue;
            }
            with_key(views, &places, row, &mut buffer, |key| match counts.get_mut(key) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(key.to_owned(), 1);
                }
            });
        }
        let different = counts.len();
        let mut ranked: Vec<(String, u64)> = counts.into_iter().filter(|(_, rows)| *rows >= min_rows).collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Census { rare: different - ranked.len(), ranked, nulls }
    }

    pub(super) fn different(&self) -> usize {
        self.rare + self.ranked.len()
    }

    /// Rows for the values that are not among the first `kept`.
    pub(super) fn buckets(&self, kept: usize) -> u32 {
        let crowded = self.ranked.len() - kept;
        let rare = (self.rare / RARE_PER_BUCKET).clamp(1, RARE_BUCKETS_MAX);
        (rare + crowded / CROWDED_PER_BUCKET) as u32
    }
}

/// How many values of each census get a row when there is room for `room` in all: the most frequent ones, whatever
/// column they are of; of equally frequent ones those of the earlier column.
pub(super) fn share_out(censuses: &[Census], room: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = censuses.iter().map(|census| census.ranked.len()).collect();
    if kept.iter().sum::<usize>() <= room {
        return kept;
    }
    let mut all: Vec<(u64, usize)> = Vec::new();
    for (place, census) in censuses.iter().enumerate() {
        all.extend(census.ranked.iter().map(|(_, rows)| (*rows, place)));
    }
    all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    kept.fill(0);
    all.iter().take(room).for_each(|(_, place)| kept[*place] += 1);
    kept
}
