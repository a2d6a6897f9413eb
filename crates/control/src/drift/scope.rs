//! The tests of one scope, all rows or one segment: at each hour's end, windows of many lengths that end now are held
//! against the reference. Four statistics a feature, each of which can only exceed the tolerance when the largest
//! difference of cumulative shares does: the share of missing values, that of unseen categories, the mean rank, and that
//! difference itself.

use super::blocks::{Block, Blocks};
use super::expected::Expected;
use super::spending::{bennett, chernoff, largest_due, log_cost};
use vocabulary::profile::Dependence;

/// Statistics, with the part of a feature's budget that each has: of a number, and of a category.
pub const STATISTICS: usize = 4;
const PARTS: [[f64; STATISTICS]; 2] = [[0.15, 0.0, 0.5, 0.35], [0.15, 0.3, 0.0, 0.55]];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    Nulls,
    Unseen,
    Rank,
    Shape,
}

/// Counts and tests of one scope.
#[derive(Clone, Debug)]
pub struct Scope {
    pub expected: Expected,
    blocks: Blocks,
    open: Open,
    /// Hours that had rows and have ended.
    looks: u64,
    pub rows: u64,
    today: (i64, f64),
    /// By feature.
    dependence: Vec<Dependence>,
    /// Rows of one reference hour and day on average; none where that is not known.
    reference_block: Option<(f64, f64)>,
    /// By feature: logarithm of one over its budget.
    log_budgets: Vec<f64>,
    tolerance: f64,
}

/// The hour that is being counted.
#[derive(Clone, Debug, Default)]
struct Open {
    hour: i64,
    counts: Vec<u32>,
    strata: Vec<(u16, f64)>,
}

/// What exceeds the tolerance for certain.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    pub feature: usize,
    pub statistic: Statistic,
}

/// One feature in one window that ends now.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its first hour.
    pub begin: i64,
    pub rows: f64,
    /// Independent rows that say as much.
    pub effective: f64,
    /// Counts by bin, and what the reference expects.
    pub live: Vec<f64>,
    pub expected: Vec<f64>,
    /// Mean rank less the expected one, and its variance in one row.
    pub rank: f64,
    pub variance: f64,
}

pub struct ScopeOptions {
    pub tolerance: f64,
    pub dependence: Vec<Dependence>,
    pub reference_block: Option<(f64, f64)>,
    /// By feature.
    pub budgets: Vec<f64>,
}

impl Scope {
    pub fn new(expected: Expected, options: ScopeOptions) -> Self {
        let open = Open { hour: i64::MIN, counts: vec![0; expected.layout.total], strata: Vec::new() };
        Scope {
            expected,
            blocks: Blocks::default(),
            open,
            looks: 0,
            rows: 0,
            today: (i64::MIN, 0.0),
            dependence: options.dependence,
            reference_block: options.reference_block,
            log_budgets: options.budgets.iter().map(|budget| -budget.ln()).collect(),
            tolerance: options.tolerance,
        }
    }

    /// Counts a row into the open hour, `hour` where none is; `places` are its bins in the layout's order.
    #[inline]
    pub fn count(&mut self, hour: i64, hour_of_week: u16, places: impl Iterator<Item = u16>) {
        if self.open.strata.is_empty() {
            self.open.hour = hour;
        }
        let stratum = self.expected.stratum(hour_of_week);
        match self.open.strata.iter_mut().find(|(own, _)| *own == stratum) {
            Some((_, rows)) => *rows += 1.0,
            None => self.open.strata.push((stratum, 1.0)),
        }
        self.rows += 1;
        let layout = &self.expected.layout;
        for (place, range) in places.zip(layout.begins.windows(2)) {
            let width = range[1] - range[0];
            self.open.counts[range[0] + usize::from(place).min(width - 1)] += 1;
        }
    }

    /// Ends the open hour and tests; features of which `certified` holds are left out. No hour, no look.
    pub fn close(&mut self, certified: impl Fn(usize) -> bool) -> Vec<Hit> {
        if self.open.strata.is_empty() {
            return Vec::new();
        }
        self.open.strata.sort_unstable_by_key(|(stratum, _)| *stratum);
        let (hour, day) = (self.open.hour, self.open.hour.div_euclid(24));
        if self.today.0 != day {
            self.today = (day, 0.0);
        }
        let block = Block::of_hour(hour, &self.open.counts, &self.open.strata, self.today.1, &self.expected);
        self.today.1 += block.rows;
        self.blocks.push(block);
        self.open.counts.fill(0);
        self.open.strata.clear();
        self.looks += 1;
        self.test(certified)
    }

