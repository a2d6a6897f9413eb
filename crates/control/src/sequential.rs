//! Tests and intervals that may be looked at any time: their error holds for all looks together.

/// Constant of Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
/// identification" (Bernoulli 2022), theorem 2.
const DKW_A: f64 = 0.85;

/// Time-uniform band for a distribution function: with probability at least `1 - alpha`, for all `t >= t_min` at once
/// the empirical one stays within [`DkwBand::radius`] of the truth (Howard & Ramdas 2022, theorem 2).
#[derive(Clone, Copy, Debug)]
pub struct DkwBand {
    c: f64,
    t_min: f64,
}

impl DkwBand {
    pub fn new(alpha: f64, t_min: f64) -> Self {
        // The crossing probability falls with C: halve the interval until C is known to the last digits that matter.
        let (mut low, mut high) = (2.0, 200.0);
        for _ in 0..80 {
            let middle = 0.5 * (low + high);
            if dkw_crossing(middle) > alpha { low = middle } else { high = middle }
        }
        DkwBand { c: high, t_min }
    }

    /// Half width after `t` observations; infinite before `t_min`.
    pub fn radius(&self, t: f64) -> f64 {
        if t < self.t_min {
            return f64::INFINITY;
        }
        DKW_A * (((1.0 + (t / self.t_min).ln()).ln() + self.c) / t).sqrt()
    }
}

/// Bound on the probability that the band with constant `c` is ever left: the infimum over eta of theorem 2.
fn dkw_crossing(c: f64) -> f64 {
    let bound = |eta: f64| {
        let root = DKW_A - (2.0 * (eta - 1.0) / c).sqrt();
        if root <= 0.0 {
            return f64::INFINITY;
        }
        let gamma = 2.0 / eta * root * root;
        if gamma <= 1.0 {
            return f64::INFINITY;
        }
        4.0 * (-gamma * c).exp() * (1.0 + 1.0 / ((gamma - 1.0) * eta.ln()))
    };
    (1..4000).map(|i| bound(1.0 + f64::from(i) * 1e-4)).fold(f64::INFINITY, f64::min)
}

/// Fixed-sample Dvoretzky-Kiefer-Wolfowitz radius with Massart's constant, for `n` observations.
pub fn dkw_fixed(n: f64, alpha: f64) -> f64 {
    ((2.0 / alpha).ln() / (2.0 * n)).sqrt()
}

/// Predictable plug-in empirical-Bernstein confidence sequence for the mean of observations in [0, 1] (Waudby-Smith &
/// Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024, theorem 2): each side has half of
/// `alpha`, as in the package confseq.
#[derive(Clone, Debug)]
pub struct EmpiricalBernstein {
    log: f64,
    t: f64,
    sum: f64,
    squares: f64,
    weights: f64,
    weighted: f64,
    /// Below and above the centre; they differ by the first observation, which has no mean before it.
    penalties: [f64; 2],
    low: f64,
    high: f64,
}

impl EmpiricalBernstein {
    pub fn new(alpha: f64) -> Self {
        EmpiricalBernstein {
            log: (2.0 / alpha).ln(),
            t: 0.0,
            sum: 0.0,
            squares: 0.0,
            weights: 0.0,
            weighted: 0.0,
            penalties: [0.0; 2],
            low: 0.0,
            high: 1.0,
        }
    }

    pub fn push(&mut self, x: f64) {
        let x = x.clamp(0.0, 1.0);
        let before = self.t;
        self.t += 1.0;
        // Bets are sized by mean and variance with one imagined observation: mean 1/2, variance 1/4.
        let variance = (0.25 + self.squares) / self.t;
        let lambda = (2.0 * self.log / (variance * self.t * (1.0 + self.t).ln())).sqrt().min(0.5);
        let psi = -(1.0 - lambda).ln() - lambda;
        let surprise = |start: f64| if before > 0.0 { x - self.sum / before } else { x - start };
        let surprises = [surprise(0.0), surprise(1.0)];
        self.weights += lambda;
        self.weighted += lambda * x;
        for (penalty, surprise) in self.penalties.iter_mut().zip(surprises) {
            *penalty += surprise * surprise * psi;
        }
        self.sum += x;
        let mean = (0.5 + self.sum) / (self.t + 1.0);
        self.squares += (x - mean) * (x - mean);
        let centre = self.weighted / self.weights;
        // Intervals may be intersected: the truth is in all of them.
        self.low = self.low.max(centre - (self.log + self.penalties[0]) / self.weights);
        self.high = self.high.min(centre + (self.log + self.penalties[1]) / self.weights);
    }

    pub fn count(&self) -> f64 {
        self.t
    }

