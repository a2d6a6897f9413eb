//! The release gate: two versions on the same rows, compared by a test that may be looked at any time. Rows are summed
//! in blocks of event time, because the rows of one storm are not independent; the block is the unit of the test.

use serde::Serialize;
use std::collections::BTreeMap;
use vocabulary::model::ReleaseSpec;
use vocabulary::{Answer, Span, Task, Timestamp};

use crate::sequential::{mixture_radius, mixture_rho};

/// Probabilities are clipped this far from 0 and 1 before their logarithm is taken: one overconfident row shall not
/// decide a release.
const PROBABILITY_MIN: f64 = 0.001;
/// Blocks before which nothing is certified: a week of days.
const BLOCKS_MIN: u64 = 7;
/// The boundary is tightest after this many blocks: two weeks of days.
const BLOCKS_OPTIMAL: f64 = 14.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not enough evidence yet.
    NotEnough,
    Better,
    Worse,
    /// The horizon passed without evidence either way.
    Undecided,
}

/// Where a comparison stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evidence {
    pub rows: u64,
    pub blocks: u64,
    /// Incumbent's loss less newcomer's, a row; positive where the newcomer is better.
    pub mean_gain: Option<f64>,
    /// Confidence sequence of the mean gain.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub incumbent_loss: Option<f64>,
    pub newcomer_loss: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    rows: u64,
    gain: f64,
}

#[derive(Clone, Debug)]
pub struct Trial {
    spec: ReleaseSpec,
    task: Task,
    scale: f64,
    since: Timestamp,
    blocks: BTreeMap<i64, Block>,
    rows: u64,
    incumbent_loss: f64,
    newcomer_loss: f64,
}

/// A number that JSON can hold.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl Trial {
    /// `scale` is the unit of a regression's errors; `since` the first instant whose rows both versions scored.
    pub fn new(spec: &ReleaseSpec, task: Task, scale: f64, since: Timestamp) -> Self {
        let (blocks, spec) = (BTreeMap::new(), spec.clone());
        Trial { spec, task, scale, since, blocks, rows: 0, incumbent_loss: 0.0, newcomer_loss: 0.0 }
    }

    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// One row with its outcome, and what both versions said about it.
    pub fn observe(&mut self, at: Timestamp, outcome: f64, incumbent: &Answer, newcomer: &Answer) {
        let (old, new) = (self.loss(incumbent, outcome), self.loss(newcomer, outcome));
        self.rows += 1;
        self.incumbent_loss += old;
        self.newcomer_loss += new;
        let block = (at - self.since).0.div_euclid(self.spec.block.0.max(1));
        let block = self.blocks.entry(block).or_default();
        block.rows += 1;
        block.gain += old - new;
    }

    fn loss(&self, said: &Answer, outcome: f64) -> f64 {
        let predicted = said.value();
        match self.task {
            Task::Multiclass => -said.values()[outcome as usize].max(PROBABILITY_MIN).ln(),
            Task::Binary => {
                let p = predicted.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN);
                -(outcome * p.ln() + (1.0 - outcome) * (1.0 - p).ln())
            }
            Task::Regression => {
                let error = (predicted - outcome) / self.scale;
                error * error
            }
        }
    }

    pub fn evidence(&self, now: Timestamp) -> Evidence {
        // A block counts once it is over and its rows had a day for their outcomes to arrive.
        let ripe = ((now - self.since).0 - Span::days(1).0).div_euclid(self.spec.block.0.max(1));
        let blocks: Vec<(f64, f64)> =
            self.blocks.range(..ripe).map(|(_, block)| (block.rows as f64, block.gain)).collect();
        let interval = judge(&blocks, self.spec.alpha);
        let mean = |sum: f64| (self.rows > 0).then(|| sum / self.rows as f64);
        let verdict = self.verdict(interval, now);
        Evidence {
            rows: self.rows,
            blocks: blocks.len() as u64,
            mean_gain: interval.map(|(mean, _)| mean).or(mean(self.incumbent_loss - self.newcomer_loss)),
            low: interval.and_then(|(mean, radius)| finite(mean - radius)),
            high: interval.and_then(|(mean, radius)| finite(mean + radius)),
            incumbent_loss: mean(self.incumbent_loss),
            newcomer_loss: mean(self.newcomer_loss),
            verdict,
        }
    }

    fn verdict(&self, interval: Option<(f64, f64)>, now: Timestamp) -> Verdict {
        let spec = &self.spec;
        let enough = self.rows >= spec.min_rows && now - self.since >= spec.min_shadow;
        match interval {
            Some((mean, radius)) if enough && mean - radius > -spec.tolerance && mean > spec.min_gain => {
                Verdict::Better
            }
            Some((mean, radius)) if enough && mean + radius < spec.tolerance => Verdict::Worse,
            _ if now - self.since >= spec.horizon => Verdict::Undecided,
            _ => Verdict::NotEnough,
        }
    }
}

