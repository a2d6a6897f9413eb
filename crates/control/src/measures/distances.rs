//! Distances between two samples, or between the shares of two histograms.

use super::special::{chi_square_point, chi_square_tail, kolmogorov};

/// Shares of both samples in as many bins of equal width over both together as Sturges' rule has (Evidently 0.7, whatever
/// number of bins it is asked for).
pub fn shares_of_numbers(reference: &[f64], current: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let both = || reference.iter().chain(current).copied();
    let (low, high) = (both().fold(f64::INFINITY, f64::min), both().fold(f64::NEG_INFINITY, f64::max));
    let bins = (((reference.len() + current.len()) as f64).log2() + 1.0).ceil().max(1.0) as usize;
    let width = (high - low) / bins as f64;
    let shares = |values: &[f64]| {
        let mut counts = vec![0.0; bins];
        for value in values {
            let bin = if width > 0.0 { ((value - low) / width) as usize } else { 0 };
            counts[bin.min(bins - 1)] += 1.0;
        }
        counts.iter().map(|count| count / values.len() as f64).collect()
    };
    (shares(reference), shares(current))
}

/// Shares of all categories that either sample has, in alphabetical order.
pub fn shares_of_categories<'a>(reference: &[&'a str], current: &[&'a str]) -> (Vec<f64>, Vec<f64>) {
    let mut names: Vec<&str> = reference.iter().chain(current).copied().collect();
    names.sort_unstable();
    names.dedup();
    let shares = |values: &[&str]| {
        let share = |name: &&str| values.iter().filter(|value| value == &name).count() as f64 / values.len() as f64;
        names.iter().map(share).collect()
    };
    (shares(reference), shares(current))
}

/// Population stability index; an empty bin counts as `zero` (Evidently: 1e-4), which alone makes it large.
pub fn psi(reference: &[f64], current: &[f64], zero: f64) -> f64 {
    let filled = |share: f64| if share == 0.0 { zero } else { share };
    let pairs = reference.iter().zip(current).map(|(r, c)| (filled(*r), filled(*c)));
    pairs.map(|(r, c)| (r - c) * (r / c).ln()).sum()
}

/// What the index stays below with probability `1 - alpha` where nothing changed: it follows `(1/n + 1/m)` times a
/// chi-square with `bins - 1` degrees of freedom.
pub fn psi_null_limit(n: f64, m: f64, bins: usize, alpha: f64) -> f64 {
    (1.0 / n + 1.0 / m) * chi_square_point(alpha, bins as f64 - 1.0)
}

/// Jensen-Shannon distance in natural units: the root of the divergence (scipy.spatial.distance.jensenshannon).
pub fn jensen_shannon(reference: &[f64], current: &[f64]) -> f64 {
    let (r, c): (f64, f64) = (reference.iter().sum(), current.iter().sum());
    let part = |p: f64, m: f64| if p > 0.0 { p * (p / m).ln() } else { 0.0 };
    let pairs = reference.iter().zip(current).map(|(p, q)| (p / r, q / c));
    let sum: f64 = pairs.map(|(p, q)| part(p, 0.5 * (p + q)) + part(q, 0.5 * (p + q))).sum();
    (0.5 * sum).max(0.0).sqrt()
}

/// Largest difference of the two empirical distribution functions.
pub fn kolmogorov_smirnov(reference: &[f64], current: &[f64]) -> f64 {
    let mut most = 0.0f64;
    walk(reference, current, |_, a, b| most = most.max((a - b).abs()));
    most
}

/// p-value of the distance by the one-sample distribution with the harmonic number of observations
/// (scipy.stats.ks_2samp, method "asymp").
pub fn ks_p_asymptotic(distance: f64, n: usize, m: usize) -> f64 {
    let harmonic = (n * m) as f64 / (n + m) as f64;
    1.0 - kolmogorov(harmonic.round_ties_even() as u32, distance)
}

