//! Which rows are learned from, which choose, and which judge.

use crate::keyed::{Purpose, bits};
use vocabulary::model::SplitSpec;

/// Places of rows, ascending in each part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<u32>,
    pub validation: Vec<u32>,
    pub test: Vec<u32>,
}

/// Splits `rows`, which are in order of time (or in the data's order where there is none): the newest `test` share is
/// the test, the `validation` share before it the validation. With `spec.shuffle` and without time (`timed` false) a
/// row's part follows from its place and the seed. Each share that is not zero gets one row at least, where there are
/// rows enough.
pub fn split(rows: &[u32], spec: &SplitSpec, timed: bool, seed: u64) -> Split {
    let count = |share: f64| if share > 0.0 { ((rows.len() as f64 * share).round() as usize).max(1) } else { 0 };
    let test = count(spec.test).min(rows.len());
    let validation = count(spec.validation).min(rows.len() - test);
    let mut ordered = rows.to_vec();
    if spec.shuffle && !timed {
        ordered.sort_by_key(|row| (bits(seed, Purpose::Split, 0, u64::from(*row)), *row));
    }
    let mut test_rows = ordered.split_off(rows.len() - test);
    let mut validation_rows = ordered.split_off(rows.len() - test - validation);
    for part in [&mut ordered, &mut validation_rows, &mut test_rows] {
        part.sort_unstable();
    }
    Split { train: ordered, validation: validation_rows, test: test_rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rows_judge() {
        let rows: Vec<u32> = (0..20).filter(|row| row % 2 == 0).collect();
        let spec = SplitSpec { test: 0.2, validation: 0.3, shuffle: false, refit: false };
        let parts = split(&rows, &spec, true, 7);
        assert_eq!(parts.train, [0, 2, 4, 6, 8]);
        assert_eq!(parts.validation, [10, 12, 14]);
        assert_eq!(parts.test, [16, 18]);
    }

    #[test]
    fn shuffling_is_for_data_without_time_and_follows_the_seed() {
        let rows: Vec<u32> = (0..1000).collect();
        let spec = SplitSpec { shuffle: true, ..SplitSpec::default() };
        assert_eq!(split(&rows, &spec, true, 1).test, (800..1000).collect::<Vec<_>>());
        let (one, two) = (split(&rows, &spec, false, 1), split(&rows, &spec, false, 2));
        assert_eq!(one, split(&rows, &spec, false, 1));
        assert_ne!(one, two);
        assert_eq!((one.train.len(), one.validation.len(), one.test.len()), (650, 150, 200));
        let mut all = [one.train, one.validation, one.test].concat();
        all.sort_unstable();
        assert_eq!(all, rows);
    }
}
