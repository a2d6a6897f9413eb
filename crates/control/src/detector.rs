//! An e-detector for a mean that rises: bets that begin anew with each block of observations. Knows blocks, limits and
//! outcomes in [0, 1], no time.

/// The largest stake could lose nine tenths of its capital on a zero; each next one is smaller by [`RATIO`].
const STAKES: usize = 11;
const RATIO: f64 = 1.6;
/// Beginnings are about equally likely over the first so many blocks, then ever less: the capital lasts for ever.
const FLAT: f64 = 32.0;

/// A mixture over stakes and beginnings of betting e-processes against "the conditional mean is at most the limit"
/// (Shin, Ramdas & Rinaldo, "E-detectors", 2023, with weights that sum to one instead of ones: then the chance of ever a
/// false alarm is bounded, not the average time to the first).
#[derive(Clone, Debug)]
pub struct Detector {
    blocks: u64,
    /// Capital that no bet has begun with yet.
    unspent: f64,
    stakes: [Stake; STAKES],
}

#[derive(Clone, Copy, Debug)]
struct Stake {
    /// Logarithm of the capital of all bets that have begun.
    capital: f64,
    /// Page's cumulative sum of the logarithms, and what came since it last began.
    height: f64,
    run: Run,
}

/// A stretch of blocks up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Run {
    pub begin: i64,
    pub rows: f64,
    pub sum: f64,
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

impl Detector {
    pub fn new() -> Self {
        let stake = Stake { capital: f64::NEG_INFINITY, height: 0.0, run: Run::default() };
        Detector { blocks: 0, unspent: 1.0, stakes: [stake; STAKES] }
    }

    /// A block of observations in [0, 1], named `name`, whose mean is at most `limit` under the null hypothesis; each
    /// counts to the power `power`, at most one.
    pub fn push(&mut self, name: i64, limit: f64, observations: &[f64], power: f64) {
        self.blocks += 1;
        let at = self.blocks as f64 + FLAT;
        let part = (FLAT.ln() / (at * at.ln() * at.ln())).min(self.unspent);
        self.unspent -= part;
        let fresh = part.ln() - (STAKES as f64).ln();
        let (rows, sum) = (observations.len() as f64, observations.iter().sum::<f64>());
        for (place, stake) in self.stakes.iter_mut().enumerate() {
            let bet = 0.9 / limit * RATIO.powi(-(place as i32));
            let gain = power * observations.iter().map(|x| (bet * (x - limit)).ln_1p()).sum::<f64>();
            stake.capital = log_sum(stake.capital, fresh) + gain;
            if stake.height <= 0.0 {
                (stake.height, stake.run) = (0.0, Run { begin: name, rows: 0.0, sum: 0.0 });
            }
            stake.height += gain;
            stake.run.rows += rows;
            stake.run.sum += sum;
        }
    }

    /// Logarithm of the e-value.
    pub fn log_e(&self) -> f64 {
        self.stakes.iter().fold(self.unspent.ln(), |sum, stake| log_sum(sum, stake.capital))
    }

    /// The stretch since the likeliest beginning of a change.
    pub fn likeliest(&self) -> Run {
        let highest = self.stakes.iter().max_by(|a, b| a.height.total_cmp(&b.height));
        highest.map(|stake| stake.run).unwrap_or_default()
    }
}

fn log_sum(a: f64, b: f64) -> f64 {
    let (more, less) = if a > b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY { more } else { more + (less - more).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn capital_is_one_in_all_and_fair_bets_keep_it_so_on_average() {
        // Two equally likely worlds of one observation each: the mean of the e-values is one.
        let e = |x: f64| {
            let mut detector = Detector::new();
            detector.push(0, 0.5, &[x], 1.0);
            detector.log_e().exp()
        };
        assert!((0.5 * (e(0.0) + e(1.0)) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn it_seldom_cries_wolf_and_never_sleeps() {
        let (mut alarms, mut late) = (0, 0);
        for seed in 0..200 {
            let mut random = Random(seed);
            let mut detector = Detector::new();
            let mut block = |detector: &mut Detector, name: i64, p: f64| {
                let drawn: Vec<f64> = (0..50).map(|_| f64::from(u8::from(random.unit() < p))).collect();
                detector.push(name, 0.1, &drawn, 1.0);
                detector.log_e() >= 20f64.ln()
            };
            let early = (0..200).filter(|name| block(&mut detector, *name, 0.1)).count() > 0;
            alarms += usize::from(early);
            let found = (200..260).any(|name| block(&mut detector, name, 0.2));
            late += usize::from(!early && !found);
        }
        assert!(alarms <= 10 && late == 0, "{alarms} false alarms, {late} missed");
    }
}