/// Exact p-value for samples without ties: the share of lattice paths from (0, 0) to (n, m) that leave the strip (Hodges,
/// "The significance probability of the Smirnov two-sample test", Arkiv för Matematik 1957). Takes `n * m` steps.
pub fn ks_p_exact(distance: f64, n: usize, m: usize) -> f64 {
    let (nf, mf) = (n as f64, m as f64);
    // The distance is a multiple of one over the least common multiple; half of one keeps rounding out.
    let strip = distance - 0.5 / (nf * mf);
    let inside = |i: usize, j: usize| (i as f64 / nf - j as f64 / mf).abs() < strip;
    // Probability that a random path is at (i, j) on its way and has stayed inside.
    let mut row = vec![0.0f64; m + 1];
    for i in 0..=n {
        for j in 0..=m {
            if i == 0 && j == 0 {
                row[0] = 1.0;
                continue;
            }
            let left = (n + m - i - j) as f64 + 1.0;
            let from_i = if i > 0 { row[j] * ((n - i) as f64 + 1.0) / left } else { 0.0 };
            let from_j = if j > 0 { row[j - 1] * ((m - j) as f64 + 1.0) / left } else { 0.0 };
            row[j] = if inside(i, j) { from_i + from_j } else { 0.0 };
        }
    }
    1.0 - row[m]
}

/// Area between the two empirical distribution functions (scipy.stats.wasserstein_distance).
pub fn wasserstein(reference: &[f64], current: &[f64]) -> f64 {
    let (mut area, mut before) = (0.0, None);
    walk(reference, current, |value, a, b| {
        if let Some((last, gap)) = before {
            area += gap * (value - last);
        }
        before = Some((value, (a - b).abs()));
    });
    area
}

/// Visits each distinct value in order, with both distribution functions there.
fn walk(reference: &[f64], current: &[f64], mut visit: impl FnMut(f64, f64, f64)) {
    let sorted = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
    };
    let (r, c) = (sorted(reference), sorted(current));
    let (mut i, mut j) = (0, 0);
    while i < r.len() || j < c.len() {
        let value = r.get(i).copied().unwrap_or(f64::INFINITY).min(c.get(j).copied().unwrap_or(f64::INFINITY));
        i += r[i..].iter().take_while(|own| **own <= value).count();
        j += c[j..].iter().take_while(|own| **own <= value).count();
        visit(value, i as f64 / r.len() as f64, j as f64 / c.len() as f64);
    }
}

/// Pearson's test that two lists of counts have the same shares: statistic, p-value, degrees of freedom
/// (scipy.stats.chi2_contingency without correction). Categories that nobody has are left out.
pub fn chi_square(reference: &[f64], current: &[f64]) -> (f64, f64, usize) {
    let (r, c): (f64, f64) = (reference.iter().sum(), current.iter().sum());
    let (mut statistic, mut cells) = (0.0, 0usize);
    for (a, b) in reference.iter().zip(current).filter(|(a, b)| *a + *b > 0.0) {
        cells += 1;
        for (count, total) in [(a, r), (b, c)] {
            let expected = (a + b) * total / (r + c);
            statistic += (count - expected) * (count - expected) / expected;
        }
    }
    let freedom = cells.saturating_sub(1);
    (statistic, chi_square_tail(statistic, freedom.max(1) as f64), freedom)
}