    /// Mean of what was seen; 1/2 before anything was.
    pub fn mean(&self) -> f64 {
        if self.t > 0.0 { self.sum / self.t } else { 0.5 }
    }

    pub fn interval(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

/// Bets of the e-process are spread over this many stakes.
const STAKES: usize = 20;

/// Betting e-process against "the conditional mean never exceeds `p0`", for observations in [0, 1]: a mixture over fixed
/// stakes. By Ville's inequality it ever reaches `1 / alpha` with probability at most `alpha` where that is true.
#[derive(Clone, Debug)]
pub struct BettingProcess {
    p0: f64,
    /// Logarithm of each stake's capital.
    capital: [f64; STAKES],
}

impl BettingProcess {
    pub fn new(p0: f64) -> Self {
        BettingProcess { p0: p0.clamp(1e-6, 1.0), capital: [0.0; STAKES] }
    }

    pub fn push(&mut self, x: f64) {
        let x = x.clamp(0.0, 1.0);
        for (i, capital) in self.capital.iter_mut().enumerate() {
            // A stake of 1/p0 could lose everything; nine tenths of it cannot.
            let stake = 0.9 / self.p0 * (i + 1) as f64 / STAKES as f64;
            *capital += (stake * (x - self.p0)).ln_1p();
        }
    }

    /// Logarithm of the e-value.
    pub fn log_e(&self) -> f64 {
        let most = self.capital.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.capital.iter().map(|capital| (capital - most).exp()).sum();
        most + (sum / STAKES as f64).ln()
    }
}

/// The `rho` for which the normal mixture's boundary is tightest at intrinsic time `v_opt` (Howard et al., "Time-uniform,
/// nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021, section 3.5).
pub fn mixture_rho(v_opt: f64, alpha: f64) -> f64 {
    let log = 2.0 * (1.0 / alpha).ln();
    v_opt / (log + (1.0 + log).ln())
}

/// Two-sided normal-mixture boundary for a sum with variance `v`: crossed at any time with probability at most `alpha`.
pub fn mixture_radius(v: f64, rho: f64, alpha: f64) -> f64 {
    ((v + rho) * ((1.0 + v / rho).ln() + 2.0 * (1.0 / alpha).ln())).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
    }

    #[test]
    fn the_dkw_band_is_the_papers() {
        // confseq's unit test: bound(t = 1000, alpha = .05, t_min = 100, A = .85).
        close(DkwBand::new(0.05, 100.0).radius(1000.0), 0.08204769, 1e-6);
        assert_eq!(DkwBand::new(0.05, 100.0).radius(99.0), f64::INFINITY);
    }

    #[test]
    fn the_normal_mixture_is_confseqs() {
        let rho = mixture_rho(100.0, 0.05);
        close(rho, 12.60056097925634, 1e-9);
        close(mixture_radius(100.0, rho, 0.05), 30.35208990376253, 1e-9);
        close(mixture_radius(1000.0, rho, 0.05), 102.51228683166386, 1e-9);
    }

    #[test]
    fn empirical_bernstein_is_confseqs() {
        // confseq.predmix.predmix_empbern_cs on cur / 1.1, at t = 50 and 300, not intersected over time.
        let mut sequence = EmpiricalBernstein::new(0.05);
        let (mut at_50, mut at_300) = ((0.0, 0.0), (0.0, 0.0));
        for i in 0..300 {
            let cur = f64::from((i * 53 + 7) % 101) / 101.0 + if i % 3 == 0 { 0.1 } else { 0.0 };
            (sequence.low, sequence.high) = (0.0, 1.0);
            sequence.push(cur / 1.1);
            if i == 49 {
                at_50 = sequence.interval();
            }
            at_300 = sequence.interval();
        }
        close(at_50.0, 0.2953277682501998, 1e-9);
        close(at_50.1, 0.6550063517084177, 1e-9);
        close(at_300.0, 0.4275317825796953, 1e-9);
        close(at_300.1, 0.5354691850050532, 1e-9);
    }

    #[test]
    fn bets_win_when_the_mean_is_high_and_never_otherwise() {
        let mut rng = crate::testing::Random(7);
        let (mut high, mut worst) = (BettingProcess::new(0.10), f64::NEG_INFINITY);
        for _ in 0..100 {
            let mut null = BettingProcess::new(0.10);
            for _ in 0..5000 {
                null.push(f64::from(u8::from(rng.unit() < 0.10)));
                worst = worst.max(null.log_e());
            }
        }
        assert!(worst < (100.0f64 * 100.0).ln(), "e-value {worst} under the null");
        let found = (1..5000).find(|_| {
            high.push(f64::from(u8::from(rng.unit() < 0.20)));
            high.log_e() >= 100f64.ln()
        });
        assert!(found.is_some_and(|n| n < 600), "{found:?}");
    }
}
