//! What inputs look like, counted exactly: by bin and hour of the week, by kind and length, by segment; what was seen too
//! often and what stayed the same. Counting in parts and merging gives what counting all together gives. Knows bins and
//! raw values, not where rows come from.

mod bytes;
mod heavy;
mod runs;

pub use bytes::{PROFILE_FORMAT, ProfileError};
pub use heavy::{Heavy, VALUES_MAX};
pub use runs::Runs;

use std::collections::BTreeMap;
use vocabulary::Timestamp;
use vocabulary::profile::{Bins, FeatureReference, HOURS_OF_WEEK};

/// Segments with counters of their own at most; rows of further ones are counted together.
pub const SEGMENTS_MAX: usize = 64;
/// Lengths of texts are told apart by powers of two, up to this many.
pub const LENGTHS: usize = 16;

/// A value as it came, before any bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Raw<'a> {
    Null,
    Number(f64),
    Text(&'a str),
    Flag(bool),
}

impl Raw<'_> {
    fn kind(self) -> usize {
        match self {
            Raw::Null => 0,
            Raw::Number(_) => 1,
            Raw::Text(_) => 2,
            Raw::Flag(_) => 3,
        }
    }

    /// Equal for equal values. Texts by FNV-1a, whose collisions would only make a run look longer by one.
    pub fn bits(self) -> u64 {
        match self {
            Raw::Null => u64::MAX,
            Raw::Number(value) => (value + 0.0).to_bits(),
            Raw::Text(text) => text
                .bytes()
                .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)),
            Raw::Flag(flag) => u64::from(flag),
        }
    }

    fn bin(self, bins: &Bins) -> u16 {
        match (self, bins) {
            (Raw::Number(value), Bins::Numeric { .. }) => bins.number(Some(value)),
            (Raw::Text(text), Bins::Categories { .. }) => bins.category(Some(text)),
            (Raw::Flag(flag), Bins::Categories { .. }) => bins.category(Some(if flag { "true" } else { "false" })),
            _ => 0,
        }
    }
}

/// Counters of all features of one model, over any number of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    features: Vec<FeatureProfile>,
    /// `column=value` with the counts of each feature's bins.
    segments: BTreeMap<String, Vec<Vec<u64>>>,
    rows: u64,
    /// Rows of segments beyond [`SEGMENTS_MAX`].
    rows_of_other_segments: u64,
}

/// Counters of one feature.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureProfile {
    pub name: String,
    pub bins: Bins,
    stratified: bool,
    /// By hour of the week (or one stratum), then by bin.
    counts: Vec<u64>,
    /// Nulls, numbers, texts, flags.
    pub kinds: [u64; 4],
    /// Texts by the power of two of their length in bytes; the last one has all longer ones.
    pub lengths: [u64; LENGTHS],
    /// Categories that have no bin.
    pub unlisted: Heavy,
    pub runs: Runs,
}

