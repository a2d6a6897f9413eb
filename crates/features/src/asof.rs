//! Point-in-time joins: for each row of one table, the newest row of another with the same key that had happened and was
//! known by then. Knows no files: right rows come in batches, in the order of their file.
//!
//! The left rows stay in memory, as whoever learns from them holds them anyway; of the right ones only those that are
//! somebody's answer so far. Instead of sorting both sides, each right row is offered to the first left row, by time, that
//! may see it; a left row keeps the better of two offers, and one pass at the end hands the best on to later left rows.
//! So the right side may be of any size and in any order, and is read once. Equal to a sort-merge by key and time, at
//! O(right * log left).

use crate::FeatureError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::{RowConverter, SortField};
use std::collections::HashMap;
use vocabulary::time::Span;

/// Which columns of a canonical right batch are what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsofColumns {
    /// In the order of the left keys, and of the same types.
    pub key: Vec<String>,
    pub time: String,
    pub known_at: Option<String>,
    pub values: Vec<String>,
}

/// What became of the right rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsofCounts {
    pub rows: u64,
    /// Without a key, an event time, or a declared knowledge time: nobody's answer.
    pub incomplete: u64,
}

/// A join under way.
pub struct Asof {
    columns: AsofColumns,
    tolerance: Option<i64>,
    converter: RowConverter,
    /// A key's place among `groups`.
    index: HashMap<Box<[u8]>, u32>,
    /// Of each key its left rows in the order of their instants.
    groups: Vec<Vec<LeftRow>>,
    left_rows: usize,
    counts: AsofCounts,
    /// Values of right rows that are somebody's answer, and some that were.
    kept: Vec<Vec<ArrayRef>>,
    kept_rows: usize,
}

struct LeftRow {
    at: i64,
    row: u32,
    best: Option<Offer>,
}

/// A right row: what decides between two, then where its values are.
#[derive(Clone, Copy)]
struct Offer {
    time: i64,
    known: i64,
    /// Its place among all right rows.
    number: u64,
    batch: u32,
    row: u32,
}

impl Offer {
    fn is_better_than(&self, other: &Offer) -> bool {
        (self.time, self.known, self.number) > (other.time, other.known, other.number)
    }
}

/// Values are put together anew when so many more are held than there are left rows.
const KEPT_SHARE: usize = 2;
const KEPT_ROWS_LEAST: usize = 1 << 16;

