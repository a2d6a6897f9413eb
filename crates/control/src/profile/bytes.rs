//! A profile as bytes: a version, variable-length numbers, runs of zeros as one. Bins are not in it: they are the
//! reference's.

use super::{FeatureProfile, Heavy, LENGTHS, Profile, Runs, SEGMENTS_MAX};
use std::collections::BTreeMap;
use vocabulary::profile::FeatureReference;

/// Version of this format on disk.
pub const PROFILE_FORMAT: u64 = 1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("the profiles have other features or bins; profiles of one reference can be merged")]
    OtherBins,
    #[error("the profile has format {0}, this program reads format {PROFILE_FORMAT}; count again")]
    Format(u64),
    #[error("the profile is damaged at byte {0}; remove it and count again")]
    Damaged(usize),
}

impl Profile {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        for number in [PROFILE_FORMAT, self.rows, self.rows_of_other_segments, self.features.len() as u64] {
            out.number(number);
        }
        for feature in &self.features {
            out.text(&feature.name);
            out.counts(&feature.counts);
            out.counts(&feature.kinds);
            out.counts(&feature.lengths);
            feature.runs.parts().into_iter().for_each(|part| out.number(part));
            let (values, total, missed) = feature.unlisted.parts();
            [values.len() as u64, total, missed].into_iter().for_each(|number| out.number(number));
            for (value, count) in values {
                out.text(value);
                out.number(*count);
            }
        }
        out.number(self.segments.len() as u64);
        for (name, counts) in &self.segments {
            out.text(name);
            counts.iter().for_each(|counts| out.counts(counts));
        }
        out.0
    }

    /// Reads what [`Profile::to_bytes`] wrote, with the same reference.
    pub fn of_bytes(bytes: &[u8], features: &[FeatureReference]) -> Result<Profile, ProfileError> {
        let mut from = Reader { bytes, at: 0 };
        let format = from.number()?;
        if format != PROFILE_FORMAT {
            return Err(ProfileError::Format(format));
        }
        let mut profile = Profile::new(features);
        profile.rows = from.number()?;
        profile.rows_of_other_segments = from.number()?;
        if from.number()? != features.len() as u64 {
            return Err(ProfileError::OtherBins);
        }
        for feature in &mut profile.features {
            read_feature(&mut from, feature)?;
        }
        let segments = from.number()?;
        if segments > SEGMENTS_MAX as u64 {
            return Err(from.damaged());
        }
        for _ in 0..segments {
            let name = from.text()?;
            let counts = features.iter().map(|feature| from.counts(feature.bins.len())).collect::<Result<_, _>>()?;
            profile.segments.insert(name, counts);
        }
        if from.at == bytes.len() { Ok(profile) } else { Err(from.damaged()) }
    }
}

fn read_feature(from: &mut Reader<'_>, feature: &mut FeatureProfile) -> Result<(), ProfileError> {
    if from.text()? != feature.name {
        return Err(ProfileError::OtherBins);
    }
    feature.counts = from.counts(feature.counts.len())?;
    feature.kinds.copy_from_slice(&from.counts(4)?);
    feature.lengths.copy_from_slice(&from.counts(LENGTHS)?);
    let mut parts = [0; 7];
    for part in &mut parts {
        *part = from.number()?;
    }
    feature.runs = Runs::of_parts(parts).ok_or_else(|| from.damaged())?;
    let (count, total, missed) = (from.number()?, from.number()?, from.number()?);
    let mut values = BTreeMap::new();
    // Each value takes a byte at least, so that a wrong count ends at the end of the bytes.
    for _ in 0..count {
        values.insert(from.text()?, from.number()?);
    }
    feature.unlisted = Heavy::of_parts(values, total, missed).ok_or_else(|| from.damaged())?;
    Ok(())
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A zero is followed by how many more follow it.
    fn counts(&mut self, counts: &[u64]) {
        let mut at = 0;
        while at < counts.len() {
            self.number(counts[at]);
            if counts[at] == 0 {
                let zeros = counts[at + 1..].iter().take_while(|count| **count == 0).count();
                self.number(zeros as u64);
                at += zeros;
            }
            at += 1;
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn damaged(&self) -> ProfileError {
        ProfileError::Damaged(self.at)
    }

    fn number(&mut self) -> Result<u64, ProfileError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.damaged())?;
            self.at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged())
    }

    fn text(&mut self) -> Result<String, ProfileError> {
        let length = usize::try_from(self.number()?).map_err(|_| self.damaged())?;
        let end = self.at.checked_add(length).ok_or_else(|| self.damaged())?;
        let text = self.bytes.get(self.at..end).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| self.damaged())?.to_owned();
        self.at = end;
        Ok(text)
    }

    fn counts(&mut self, length: usize) -> Result<Vec<u64>, ProfileError> {
        let mut counts = Vec::with_capacity(length);
        while counts.len() < length {
            let count = self.number()?;
            counts.push(count);
            if count == 0 {
                let zeros = self.number()?;
                if zeros > (length - counts.len()) as u64 {
                    return Err(self.damaged());
                }
                counts.resize(counts.len() + zeros as usize, 0);
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Raw;
    use super::*;
    use vocabulary::profile::Bins;
    use vocabulary::{Span, Timestamp};

    fn references(count: usize) -> Vec<FeatureReference> {
        let edges: Vec<f64> = (1..32).map(|edge| f64::from(edge) / 32.0).collect();
        let feature = |place: usize| FeatureReference {
            name: format!("x{place}"),
            bins: Bins::Numeric { edges: edges.clone() },
            counts: Vec::new(),
            stratified: true,
        };
        (0..count).map(feature).collect()
    }

    #[test]
    fn fifty_features_fit_into_half_a_megabyte() {
        let mut random = crate::testing::Random(1);
        let mut profile = Profile::new(&references(50));
        for row in 0..100_000i64 {
            let values: Vec<Raw<'_>> = (0..50).map(|_| Raw::Number(random.unit())).collect();
            profile.observe(Timestamp(row * Span::hours(1).0 / 100), &values, &[]);
        }
        let bytes = profile.to_bytes();
        assert!(bytes.len() < 500_000, "{}", bytes.len());
        assert_eq!(Profile::of_bytes(&bytes, &references(50)).unwrap(), profile);
    }

    #[test]
    fn damaged_bytes_are_refused_wherever_they_end() {
        let features = references(2);
        let mut profile = Profile::new(&features);
        profile.observe(Timestamp(0), &[Raw::Number(0.5), Raw::Text("?")], &["s=1"]);
        let bytes = profile.to_bytes();
        for end in 0..bytes.len() {
            assert!(Profile::of_bytes(&bytes[..end], &features).is_err(), "cut at {end}");
        }
        assert_eq!(Profile::of_bytes(&[9], &features), Err(ProfileError::Format(9)));
        let longer = [bytes, vec![0]].concat();
        assert!(matches!(Profile::of_bytes(&longer, &features), Err(ProfileError::Damaged(_))));
    }
}
