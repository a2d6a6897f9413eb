//! How long a value stayed the same: a sensor that is stuck repeats itself.

/// Runs of equal values in the order of the rows. Two stretches join as if they had been one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    rows: u64,
    first: u64,
    first_rows: u64,
    last: u64,
    last_rows: u64,
    longest: u64,
    count: u64,
}

impl Runs {
    /// The next value, by its bits or its hash.
    #[inline]
    pub fn push(&mut self, bits: u64) {
        if self.rows > 0 && bits == self.last {
            self.last_rows += 1;
        } else {
            self.last = bits;
            self.last_rows = 1;
            self.count += 1;
        }
        self.rows += 1;
        if self.count == 1 {
            (self.first, self.first_rows) = (bits, self.last_rows);
        }
        self.longest = self.longest.max(self.last_rows);
    }

    /// Adds the stretch that followed this one.
    pub fn then(&mut self, next: &Runs) {
        if next.rows == 0 {
            return;
        }
        if self.rows == 0 {
            *self = *next;
            return;
        }
        let joined = self.last == next.first;
        let across = if joined { self.last_rows + next.first_rows } else { 0 };
        if joined && self.count == 1 {
            self.first_rows = across;
        }
        self.last_rows = if joined && next.count == 1 { across } else { next.last_rows };
        self.last = next.last;
        self.longest = self.longest.max(next.longest).max(across);
        self.count += next.count - u64::from(joined);
        self.rows += next.rows;
    }

    /// Rows of the longest run.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// The last value's bits, and for how many rows it has been the same.
    pub fn current(&self) -> (u64, u64) {
        (self.last, self.last_rows)
    }

    /// Runs of any length.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn parts(&self) -> [u64; 7] {
        [self.rows, self.first, self.first_rows, self.last, self.last_rows, self.longest, self.count]
    }

    pub(super) fn of_parts(parts: [u64; 7]) -> Option<Runs> {
        let [rows, first, first_rows, last, last_rows, longest, count] = parts;
        let whole = longest <= rows && first_rows <= longest && last_rows <= longest && count <= rows;
        whole.then_some(Runs { rows, first, first_rows, last, last_rows, longest, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Runs {
        let mut runs = Runs::default();
        values.iter().for_each(|value| runs.push(*value));
        runs
    }

    #[test]
    fn a_stuck_sensor_has_one_long_run() {
        let runs = of(&[1, 2, 3, 3, 3, 3, 2]);
        assert_eq!((runs.longest(), runs.current(), runs.count()), (4, (2, 1), 4));
    }

    proptest! {
        #[test]
        fn stretches_join_as_if_they_had_been_one(
            a in prop::collection::vec(0u64..2, 0..30),
            b in prop::collection::vec(0u64..2, 0..30),
            c in prop::collection::vec(0u64..2, 0..30),
        ) {
            let mut joined = of(&a);
            joined.then(&of(&b));
            joined.then(&of(&c));
            prop_assert_eq!(joined, of(&[a, b, c].concat()));
        }
    }
}
