//! Watching outcomes as they arrive: is the loss above its reference, do predictions and outcomes still agree on
//! average? Rows that become known within the same hour are one observation, their mean: the outcomes of one storm are
//! not independent, and a mean of values in [0, 1] is in [0, 1] too, so the tests stay valid.

use crate::detector::Detector;
use crate::sequential::{BettingProcess, EmpiricalBernstein};
use serde::Serialize;
use vocabulary::profile::{Dependence, LossReference};
use vocabulary::{Interval, Span, Timestamp};

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

/// Where nothing is known about how much losses of one hour resemble each other, rows of the reference count as this
/// many fewer, and an hour is one observation: its mean.
const REFERENCE_CLUSTER: f64 = 8.0;

/// Then the reference's own uncertainty is this many standard errors: normal, one sided, 99.5 %.
const REFERENCE_ERRORS: f64 = 2.576;
/// What creeps up is not learned beyond this many standard errors.
const LEARNED_ERRORS: f64 = 3.0;

/// Is the loss above its reference by more than the tolerance, now or lately? An e-detector: bets against "the mean is
/// still what it was" begin anew each hour, each beginning with its part of one capital, so that by Ville's inequality
/// the chance of ever a false alarm is at most `alpha`, and a late change is found as quickly as an early one.
///
/// Bets on a single storm would win where losses of one day resemble each other and nobody knows how much. There all bets
/// begin at the beginning, on hourly means, against a mean that allows for the reference's error.
#[derive(Clone, Debug)]
pub struct LossMonitor {
    hour: Hour,
    detector: Detector,
    /// In place of the detector where dependence is not known.
    bets: BettingProcess,
    /// Rows of the day so far, and of the fullest day.
    day: (i64, f64, f64),
    tolerance: f64,
    reference: LossReference,
    dependence: Option<Dependence>,
    /// Mean that the null hypothesis has learned: the reference's rows and all hours so far.
    weight: f64,
    learned: f64,
    alpha: f64,
    sum: f64,
    rows: u64,
    certified: Option<Timestamp>,
    change: Option<Change>,
}

/// Losses of the hour that is open.
#[derive(Clone, Debug, Default)]
struct Hour {
    hour: i64,
    losses: Vec<f64>,
}

/// Losses of one hour that are told apart at most; further ones change its mean alone.
const HOUR_LOSSES_MAX: usize = 65_536;

/// Since when, and what has been since.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    began: i64,
    mean: f64,
    radius: f64,
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
    /// When the change began, an estimate, and the mean loss since then with its interval; once it is certain.
    pub began: Option<Timestamp>,
    pub mean_since: Option<f64>,
    pub interval: Option<Interval>,
}

impl LossMonitor {
    pub fn new(reference: &LossReference, tolerance: f64, alpha: f64) -> Self {
        Self::with_dependence(reference, None, tolerance, alpha)
    }

    /// With what is known of how much losses of one hour resemble each other, each row counts for what it says; without,
    /// an hour is one observation.
    pub fn with_dependence(
        reference: &LossReference,
        dependence: Option<Dependence>,
        tolerance: f64,
        alpha: f64,
    ) -> Self {
        let mut monitor = LossMonitor {
            hour: Hour::default(),
            detector: Detector::new(),
            bets: BettingProcess::new(1.0),
            day: (i64::MIN, 0.0, 0.0),
            tolerance,
            reference: *reference,
            dependence,
            weight: 1.0,
            learned: reference.mean,
            alpha,
            sum: 0.0,
            rows: 0,
            certified: None,
            change: None,
        };
        monitor.weight = monitor.reference_rows();
        monitor.bets = BettingProcess::new(monitor.limit());
        monitor
    }

    /// Rows of the reference that say something of their own.
    fn reference_rows(&self) -> f64 {
        let cluster = self.dependence.map_or(REFERENCE_CLUSTER, |alike| 1.0 + alike.hour * (REFERENCE_CLUSTER - 1.0));
        (self.reference.rows as f64 / cluster).max(1.0)
    }

    /// `loss` is bounded: see [`vocabulary::profile::bounded_loss`].
    pub fn observe(&mut self, at: Timestamp, loss: f64) {
        let hour = at.0.div_euclid(Span::hours(1).0);
        if hour > self.hour.hour && !self.hour.losses.is_empty() {
            self.close(at);
        }
        if self.hour.losses.is_empty() {
            self.hour.hour = hour;
        }
        self.sum += loss;
        self.rows += 1;
        if self.hour.losses.len() < HOUR_LOSSES_MAX {
            self.hour.losses.push(loss.clamp(0.0, 1.0));
        }
    }