/// The rule: from blocks of (rows, sum of gains), the mean gain a row and the radius of its confidence sequence, each
/// side of which errs with probability `alpha`; none before [`BLOCKS_MIN`] blocks.
///
/// Asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory
/// and asymptotic confidence sequences", Annals of Statistics 2024) for the ratio of sums; the variance is that of the
/// blocks' residuals, with `B / (B - 2)` for its own uncertainty while blocks are few.
pub fn judge(blocks: &[(f64, f64)], alpha: f64) -> Option<(f64, f64)> {
    let count = blocks.len() as f64;
    if (blocks.len() as u64) < BLOCKS_MIN {
        return None;
    }
    let rows: f64 = blocks.iter().map(|(rows, _)| rows).sum();
    let gains: f64 = blocks.iter().map(|(_, gain)| gain).sum();
    if rows <= 0.0 {
        return None;
    }
    let mean = gains / rows;
    let residuals: f64 = blocks.iter().map(|(rows, gain)| (gain - mean * rows) * (gain - mean * rows)).sum();
    let variance = residuals * count / (count - 2.0);
    // Blocks that do not differ at all say nothing about how they could.
    if variance <= 0.0 {
        return Some((mean, f64::INFINITY));
    }
    // Each side is used alone and has all of alpha.
    let alpha = 2.0 * alpha;
    let rho = mixture_rho(variance / count * BLOCKS_OPTIMAL, alpha);
    Some((mean, mixture_radius(variance, rho, alpha) / rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Days of 900 rows; the newcomer's gain a row is `gain` on average, with a shock that a whole day shares.
    fn verdicts(seed: u64, gain: f64) -> Verdict {
        let mut random = Random(seed);
        let spec = ReleaseSpec::default();
        let mut blocks = Vec::new();
        for _day in 0..28 {
            let shock = 0.02 * random.normal();
            let noise = 0.15 * 30.0 * random.normal();
            blocks.push((900.0, 900.0 * (gain + shock) + noise));
            if let Some((mean, radius)) = judge(&blocks, spec.alpha) {
                if mean - radius > 0.0 {
                    return Verdict::Better;
                }
                if mean + radius < 0.0 {
                    return Verdict::Worse;
                }
            }
        }
        Verdict::NotEnough
    }

    #[test]
    fn equal_versions_are_rarely_told_apart_and_better_ones_are() {
        let count = |gain, wanted| (0..400).filter(|seed| verdicts(*seed, gain) == wanted).count();
        // One side in twenty, and a little for the asymptotics of few blocks.
        assert!(count(0.0, Verdict::Better) <= 24, "{} of 400", count(0.0, Verdict::Better));
        assert!(count(0.03, Verdict::Better) >= 360, "{} of 400", count(0.03, Verdict::Better));
        assert_eq!(count(0.03, Verdict::Worse), 0);
        assert!(count(-0.03, Verdict::Worse) >= 360);
    }

    #[test]
    fn nothing_is_said_too_early_and_the_horizon_ends_it() {
        let spec = ReleaseSpec { min_rows: 10, ..ReleaseSpec::default() };
        let mut trial = Trial::new(&spec, Task::Binary, 1.0, Timestamp(0));
        for row in 0..100i64 {
            trial.observe(Timestamp(row * Span::hours(1).0), 1.0, &Answer::One(0.5), &Answer::One(0.9));
        }
        assert_eq!(trial.evidence(Timestamp(0) + Span::days(3)).verdict, Verdict::NotEnough);
        let mut same = Trial::new(&spec, Task::Regression, 2.0, Timestamp(0));
        for row in 0..1000i64 {
            same.observe(Timestamp(row * Span::hours(1).0), 1.0, &Answer::One(0.5), &Answer::One(0.5));
        }
        let evidence = same.evidence(Timestamp(0) + Span::days(40));
        assert_eq!((evidence.verdict, evidence.mean_gain), (Verdict::Undecided, Some(0.0)));
    }
}