impl Profile {
    /// An empty profile with the bins of a reference.
    pub fn new(features: &[FeatureReference]) -> Self {
        let features = features.iter().map(|f| FeatureProfile::new(f.name.clone(), f.bins.clone(), f.stratified));
        Profile { features: features.collect(), segments: BTreeMap::new(), rows: 0, rows_of_other_segments: 0 }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn features(&self) -> &[FeatureProfile] {
        &self.features
    }

    /// Rows of segments that have no counters of their own.
    pub fn rows_of_other_segments(&self) -> u64 {
        self.rows_of_other_segments
    }

    /// Segments with their counts by feature and bin.
    pub fn segments(&self) -> impl Iterator<Item = (&str, &[Vec<u64>])> {
        self.segments.iter().map(|(name, counts)| (name.as_str(), counts.as_slice()))
    }

    /// Counts one row: its values in the order of the features, and the segments it belongs to.
    pub fn observe(&mut self, at: Timestamp, values: &[Raw<'_>], segments: &[&str]) {
        self.rows += 1;
        let hour = usize::from(at.hour_of_week());
        let places: Vec<usize> =
            self.features.iter_mut().zip(values).map(|(feature, value)| feature.count(hour, *value)).collect();
        for segment in segments {
            if !self.segments.contains_key(*segment) {
                if self.segments.len() >= SEGMENTS_MAX {
                    self.rows_of_other_segments += 1;
                    continue;
                }
                let empty = self.features.iter().map(|feature| vec![0; feature.bins.len()]).collect();
                self.segments.insert((*segment).to_owned(), empty);
            }
            if let Some(counts) = self.segments.get_mut(*segment) {
                counts.iter_mut().zip(&places).for_each(|(counts, place)| counts[*place] += 1);
            }
        }
    }

    /// Adds what another one counted after this one, with the same bins.
    pub fn merge(&mut self, other: &Profile) -> Result<(), ProfileError> {
        let same = self.features.len() == other.features.len()
            && self.features.iter().zip(&other.features).all(|(a, b)| a.fits(b));
        if !same {
            return Err(ProfileError::OtherBins);
        }
        for (feature, more) in self.features.iter_mut().zip(&other.features) {
            feature.merge(more);
        }
        self.rows += other.rows;
        self.rows_of_other_segments += other.rows_of_other_segments;
        for (name, more) in &other.segments {
            if let Some(counts) = self.segments.get_mut(name) {
                for (counts, more) in counts.iter_mut().zip(more) {
                    counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
                }
            } else if self.segments.len() < SEGMENTS_MAX {
                self.segments.insert(name.clone(), more.clone());
            } else {
                self.rows_of_other_segments += more.first().map_or(0, |counts| counts.iter().sum());
            }
        }
        Ok(())
    }
}

impl FeatureProfile {
    fn new(name: String, bins: Bins, stratified: bool) -> Self {
        let strata = if stratified { HOURS_OF_WEEK } else { 1 };
        let counts = vec![0; strata * bins.len()];
        let (unlisted, runs) = (Heavy::default(), Runs::default());
        FeatureProfile { name, bins, stratified, counts, kinds: [0; 4], lengths: [0; LENGTHS], unlisted, runs }
    }

    fn fits(&self, other: &FeatureProfile) -> bool {
        self.name == other.name && self.bins == other.bins && self.stratified == other.stratified
    }

    /// Counts a value; returns its bin.
    fn count(&mut self, hour: usize, value: Raw<'_>) -> usize {
        let bin = usize::from(value.bin(&self.bins));
        let stratum = if self.stratified { hour } else { 0 };
        self.counts[stratum * self.bins.len() + bin] += 1;
        self.kinds[value.kind()] += 1;
        self.runs.push(value.bits());
        if let Raw::Text(text) = value {
            let length = (usize::BITS - text.len().leading_zeros()) as usize;
            self.lengths[length.min(LENGTHS - 1)] += 1;
            if bin + 1 == self.bins.len() {
                self.unlisted.push(text);
            }
        }
        bin
    }

    fn merge(&mut self, other: &FeatureProfile) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.kinds.iter_mut().zip(&other.kinds).for_each(|(count, more)| *count += more);
        self.lengths.iter_mut().zip(&other.lengths).for_each(|(count, more)| *count += more);
        self.unlisted.merge(&other.unlisted);
        self.runs.then(&other.runs);
    }

    /// Counts by bin over all hours.
    pub fn totals(&self) -> Vec<u64> {
        let width = self.bins.len();
        let mut totals = vec![0; width];
        for stratum in self.counts.chunks(width) {
            totals.iter_mut().zip(stratum).for_each(|(sum, count)| *sum += count);
        }
        totals
    }

    /// Counts by bin in one hour of the week.
    pub fn hour(&self, hour: usize) -> &[u64] {
        let (width, stratum) = (self.bins.len(), if self.stratified { hour } else { 0 });
        &self.counts[stratum * width..(stratum + 1) * width]
    }

    pub fn null_share(&self) -> f64 {
        self.kinds[0] as f64 / self.kinds.iter().sum::<u64>().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vocabulary::Span;

    fn references() -> Vec<FeatureReference> {
        let numeric = Bins::Numeric { edges: vec![1.0, 2.0, 3.0] };
        let categories = Bins::Categories { values: vec!["a".into(), "b".into()] };
        let feature = |name: &str, bins: Bins, stratified: bool| FeatureReference {
            name: name.into(),
            bins,
            counts: Vec::new(),
            stratified,
        };
        vec![feature("x", numeric, true), feature("c", categories, false)]
    }

    type Row = (u8, u8, u8, u8);

    fn profile(rows: &[Row]) -> Profile {
        let mut profile = Profile::new(&references());
        for (hour, x, c, segment) in rows {
            let x = if *x == 0 { Raw::Null } else { Raw::Number(f64::from(*x) / 2.0) };
            let text = ["a", "b", "new", "newer"][usize::from(*c % 4)];
            let segment = format!("s={}", segment % 5);
            profile.observe(Timestamp(i64::from(*hour) * Span::hours(1).0), &[x, Raw::Text(text)], &[&segment]);
        }
        profile
    }

    #[test]
    fn rows_are_counted_by_bin_kind_length_and_segment() {
        let counted = profile(&[(0, 0, 0, 0), (0, 2, 2, 1), (1, 9, 3, 1)]);
        assert_eq!(counted.features()[0].totals(), [1, 1, 0, 0, 1]);
        assert_eq!(counted.features()[0].hour(usize::from(Timestamp(0).hour_of_week())), [1, 1, 0, 0, 0]);
        assert_eq!(counted.features()[1].unlisted.top(), [("new", 1), ("newer", 1)]);
        assert_eq!(counted.features()[1].lengths[..4], [0, 1, 1, 1]);
        let segments: Vec<_> = counted.segments().collect();
        assert_eq!((segments[1].0, &segments[1].1[1]), ("s=1", &vec![0, 0, 0, 2]));
    }

    #[test]
    fn segments_beyond_the_limit_are_counted_together() {
        let mut profile = Profile::new(&references());
        for segment in 0..SEGMENTS_MAX + 3 {
            profile.observe(Timestamp(0), &[Raw::Null, Raw::Null], &[&format!("s={segment}")]);
        }
        assert_eq!((profile.segments().count(), profile.rows_of_other_segments()), (SEGMENTS_MAX, 3));
    }

    #[test]
    fn other_bins_are_refused() {
        let other = Profile::new(&references()[..1]);
        assert_eq!(profile(&[]).merge(&other), Err(ProfileError::OtherBins));
    }

    proptest! {
        #[test]
        fn counting_in_parts_and_merging_is_counting_all_together(
            a in prop::collection::vec((0u8..168, 0u8..9, 0u8..4, 0u8..5), 0..60),
            b in prop::collection::vec((0u8..168, 0u8..9, 0u8..4, 0u8..5), 0..60),
        ) {
            let mut merged = profile(&a);
            merged.merge(&profile(&b)).unwrap();
            prop_assert_eq!(&merged, &profile(&[a, b].concat()));
            prop_assert_eq!(Profile::of_bytes(&merged.to_bytes(), &references()).unwrap(), merged);
        }
    }
}