    fn test(&self, certified: impl Fn(usize) -> bool) -> Vec<Hit> {
        let due = largest_due(self.looks);
        let mut window = Block::empty(&self.expected);
        let mut hits: Vec<Hit> = Vec::new();
        for block in self.blocks.iter().take_while(|block| block.scale <= due) {
            window.add(block);
            let cost = log_cost(block.scale, self.looks);
            let reference = window.reference_rows(&self.expected);
            for feature in 0..self.expected.layout.features() {
                if certified(feature) || hits.iter().any(|hit| hit.feature == feature) {
                    continue;
                }
                let wanted = self.log_budgets[feature] + cost;
                if let Some(statistic) = self.exceeds(&window, reference, feature, wanted) {
                    hits.push(Hit { feature, statistic });
                }
            }
        }
        hits
    }

    /// The first statistic of a feature whose evidence reaches `wanted` and the price of its own part of the budget.
    fn exceeds(&self, window: &Block, reference: f64, feature: usize, wanted: f64) -> Option<Statistic> {
        let effective = self.effective(window, reference, feature);
        let parts = &PARTS[usize::from(!self.expected.numeric[feature])];
        // Nothing can be certain before even the largest difference would be.
        if effective * 12.0 < wanted {
            return None;
        }
        let reached = |statistic: Statistic, evidence: f64| {
            let part = parts[statistic as usize];
            (part > 0.0 && evidence >= wanted - part.ln() + std::f64::consts::LN_2).then_some(statistic)
        };
        let (rank, distance) = self.differences(window, feature);
        let cheap = |excess: f64, variance: f64| effective * excess * excess / (2.0 * variance) >= wanted;
        let nulls = self.share(window, feature, Statistic::Nulls);
        let unseen = self.share(window, feature, Statistic::Unseen);
        let mut found = None;
        for (statistic, (share, expected)) in [(Statistic::Nulls, nulls), (Statistic::Unseen, unseen)] {
            if parts[statistic as usize] > 0.0 && (share - expected).abs() > self.tolerance {
                found = found.or(reached(statistic, self.share_evidence(statistic, share, expected, effective)));
            }
        }
        let variance = window.variances[feature] / window.rows;
        if found.is_none() && parts[Statistic::Rank as usize] > 0.0 && cheap(rank.abs() - self.tolerance, variance) {
            let reach = self.expected.reach[feature];
            found = reached(Statistic::Rank, bennett(rank.abs() - self.tolerance, variance, reach, effective));
        }
        if found.is_none() {
            let excess = (distance - self.tolerance).max(0.0);
            found = reached(Statistic::Shape, 2.0 * effective * excess * excess);
        }
        found
    }

    fn share_evidence(&self, statistic: Statistic, share: f64, expected: f64, effective: f64) -> f64 {
        let up = chernoff(share, (expected + self.tolerance).min(1.0), effective);
        match statistic {
            _ if share > expected + self.tolerance => up,
            Statistic::Nulls if share < expected - self.tolerance => {
                chernoff(share, expected - self.tolerance, effective)
            }
            _ => 0.0,
        }
    }

    /// The share of one bin, live and expected.
    fn share(&self, window: &Block, feature: usize, statistic: Statistic) -> (f64, f64) {
        let range = self.expected.layout.range(feature);
        let (count, place) = match statistic {
            Statistic::Nulls => (window.nulls[feature], range.start),
            _ => (window.unseen[feature], range.end - 1),
        };
        (count / window.rows, ((count - window.excess[place]) / window.rows).max(0.0))
    }

    /// Mean rank less the expected one, and the largest difference of cumulative shares.
    fn differences(&self, window: &Block, feature: usize) -> (f64, f64) {
        let range = self.expected.layout.range(feature);
        let (mut rank, mut gap, mut distance) = (0.0, 0.0f64, 0.0f64);
        for (excess, own) in window.excess[range.clone()].iter().zip(&self.expected.ranks[range]) {
            rank += excess * f64::from(*own);
            gap += excess;
            distance = distance.max(gap.abs());
        }
        (rank / window.rows, distance / window.rows)
    }

    /// How many independent rows, held against a reference without error, say as much as this window does: rows of one
    /// hour and of one day resemble each other, there and here.
    fn effective(&self, window: &Block, reference: f64, feature: usize) -> f64 {
        let alike = self.dependence[feature];
        let live = 1.0 + (alike.hour * window.hour_pairs + alike.day * window.day_pairs) / window.rows;
        let there = self
            .reference_block
            .map_or(live, |(hour, day)| 1.0 + alike.hour * (hour - 1.0).max(0.0) + alike.day * (day - hour).max(0.0));
        let per_row = live / window.rows + there * reference / (window.rows * window.rows);
        1.0 / per_row
    }