impl Asof {
    /// `keys` and `at` are canonical columns of the left table.
    ///
    /// # Errors
    /// Where a key is of a type that has no order, or `at` is no instant.
    pub fn new(
        keys: &[ArrayRef],
        at: &ArrayRef,
        columns: AsofColumns,
        tolerance: Option<Span>,
    ) -> Result<Asof, FeatureError> {
        let converter = RowConverter::new(keys.iter().map(|key| SortField::new(key.data_type().clone())).collect())?;
        let at = instants(at, "at")?;
        let rows = converter.convert_columns(keys)?;
        let (mut index, mut groups) = (HashMap::new(), Vec::new());
        for row in 0..at.len() {
            if at.is_null(row) || keys.iter().any(|key| key.is_null(row)) {
                continue;
            }
            let key: Box<[u8]> = rows.row(row).as_ref().into();
            let place = *index.entry(key).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() as u32 - 1
            });
            groups[place as usize].push(LeftRow { at: at.value(row), row: row as u32, best: None });
        }
        groups.iter_mut().for_each(|group| group.sort_by_key(|left| left.at));
        Ok(Asof {
            columns,
            tolerance: tolerance.map(|span| span.0),
            converter,
            index,
            groups,
            left_rows: at.len(),
            counts: AsofCounts::default(),
            kept: Vec::new(),
            kept_rows: 0,
        })
    }

    /// Offers the rows of a canonical batch, which follows those before in the file.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), FeatureError> {
        let column = |name: &String| -> Result<ArrayRef, FeatureError> {
            Ok(batch.column(crate::columns::column_index(batch.schema_ref(), name, usize::MAX)?).clone())
        };
        let keys = self.columns.key.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let time = column(&self.columns.time)?;
        let time = instants(&time, &self.columns.time)?;
        let known = self.columns.known_at.as_ref().map(column).transpose()?;
        let known = known.as_ref().map(|known| instants(known, "known_at")).transpose()?;
        let rows = self.converter.convert_columns(&keys)?;
        let (before, place) = (self.counts.rows, self.kept.len() as u32);
        // Rows of this batch that are an answer, with their places among the values kept of it.
        let mut taken: Vec<u32> = Vec::new();
        for row in 0..batch.num_rows() {
            let known = match known {
                Some(known) => known.is_valid(row).then(|| known.value(row)),
                None => Some(i64::MIN),
            };
            let (Some(known), true) = (known, time.is_valid(row) && keys.iter().all(|key| key.is_valid(row))) else {
                self.counts.incomplete += 1;
                continue;
            };
            let Some(group) = self.index.get(rows.row(row).as_ref()) else { continue };
            let (group, time) = (&mut self.groups[*group as usize], time.value(row));
            let known = known.max(time);
            let first = group.partition_point(|left| left.at < known);
            let Some(left) = group.get_mut(first) else { continue };
            let number = before + row as u64;
            let offer = Offer { time, known, number, batch: place, row: taken.len() as u32 };
            if left.best.is_none_or(|best| offer.is_better_than(&best)) {
                left.best = Some(offer);
                taken.push(row as u32);
            }
        }
        self.counts.rows += batch.num_rows() as u64;
        if taken.is_empty() {
            return Ok(());
        }
        self.kept_rows += taken.len();
        let taken = UInt32Array::from(taken);
        let values = self.columns.values.iter().map(|name| Ok(take(&column(name)?, &taken, None)?));
        self.kept.push(values.collect::<Result<Vec<_>, FeatureError>>()?);
        if self.kept_rows > KEPT_ROWS_LEAST.max(KEPT_SHARE * self.left_rows) {
            self.tidy()?;
        }
        Ok(())
    }

    /// Lets go of values that are nobody's answer any more.
    fn tidy(&mut self) -> Result<(), FeatureError> {
        let mut places: Vec<(usize, usize)> = Vec::new();
        for best in self.groups.iter_mut().flatten().filter_map(|left| left.best.as_mut()) {
            places.push((best.batch as usize, best.row as usize));
            (best.batch, best.row) = (0, places.len() as u32 - 1);
        }
        let columns = (0..self.columns.values.len()).map(|column| gathered(&self.kept, column, &places));
        self.kept = vec![columns.collect::<Result<_, _>>()?];
        self.kept_rows = places.len();
        Ok(())
    }

    /// The values of each left row, in the order of the value columns; null where it has no right row. `kinds` are of the
    /// value columns, for a right table without rows.
    pub fn finish(mut self, empty: &[ArrayRef]) -> Result<(Vec<ArrayRef>, AsofCounts), FeatureError> {
        // A null row, where nothing is found.
        let nothing = empty.iter().map(|array| arrow::array::new_null_array(array.data_type(), 1)).collect();
        self.kept.push(nothing);
        let mut places = vec![(self.kept.len() - 1, 0); self.left_rows];
        for group in &self.groups {
            let mut best: Option<Offer> = None;
            for left in group {
                if let Some(offer) = left.best
                    && best.is_none_or(|best| offer.is_better_than(&best))
                {
                    best = Some(offer);
                }
                let young =
                    |offer: &Offer| self.tolerance.is_none_or(|most| left.at.saturating_sub(offer.time) <= most);
                if let Some(offer) = best.filter(young) {
                    places[left.row as usize] = (offer.batch as usize, offer.row as usize);
                }
            }
        }
        let columns = (0..empty.len()).map(|column| gathered(&self.kept, column, &places));
        Ok((columns.collect::<Result<_, _>>()?, self.counts))
    }
}

fn gathered(kept: &[Vec<ArrayRef>], column: usize, places: &[(usize, usize)]) -> Result<ArrayRef, FeatureError> {
    let arrays: Vec<&dyn Array> = kept.iter().map(|columns| columns[column].as_ref()).collect();
    if places.is_empty() {
        return Ok(concat(&arrays)?.slice(0, 0));
    }
    Ok(interleave(&arrays, places)?)
}

