//! Watching outcomes as they arrive: is the loss above its reference, do predictions and outcomes still agree on
//! average? Rows that become known within the same hour are one observation, their mean: the outcomes of one storm are
//! not independent, and a mean of values in [0, 1] is in [0, 1] too, so the tests stay valid.

use crate::sequential::{BettingProcess, EmpiricalBernstein};
use serde::Serialize;
use vocabulary::profile::LossReference;
use vocabulary::{Span, Timestamp};

/// Means over the hours in which outcomes became known.
#[derive(Clone, Debug, Default)]
struct Hourly {
    hour: i64,
    sum: f64,
    rows: u64,
}

impl Hourly {
    /// Adds a value; gives the mean of the hour that ended, if one did.
    fn push(&mut self, at: Timestamp, value: f64) -> Option<f64> {
        let hour = at.0.div_euclid(Span::hours(1).0);
        let ended = (self.rows > 0 && hour > self.hour).then(|| self.sum / self.rows as f64);
        if ended.is_some() {
            (self.sum, self.rows) = (0.0, 0);
        }
        self.hour = if self.rows == 0 { hour } else { self.hour };
        self.sum += value;
        self.rows += 1;
        ended
    }
}

/// The reference's own uncertainty: this many standard errors above its mean count as the same loss. Normal, one sided,
/// 99.5 %.
const REFERENCE_ERRORS: f64 = 2.576;
/// Rows of the reference count as this many fewer: they come in hours too.
const REFERENCE_CLUSTER: f64 = 8.0;

#[derive(Clone, Debug)]
pub struct LossMonitor {
    hourly: Hourly,
    bets: BettingProcess,
    reference: f64,
    limit: f64,
    alpha: f64,
    sum: f64,
    rows: u64,
    certified: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossSummary {
    /// Mean loss since the monitor began; none before the first outcome.
    pub mean: Option<f64>,
    pub reference: f64,
    /// What the null hypothesis allows.
    pub limit: f64,
    pub e_value: f64,
    /// An e-value at or above this is an alarm.
    pub threshold: f64,
    pub rows: u64,
    pub certified: Option<Timestamp>,
}

impl LossMonitor {
    pub fn new(reference: &LossReference, tolerance: f64, alpha: f64) -> Self {
        let rows = (reference.rows as f64 / REFERENCE_CLUSTER).max(1.0);
        let limit = reference.mean + REFERENCE_ERRORS * reference.standard_deviation / rows.sqrt() + tolerance;
        LossMonitor {
            hourly: Hourly::default(),
            bets: BettingProcess::new(limit),
            reference: reference.mean,
            limit,
            alpha,
            sum: 0.0,
            rows: 0,
            certified: None,
        }
    }

    /// `loss` is bounded: see [`vocabulary::profile::bounded_loss`].
    pub fn observe(&mut self, at: Timestamp, loss: f64) {
        self.sum += loss;
        self.rows += 1;
        if let Some(mean) = self.hourly.push(at, loss) {
            self.bets.push(mean);
            if self.certified.is_none() && self.bets.log_e() >= (1.0 / self.alpha).ln() {
                self.certified = Some(at);
            }
        }
    }

    pub fn summary(&self) -> LossSummary {
        LossSummary {
            mean: (self.rows > 0).then(|| self.sum / self.rows as f64),
            reference: self.reference,
            limit: self.limit,
            e_value: self.bets.log_e().min(700.0).exp(),
            threshold: 1.0 / self.alpha,
            rows: self.rows,
            certified: self.certified,
        }
    }
}

#[derive(Clone, Debug)]
pub struct CalibrationMonitor {
    hourly: Hourly,
    sequence: EmpiricalBernstein,
    tolerance: f64,
    rows: u64,
    certified: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CalibrationSummary {
    /// Mean of outcome less prediction, in the target's own unit for a binary one, otherwise in units of the loss scale.
    pub gap: Option<f64>,
    pub low: f64,
    pub high: f64,
    pub tolerance: f64,
    pub rows: u64,
    pub certified: Option<Timestamp>,
}

impl CalibrationMonitor {
    pub fn new(tolerance: f64, alpha: f64) -> Self {
        let (hourly, sequence) = (Hourly::default(), EmpiricalBernstein::new(alpha));
        CalibrationMonitor { hourly, sequence, tolerance, rows: 0, certified: None }
    }

    /// `gap` is outcome less prediction, in [-1, 1].
    pub fn observe(&mut self, at: Timestamp, gap: f64) {
        self.rows += 1;
        if let Some(mean) = self.hourly.push(at, 0.5 + 0.5 * gap.clamp(-1.0, 1.0)) {
            self.sequence.push(mean);
            let (low, high) = self.interval();
            if self.certified.is_none() && (low > self.tolerance || high < -self.tolerance) {
                self.certified = Some(at);
            }
        }
    }

    fn interval(&self) -> (f64, f64) {
        let (low, high) = self.sequence.interval();
        (2.0 * low - 1.0, 2.0 * high - 1.0)
    }

    pub fn summary(&self) -> CalibrationSummary {
        let (low, high) = self.interval();
        CalibrationSummary {
            gap: (self.sequence.count() > 0.0).then(|| 2.0 * self.sequence.mean() - 1.0),
            low,
            high,
            tolerance: self.tolerance,
            rows: self.rows,
            certified: self.certified,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn reference() -> LossReference {
        LossReference { rows: 10_000, mean: 0.15, standard_deviation: 0.2, scale: 1.0 }
    }

    /// Forty outcomes an hour for `days`, late with probability `p`, predicted at `said`.
    fn run(seed: u64, days: i64, p: f64, said: f64) -> (LossSummary, CalibrationSummary) {
        let mut random = Random(seed);
        let mut loss = LossMonitor::new(&reference(), 0.01, 0.0125);
        let mut calibration = CalibrationMonitor::new(0.03, 0.0125);
        for row in 0..days * 24 * 40 {
            let at = Timestamp(row * Span::hours(1).0 / 40);
            let outcome = f64::from(u8::from(random.unit() < p));
            loss.observe(at, (outcome - said) * (outcome - said));
            calibration.observe(at, outcome - said);
        }
        (loss.summary(), calibration.summary())
    }

    #[test]
    fn nothing_is_found_where_nothing_changed() {
        for seed in 0..20 {
            let (loss, calibration) = run(seed, 30, 0.18, 0.18);
            assert!(
                loss.certified.is_none() && calibration.certified.is_none(),
                "seed {seed}: {loss:?} {calibration:?}"
            );
        }
    }

    #[test]
    fn july_is_found() {
        // The flights' frozen model in July: it says .20 where .31 come true.
        let (loss, calibration) = run(1, 14, 0.31, 0.20);
        assert!(loss.certified.is_some(), "{loss:?}");
        assert!(calibration.certified.is_some(), "{calibration:?}");
        assert!(calibration.low <= 0.11 && 0.11 <= calibration.high);
    }
}
