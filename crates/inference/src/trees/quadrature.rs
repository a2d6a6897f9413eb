//! Gauss-Legendre quadrature on the interval from 0 to 1, from additions, multiplications and divisions alone.

/// Places and weights that integrate polynomials up to degree `2 * points - 1` exactly, in blocks of `N`; `points` is a
/// multiple of `N`.
pub(super) fn rule<const N: usize>(points: usize) -> Vec<([f64; N], [f64; N])> {
    let roots = roots(points);
    let (places, weights): (Vec<f64>, Vec<f64>) = roots
        .iter()
        .map(|x| {
            let (value, before) = legendre(points, *x);
            let slope = points as f64 * (x * value - before) / (x * x - 1.0);
            ((1.0 + x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
        })
        .unzip();
    let (places, weights) = (places.as_chunks().0, weights.as_chunks().0);
    places.iter().copied().zip(weights.iter().copied()).collect()
}

/// The Legendre polynomials of degrees `n` and `n - 1` at `x`.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (0.0, 1.0);
    for k in 0..n {
        let k = k as f64;
        let next = ((2.0 * k + 1.0) * x * value - k * before) / (k + 1.0);
        (before, value) = (value, next);
    }
    (value, before)
}

/// Between two roots of one degree, and outside the outermost, lies one root of the next.
fn roots(n: usize) -> Vec<f64> {
    let mut roots: Vec<f64> = Vec::new();
    for degree in 1..=n {
        let ends: Vec<f64> = [&[-1.0], &roots[..], &[1.0]].concat();
        roots = ends.windows(2).map(|pair| root(degree, pair[0], pair[1])).collect();
    }
    roots
}

fn root(degree: usize, mut low: f64, mut high: f64) -> f64 {
    let rises = legendre(degree, high).0 > legendre(degree, low).0;
    // 64 halvings of an interval of at most 2 leave less than the spacing of doubles.
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if (legendre(degree, middle).0 > 0.0) == rises {
            high = middle;
        } else {
            low = middle;
        }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_integrated_exactly() {
        for points in [4, 8, 16, 40] {
            for power in 0..2 * points {
                let sum: f64 = rule::<4>(points)
                    .iter()
                    .flat_map(|(places, weights)| places.iter().zip(weights))
                    .map(|(x, weight)| weight * (0..power).fold(1.0, |product, _| product * x))
                    .sum();
                let exact = 1.0 / (power as f64 + 1.0);
                assert!((sum - exact).abs() < 1e-14, "{points} points, power {power}: {sum}");
            }
        }
    }
}
