//! The most frequent of values that nobody listed: bounded, with a counted rest.

use std::collections::BTreeMap;

/// Values that are counted by name at most; a longer one is cut to [`VALUE_BYTES_MAX`].
pub const VALUES_MAX: usize = 32;
pub const VALUE_BYTES_MAX: usize = 64;

/// Misra-Gries counters with the merge of Agarwal et al., "Mergeable summaries" (PODS 2012). As long as no more than
/// [`VALUES_MAX`] different values came, all counts are exact; then each is too low by at most [`Heavy::missed`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heavy {
    counts: BTreeMap<String, u64>,
    total: u64,
    missed: u64,
}

impl Heavy {
    pub fn push(&mut self, value: &str) {
        self.total += 1;
        let value = cut(value);
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
        } else {
            self.counts.insert(value.to_owned(), 1);
            self.shrink();
        }
    }

    pub fn merge(&mut self, other: &Heavy) {
        self.total += other.total;
        self.missed += other.missed;
        for (value, count) in &other.counts {
            *self.counts.entry(value.clone()).or_default() += count;
        }
        self.shrink();
    }

    /// Takes from every counter what the first one beyond the limit has.
    fn shrink(&mut self) {
        if self.counts.len() <= VALUES_MAX {
            return;
        }
        let mut ordered: Vec<u64> = self.counts.values().copied().collect();
        ordered.sort_unstable_by(|a, b| b.cmp(a));
        let taken = ordered[VALUES_MAX];
        self.missed += taken;
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(taken);
            *count > 0
        });
    }

    /// Values with their counts, the most frequent first, ties by name.
    pub fn top(&self) -> Vec<(&str, u64)> {
        let mut top: Vec<(&str, u64)> = self.counts.iter().map(|(value, count)| (value.as_str(), *count)).collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        top
    }

    /// Values counted, under any name.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// By how much a count may be too low.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Values that have no name of their own here.
    pub fn rest(&self) -> u64 {
        self.total - self.counts.values().sum::<u64>()
    }

    pub(super) fn parts(&self) -> (&BTreeMap<String, u64>, u64, u64) {
        (&self.counts, self.total, self.missed)
    }

    pub(super) fn of_parts(counts: BTreeMap<String, u64>, total: u64, missed: u64) -> Option<Heavy> {
        let named = counts.values().try_fold(0u64, |sum, count| sum.checked_add(*count))?;
        (counts.len() <= VALUES_MAX && named <= total).then_some(Heavy { counts, total, missed })
    }
}

fn cut(value: &str) -> &str {
    let mut end = value.len().min(VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u8]) -> Heavy {
        let mut heavy = Heavy::default();
        values.iter().for_each(|value| heavy.push(&format!("v{value}")));
        heavy
    }

    #[test]
    fn long_values_are_cut_at_a_letter() {
        let mut heavy = Heavy::default();
        heavy.push(&"ä".repeat(60));
        assert_eq!(heavy.top()[0].0, "ä".repeat(32));
    }

    proptest! {
        #[test]
        fn few_values_are_exact_in_any_order_of_merging(
            a in prop::collection::vec(0u8..VALUES_MAX as u8, 0..200),
            b in prop::collection::vec(0u8..VALUES_MAX as u8, 0..200),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(&merged, &of(&[a, b].concat()));
            prop_assert_eq!(merged.rest(), 0);
        }

        #[test]
        fn of_many_values_the_error_is_bounded_and_known(
            a in prop::collection::vec(0u8..120, 0..600),
            b in prop::collection::vec(0u8..120, 0..600),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let all = [a, b].concat();
            prop_assert!(merged.missed() <= all.len() as u64 / (VALUES_MAX as u64 + 1));
            for value in 0..120u8 {
                let truth = all.iter().filter(|v| **v == value).count() as u64;
                let name = format!("v{value}");
                let count = merged.top().iter().find(|(v, _)| *v == name).map_or(0, |(_, count)| *count);
                prop_assert!(count <= truth && truth <= count + merged.missed());
            }
        }
    }
}
