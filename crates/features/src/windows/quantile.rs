//! Order statistics: the values themselves while they are few, then counts of buckets of equal relative width, which can
//! be merged in any order (as DDSketch, Masson et al., VLDB 2019, with the buckets' edges from the float's own bits, and
//! UDDSketch's way to stay small: neighbours are joined, Epicoco et al., 2020). Form and error depend on the values alone.

/// Values kept themselves: 8 KB.
pub(super) const EXACT_MAX: usize = 1024;
/// Buckets at most, 64 KB: at the finest level enough for values over 32 powers of two, nine orders of magnitude. Each
/// level beyond doubles the buckets' width.
pub(super) const BUCKETS_MAX: usize = 4096;
/// A bucket at level 0 is all floats of the same sign, exponent and first seven bits: 1/128 wide, and its middle is within
/// 1/256 of all of it.
const SHIFT: u32 = 52 - 7;
/// At this level a bucket is all floats of a sign.
pub(super) const LEVEL_MAX: u8 = 18;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Quantiles {
    /// Ascending.
    Few(Vec<f64>),
    Many(Buckets),
}

/// Counts by bucket, ascending.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets {
    pub(super) level: u8,
    pub(super) counts: Vec<(u32, u64)>,
}

impl Default for Quantiles {
    fn default() -> Self {
        Quantiles::Few(Vec::new())
    }
}

/// Bits that sort as the floats do.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits ^ 1 << 63 } else { !bits })
}

/// Buckets that there are at a level.
pub(super) fn buckets(level: u8) -> u32 {
    1 << (64 - SHIFT - u32::from(level))
}

impl Quantiles {
    /// Adds a finite value.
    pub(super) fn add(&mut self, value: f64) {
        match self {
            Quantiles::Few(values) => {
                let place = values.partition_point(|other| other.total_cmp(&value).is_lt());
                values.insert(place, value);
                self.settle();
            }
            Quantiles::Many(buckets) => buckets.add(value),
        }
    }

    fn settle(&mut self) {
        if matches!(self, Quantiles::Few(values) if values.len() > EXACT_MAX) {
            self.many();
        }
    }

    fn many(&mut self) -> &mut Buckets {
        if let Quantiles::Few(values) = self {
            let mut buckets = Buckets::default();
            values.iter().for_each(|value| buckets.add(*value));
            *self = Quantiles::Many(buckets);
        }
        match self {
            Quantiles::Many(buckets) => buckets,
            Quantiles::Few(_) => unreachable!("it went over just now"),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Quantiles::Few(values) => values.len() as u64,
            Quantiles::Many(buckets) => buckets.counts.iter().map(|(_, count)| count).sum(),
        }
    }
}

/// The value of lower nearest rank `floor((n - 1) * q)` of all parts together; none without values.
pub(super) fn at<'a>(parts: impl Iterator<Item = &'a Quantiles> + Clone, q: f64) -> Option<f64> {
    let n: u64 = parts.clone().map(Quantiles::len).sum();
    let rank = (n.checked_sub(1)? as f64 * q).floor() as u64;
    if n > EXACT_MAX as u64 {
        return Buckets::of(parts).at(rank);
    }
    let mut all: Vec<f64> = Vec::with_capacity(n as usize);
    for part in parts {
        if let Quantiles::Few(values) = part {
            all.extend(values);
        }
    }
    let (_, found, _) = all.select_nth_unstable_by((rank as usize).min(n as usize - 1), f64::total_cmp);
    Some(*found)
}

/// Buckets from the first to the last that are counted in place rather than sorted: 32 powers of two at level 0.
const DENSE_MAX: usize = BUCKETS_MAX;

impl Buckets {
    fn add(&mut self, value: f64) {
        self.count((ordered(value) >> (SHIFT + u32::from(self.level))) as u32, 1);
        self.shrink();
    }