fn instants<'a>(array: &'a ArrayRef, name: &str) -> Result<&'a TimestampMicrosecondArray, FeatureError> {
    array.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| FeatureError::Type {
        column: name.to_owned(),
        found: array.data_type().to_string(),
        expected: "timestamp",
        remedy: "declare it so, or cast it in the query".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    /// splitmix64.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: i64) -> i64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            (crate::hash::finish(self.0) % n as u64) as i64
        }

        fn maybe(&mut self, n: i64) -> Option<i64> {
            (self.below(12) > 0).then(|| self.below(n))
        }
    }

    #[derive(Clone, Debug)]
    struct Right {
        shop: Option<i64>,
        day: Option<i64>,
        time: Option<i64>,
        known: Option<i64>,
    }

    /// What the declaration says, left row by left row.
    fn naive(
        left: &[(Option<i64>, Option<i64>, Option<i64>)],
        right: &[Right],
        known: bool,
        tolerance: Option<i64>,
    ) -> Vec<Option<i64>> {
        let answer = |(shop, day, at): &(Option<i64>, Option<i64>, Option<i64>)| {
            let (shop, day, at) = ((*shop)?, (*day)?, (*at)?);
            let seen = right.iter().enumerate().filter_map(|(number, row)| {
                let (time, known) = (row.time?, if known { row.known? } else { row.time? });
                let fits = row.shop? == shop && row.day? == day && time <= at && known <= at;
                let young = tolerance.is_none_or(|most| at - time <= most);
                (fits && young).then_some((time, known.max(time), number as i64))
            });
            seen.max().map(|(_, _, number)| number)
        };
        left.iter().map(answer).collect()
    }

    fn instants(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    }

    fn ints(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        Arc::new(values.collect::<Int64Array>())
    }

    fn texts(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        Arc::new(values.map(|value| value.map(|value| format!("s{value}"))).collect::<StringArray>())
    }

    fn batch(right: &[Right], from: usize) -> RecordBatch {
        let numbers = (from..from + right.len()).map(|number| Some(number as i64));
        RecordBatch::try_from_iter_with_nullable([
            ("shop", texts(right.iter().map(|row| row.shop)), true),
            ("day", ints(right.iter().map(|row| row.day)), true),
            ("time", instants(right.iter().map(|row| row.time)), true),
            ("known", instants(right.iter().map(|row| row.known)), true),
            ("number", ints(numbers), true),
        ])
        .unwrap()
    }

    #[test]
    fn a_thousand_joins_are_those_of_a_look_at_every_pair() {
        for seed in 0..1000 {
            let mut random = Random(seed);
            let (left_rows, right_rows) = (random.below(40), random.below(120));
            let (span, keys) = (1 + random.below(60), 1 + random.below(4));
            let left: Vec<_> =
                (0..left_rows).map(|_| (random.maybe(keys), random.maybe(2), random.maybe(span))).collect();
            let row = |random: &mut Random| {
                let time = random.maybe(span);
                let known = time.map(|time| time + random.below(8) - 1).filter(|_| random.below(12) > 0);
                Right { shop: random.maybe(keys), day: random.maybe(2), time, known }
            };
            let right: Vec<Right> = (0..right_rows).map(|_| row(&mut random)).collect();
            let (known, tolerance) = (random.below(2) == 1, (random.below(2) == 1).then(|| random.below(20)));
            let columns = AsofColumns {
                key: vec!["shop".into(), "day".into()],
                time: "time".into(),
                known_at: known.then(|| "known".into()),
                values: vec!["number".into(), "shop".into()],
            };
            let keys = [texts(left.iter().map(|row| row.0)), ints(left.iter().map(|row| row.1))];
            let at = super::instants(&instants(left.iter().map(|row| row.2)), "at").unwrap().clone();
            let mut join = Asof::new(&keys, &(Arc::new(at) as ArrayRef), columns, tolerance.map(Span)).unwrap();
            let step = 1 + random.below(50) as usize;
            for (piece, rows) in right.chunks(step).enumerate() {
                join.add(&batch(rows, piece * step)).unwrap();
                if random.below(4) == 0 && join.kept_rows > 0 {
                    join.tidy().unwrap();
                }
            }
            let empty = [ints(std::iter::empty()), texts(std::iter::empty())];
            let (values, counts) = join.finish(&empty).unwrap();
            let found: Vec<Option<i64>> = values[0].as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
            let wanted = naive(&left, &right, known, tolerance);
            assert_eq!(found, wanted, "seed {seed}: {left:?} {right:?}");
            let shops: Vec<Option<String>> =
                values[1].as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect();
            let shop = |number: &Option<i64>| right[(*number)? as usize].shop.map(|shop| format!("s{shop}"));
            assert_eq!(shops, wanted.iter().map(shop).collect::<Vec<_>>());
            assert_eq!(counts.rows, right_rows as u64);
        }
    }

    #[test]
    fn what_is_held_depends_on_the_left_side_alone() {
        let left = ints((0..4).map(Some));
        let at = instants((0..4).map(|_| Some(1_000_000)));
        let columns =
            AsofColumns { key: vec!["day".into()], time: "time".into(), known_at: None, values: vec!["number".into()] };
        let mut join = Asof::new(&[left], &at, columns, None).unwrap();
        for piece in 0..200 {
            // Each is newer than all before: the worst case.
            let right: Vec<Right> = (0..1000)
                .map(|row| Right { shop: None, day: Some(row % 4), time: Some(piece * 1000 + row), known: None })
                .collect();
            join.add(&batch(&right, piece as usize * 1000)).unwrap();
            assert!(join.kept_rows <= KEPT_ROWS_LEAST + 1000, "{}", join.kept_rows);
        }
        let (values, _) = join.finish(&[ints(std::iter::empty())]).unwrap();
        let found: Vec<i64> = values[0].as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
        assert_eq!(found, [199_996, 199_997, 199_998, 199_999]);
    }
}