/// Unbiased squared maximum mean discrepancy with a Gaussian kernel whose squared width is half the median squared
/// distance of all pairs (Gretton et al., "A kernel two-sample test", JMLR 2012). Takes `(n + m)²` steps.
pub fn mmd2(reference: &[f64], current: &[f64]) -> f64 {
    let both: Vec<f64> = reference.iter().chain(current).copied().collect();
    let mut squares: Vec<f64> =
        both.iter().enumerate().flat_map(|(i, a)| both[i + 1..].iter().map(move |b| (a - b) * (a - b))).collect();
    squares.sort_unstable_by(f64::total_cmp);
    let half = squares.len() / 2;
    let median = if squares.len() % 2 == 1 { squares[half] } else { 0.5 * (squares[half - 1] + squares[half]) };
    let width = (0.5 * median).max(1e-300);
    let kernel = |a: f64, b: f64| (-(a - b) * (a - b) / (2.0 * width)).exp();
    let within = |values: &[f64]| {
        let sum: f64 =
            values.iter().enumerate().flat_map(|(i, a)| values[i + 1..].iter().map(move |b| kernel(*a, *b))).sum();
        2.0 * sum / (values.len() * (values.len() - 1)) as f64
    };
    let across: f64 = reference.iter().flat_map(|a| current.iter().map(move |b| kernel(*a, *b))).sum();
    within(reference) + within(current) - 2.0 * across / (reference.len() * current.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::golden::{close, current, reference};

    #[test]
    fn ks_and_wasserstein_are_scipys() {
        let d = kolmogorov_smirnov(&reference(), &current());
        close(d, 0.040_666_666_666_666_63, 1e-15);
        // scipy takes an approximation at 188 observations (Pelz & Good 1976); this is exact for that number.
        close(ks_p_asymptotic(d, 500, 300), 0.902_306_349_551_272_4, 3e-6);
        close(ks_p_exact(d, 500, 300), 0.904_361_463_915_026_4, 1e-9);
        let w = wasserstein(&reference(), &current());
        close(w, 0.034_811_881_188_118_815, 1e-14);
        let mean = reference().iter().sum::<f64>() / 500.0;
        let deviation = (reference().iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 500.0).sqrt();
        // Evidently 0.7 divides by the reference's standard deviation.
        close(w / deviation, 0.120_493_095_006_669_99, 1e-12);
    }

    #[test]
    fn histogram_measures_are_evidentlys() {
        let (r, c) = shares_of_numbers(&reference(), &current());
        assert_eq!(r.len(), 11);
        close(psi(&r, &c, 1e-4), 0.234_143_322_365_910_26, 1e-12);
        close(jensen_shannon(&r, &c), 0.122_345_002_306_656_32, 1e-12);
        let letters = |text: &str, times: usize| -> Vec<char> { text.repeat(times).chars().collect() };
        let (a, b) = (letters("aaabbbccdd", 20), letters("aabbbbbcce", 9));
        let name = |letter: &char| ["a", "b", "c", "d", "e"][*letter as usize - 'a' as usize];
        let (a, b): (Vec<&str>, Vec<&str>) = (a.iter().map(name).collect(), b.iter().map(name).collect());
        let (r, c) = shares_of_categories(&a, &b);
        close(psi(&r, &c, 1e-4), 2.352_216_789_596_792_7, 1e-12);
        close(jensen_shannon(&r, &c), 0.348_768_594_389_531_1, 1e-12);
        let counts = |shares: &[f64], rows: f64| shares.iter().map(|share| share * rows).collect::<Vec<f64>>();
        let (statistic, p, freedom) = chi_square(&counts(&r, 200.0), &counts(&c, 90.0));
        close(statistic, 47.164_835_164_835_175, 1e-9);
        close(p / 1.408_999_262_509_248e-9, 1.0, 1e-9);
        assert_eq!(freedom, 4);
    }

    #[test]
    fn an_honest_limit_for_psi_depends_on_the_rows() {
        close(psi_null_limit(1000.0, 1000.0, 10, 0.01), 0.043_331_988_666_923_85, 1e-9);
        close(psi_null_limit(100.0, 20_000.0, 10, 0.01), 0.217_743_243_051_292_33, 1e-9);
    }

    #[test]
    fn mmd_is_the_papers() {
        close(mmd2(&reference()[..60], &current()[..50]), -0.019_251_545_025_287_2, 1e-9);
    }
}