    /// What the null hypothesis allows. With known dependence, the mean of the reference and of what came since, as
    /// exchangeable rows of one process have it, within [`LEARNED_ERRORS`] of the reference's; and the tolerance.
    fn limit(&self) -> f64 {
        let error = self.reference.standard_deviation / self.reference_rows().sqrt();
        let mean = match self.dependence {
            Some(_) => self.learned.min(self.reference.mean + LEARNED_ERRORS * error),
            None => self.reference.mean + REFERENCE_ERRORS * error,
        };
        (mean + self.tolerance).clamp(1e-6, 1.0)
    }

    fn close(&mut self, now: Timestamp) {
        let limit = self.limit();
        let rows = self.hour.losses.len() as f64;
        let mean = self.hour.losses.iter().sum::<f64>() / rows;
        let power = self.power(rows);
        match self.dependence {
            None => {
                self.bets.push(mean);
                // For the date alone.
                self.detector.push(self.hour.hour, limit, &[mean], 1.0);
            }
            Some(_) => self.detector.push(self.hour.hour, limit, &self.hour.losses, power),
        }
        self.learned += (mean - self.learned) * rows * power / (self.weight + rows * power);
        self.weight += rows * power;
        self.hour.losses.clear();
        if self.certified.is_none() && self.log_e() >= -self.alpha.ln() {
            self.certified = Some(now);
            self.change = Some(self.dated());
        }
    }

    /// A power below one of a bet is still a bet (Jensen): rows of an hour or a day that repeat each other count for what
    /// they say.
    fn power(&mut self, rows: f64) -> f64 {
        let day = self.hour.hour.div_euclid(24);
        if self.day.0 != day {
            (self.day.0, self.day.1) = (day, 0.0);
        }
        self.day.1 += rows;
        self.day.2 = self.day.2.max(self.day.1);
        let alike = self.dependence.unwrap_or(Dependence { hour: 1.0 / REFERENCE_CLUSTER, day: 0.0 });
        1.0 / (1.0 + alike.hour * (rows - 1.0) + alike.day * (self.day.2 - rows))
    }

    fn log_e(&self) -> f64 {
        if self.dependence.is_some() { self.detector.log_e() } else { self.bets.log_e() }
    }

    fn dated(&self) -> Change {
        let run = self.detector.likeliest();
        let mean = run.sum / run.rows.max(1.0);
        let deviation = self.reference.standard_deviation.max((mean * (1.0 - mean)).max(0.0).sqrt());
        let radius = deviation * (2.0 * (2.0 / self.alpha).ln() / run.rows.max(1.0)).sqrt();
        Change { began: run.begin, mean, radius }
    }

    pub fn summary(&self) -> LossSummary {
        let change = self.change;
        LossSummary {
            mean: (self.rows > 0).then(|| self.sum / self.rows as f64),
            reference: self.reference.mean,
            limit: self.limit(),
            e_value: self.log_e().min(700.0).exp(),
            threshold: 1.0 / self.alpha,
            rows: self.rows,
            certified: self.certified,
            began: change.map(|change| Timestamp(change.began * Span::hours(1).0)),
            mean_since: change.map(|change| change.mean),
            interval: change.map(|c| Interval { low: c.mean - c.radius, high: (c.mean + c.radius).min(1.0) }),
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

    /// Errors of a classifier, fifty an hour, at rate `.10` and from `hour` on at `after`.
    fn errors(seed: u64, hour: i64, hours: i64, after: f64) -> LossMonitor {
        let mut random = Random(seed);
        let reference = LossReference { rows: 5_000, mean: 0.1, standard_deviation: 0.3, scale: 1.0 };
        let independent = Some(Dependence { hour: 0.0, day: 0.0 });
        let mut monitor = LossMonitor::with_dependence(&reference, independent, 0.0, 0.05);
        for row in 0..hours * 50 {
            let p = if row / 50 < hour { 0.1 } else { after };
            let loss = f64::from(u8::from(random.unit() < p));
            monitor.observe(Timestamp(row / 50 * Span::hours(1).0), loss);
        }
        monitor
    }

    #[test]
    fn a_late_step_of_the_error_rate_is_found_and_dated() {
        for seed in 0..10 {
            let summary = errors(seed, 400, 460, 0.2).summary();
            let at = summary.certified.map(|at| at.0 / Span::hours(1).0);
            assert!(at.is_some_and(|hour| (400..430).contains(&hour)), "seed {seed}: {summary:?}");
            let began = summary.began.map_or(0, |at| at.0 / Span::hours(1).0);
            assert!((388..=412).contains(&began), "seed {seed}: began {began}");
            let interval = summary.interval.unwrap();
            assert!(interval.low > 0.1 && interval.low < 0.2 && 0.2 < interval.high, "{summary:?}");
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