    fn count(&mut self, bucket: u32, n: u64) {
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(place) => self.counts[place].1 += n,
            Err(place) => self.counts.insert(place, (bucket, n)),
        }
    }

    /// Those of all parts together: at the least level at which they are few enough.
    fn of<'a>(parts: impl Iterator<Item = &'a Quantiles> + Clone) -> Buckets {
        let levels = parts.clone().map(|part| if let Quantiles::Many(buckets) = part { buckets.level } else { 0 });
        let level = levels.max().unwrap_or(0);
        let each = parts.flat_map(|part| {
            let (values, buckets) = match part {
                Quantiles::Few(values) => (&values[..], None),
                Quantiles::Many(buckets) => (&[][..], Some(buckets)),
            };
            let of_values = values.iter().map(move |value| ((ordered(*value) >> (SHIFT + u32::from(level))) as u32, 1));
            let of_buckets = buckets.into_iter().flat_map(move |buckets| {
                let shift = level - buckets.level;
                buckets.counts.iter().map(move |(bucket, count)| (bucket >> shift, *count))
            });
            of_values.chain(of_buckets)
        });
        let (low, high) = each.clone().fold((u32::MAX, 0), |(low, high), (at, _)| (low.min(at), high.max(at)));
        let counts = if (high.saturating_sub(low) as usize) < DENSE_MAX {
            let mut dense = vec![0u64; DENSE_MAX];
            each.for_each(|(bucket, count)| dense[(bucket - low) as usize] += count);
            let some = dense.into_iter().enumerate().filter(|(_, count)| *count > 0);
            some.map(|(place, count)| (low + place as u32, count)).collect()
        } else {
            let mut counts: Vec<(u32, u64)> = each.collect();
            counts.sort_unstable_by_key(|(bucket, _)| *bucket);
            counts.dedup_by(join);
            counts
        };
        let mut buckets = Buckets { level, counts };
        buckets.shrink();
        buckets
    }

    /// The value that stands for the bucket of this rank.
    fn at(&self, rank: u64) -> Option<f64> {
        let mut before = 0;
        let found = self.counts.iter().find(|(_, count)| {
            before += count;
            before > rank
        });
        found.or(self.counts.last()).map(|(bucket, _)| self.middle(*bucket))
    }

    fn shrink(&mut self) {
        while self.counts.len() > BUCKETS_MAX && self.level < LEVEL_MAX {
            self.coarsen();
        }
    }

    /// Joins neighbours: the buckets of the next level.
    fn coarsen(&mut self) {
        self.level += 1;
        self.counts.iter_mut().for_each(|(bucket, _)| *bucket >>= 1);
        self.counts.dedup_by(join);
    }

    /// The value that stands for a bucket; zero for the one that holds it.
    fn middle(&self, bucket: u32) -> f64 {
        let shift = SHIFT + u32::from(self.level);
        let low = u64::from(bucket) << shift;
        if low == ordered(0.0) {
            return 0.0;
        }
        let middle = unordered(low | 1 << (shift - 1));
        // The bucket beside the infinities may have its middle among them.
        if middle.is_finite() { middle } else { unordered(low) }
    }
}

/// Adds a bucket's count to its equal before it.
fn join(later: &mut (u32, u64), kept: &mut (u32, u64)) -> bool {
    let same = later.0 == kept.0;
    if same {
        kept.1 += later.1;
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Quantiles {
        let mut quantiles = Quantiles::default();
        values.iter().for_each(|value| quantiles.add(*value));
        quantiles
    }

    fn nearest(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * q).floor() as usize]
    }

    #[test]
    fn few_are_exact_and_many_are_near() {
        let values: Vec<f64> = (0..1024).map(|i| f64::from(i * 7919 % 1024) - 500.0).collect();
        assert_eq!(at([of(&values)].iter(), 0.9), Some(nearest(&values, 0.9)));
        let values: Vec<f64> = (0..20_000).map(|i| f64::from(i * 7919 % 20_011) - 3000.0).collect();
        for q in [0.0, 0.01, 0.149, 0.5, 0.9, 1.0] {
            let (near, exact) = (at([of(&values)].iter(), q).unwrap(), nearest(&values, q));
            assert!((near - exact).abs() <= exact.abs() / 250.0, "{q}: {near} {exact}");
        }
        assert_eq!(at([of(&[0.0; 3000])].iter(), 0.5), Some(0.0));
        assert_eq!(at([Quantiles::default()].iter(), 0.5), None);
    }

    #[test]
    fn values_of_all_sizes_stay_within_the_buckets() {
        let values: Vec<f64> = (0..60_000u64).map(|i| f64::from_bits(i * 307_445_734_561_825)).collect();
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let Quantiles::Many(buckets) = of(&values) else { panic!("they are many") };
        assert!(buckets.counts.len() <= BUCKETS_MAX && buckets.level > 0);
        assert!(at([of(&values)].iter(), 1.0).unwrap().is_finite());
    }

    proptest! {
        #[test]
        fn order_and_cuts_change_nothing(
            scale in 0i32..600, n in prop_oneof![0usize..50, 900usize..1200, 4000usize..6000], cuts in 1usize..9,
        ) {
            let values: Vec<f64> = (0..n).map(|i| {
                let x = (i * 7919 % 10_007) as f64 / 10_007.0 - 0.3;
                x * 2f64.powi((i as i32 * 37) % (scale + 1))
            }).collect();
            let whole = of(&values);
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(&of(&reversed), &whole);
            let parts: Vec<Quantiles> = (0..cuts).map(|cut| {
                of(&values.iter().skip(cut).step_by(cuts).copied().collect::<Vec<f64>>())
            }).collect();
            for q in [0.0, 0.1, 0.5, 0.77, 1.0] {
                prop_assert_eq!(at(parts.iter(), q), at([&whole].into_iter(), q));
            }
        }
    }
}