    /// One feature in the window that begins where the evidence of `statistic` is strongest, but not after `latest`.
    pub fn strongest(&self, feature: usize, statistic: Statistic, latest: i64) -> Option<Window> {
        self.widening(latest, |window, reference| {
            let effective = self.effective(window, reference, feature);
            let (rank, distance) = self.differences(window, feature);
            match statistic {
                Statistic::Rank => {
                    let variance = window.variances[feature] / window.rows;
                    let reach = self.expected.reach[feature];
                    bennett(rank.abs() - self.tolerance, variance, reach, effective)
                }
                Statistic::Shape => 2.0 * effective * (distance - self.tolerance).max(0.0).powi(2),
                _ => {
                    let (share, expected) = self.share(window, feature, statistic);
                    self.share_evidence(statistic, share, expected, effective)
                }
            }
        })
        .and_then(|begin| self.window(feature, begin))
    }

    /// The begin of the window with the most evidence.
    fn widening(&self, latest: i64, evidence: impl Fn(&Block, f64) -> f64) -> Option<i64> {
        let mut window = Block::empty(&self.expected);
        let mut best: Option<(f64, i64)> = None;
        for block in self.blocks.iter() {
            window.add(block);
            let found = evidence(&window, window.reference_rows(&self.expected));
            if window.begin <= latest && best.is_none_or(|(most, _)| found > most) {
                best = Some((found, window.begin));
            }
        }
        best.map(|(_, begin)| begin)
    }

    /// One feature in the window of all blocks that begin at or after `begin`; none where there is none.
    pub fn window(&self, feature: usize, begin: i64) -> Option<Window> {
        let mut sum = Block::empty(&self.expected);
        self.blocks.iter().take_while(|block| block.begin >= begin).for_each(|block| sum.add(block));
        if sum.rows == 0.0 {
            return None;
        }
        let range = self.expected.layout.range(feature);
        let mut expected = vec![0.0; range.len()];
        for (stratum, rows) in &sum.strata {
            let shares = &self.expected.shares(*stratum)[range.clone()];
            expected.iter_mut().zip(shares).for_each(|(e, share)| *e += rows * f64::from(*share));
        }
        let live = sum.excess[range].iter().zip(&expected).map(|(excess, e)| (excess + e).max(0.0).round()).collect();
        let (rank, _) = self.differences(&sum, feature);
        let effective = self.effective(&sum, sum.reference_rows(&self.expected), feature);
        let variance = sum.variances[feature] / sum.rows;
        Some(Window { begin: sum.begin, rows: sum.rows, effective, live, expected, rank, variance })
    }

    /// One feature in all that was counted.
    pub fn whole(&self, feature: usize) -> Option<Window> {
        self.window(feature, i64::MIN)
    }

    /// Logarithm of one over what the test of a statistic may spend at this look on the longest windows.
    pub fn log_level(&self, feature: usize, statistic: Statistic) -> f64 {
        let part = PARTS[usize::from(!self.expected.numeric[feature])][statistic as usize].max(1e-3);
        let scale = largest_due(self.looks.next_power_of_two());
        self.log_budgets[feature] + log_cost(scale, self.looks.max(1)) - part.ln() + std::f64::consts::LN_2
    }

    /// The open hour, if rows are in it.
    pub fn open_hour(&self) -> Option<i64> {
        (!self.open.strata.is_empty()).then_some(self.open.hour)
    }

    /// Mean rank of each feature in the hour that ended last, with its rows.
    pub fn last_hour(&self) -> Option<(i64, f64, Vec<f64>)> {
        let block = self.blocks.iter().next().filter(|block| block.scale == 0)?;
        let features = 0..self.expected.layout.features();
        let means = features.map(|feature| {
            let expected: f64 =
                block.strata.iter().map(|(s, rows)| rows * self.expected.mean_of(*s, feature)).sum::<f64>()
                    / block.rows;
            expected + self.differences(block, feature).0
        });
        Some((block.begin, block.rows, means.collect()))
    }
}

impl Window {
    pub fn distance(&self) -> f64 {
        let mut gap = 0.0f64;
        let gaps = self.live.iter().zip(&self.expected).map(|(live, expected)| {
            gap += live - expected;
            gap.abs()
        });
        gaps.fold(0.0, f64::max) / self.rows
    }

    /// The share of a bin now and before.
    pub fn shares(&self, bin: usize) -> (f64, f64) {
        (self.live[bin] / self.rows, self.expected[bin] / self.rows)
    }
}
