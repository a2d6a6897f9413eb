//! The special functions that p-values need.

/// Logarithm of the gamma function for `x > 0` (Lanczos, "A precision approximation of the gamma function", SIAM J. Numer.
/// Anal. 1964, with g = 7 and nine terms).
pub fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = TERMS[1..].iter().enumerate().fold(TERMS[0], |sum, (i, term)| sum + term / (x + i as f64 + 1.0));
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Upper tail of the chi-square distribution: the regularised incomplete gamma function, by its series below the mean and by
/// its continued fraction above (Abramowitz & Stegun 6.5.29 and 6.5.31).
pub fn chi_square_tail(x: f64, freedom: f64) -> f64 {
    let (a, x) = (freedom / 2.0, x / 2.0);
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for n in 1..1000 {
            term *= x / (a + f64::from(n));
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        return 1.0 - front * sum;
    }
    // Lentz's method.
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for n in 1..1000 {
        let step = -f64::from(n) * (f64::from(n) - a);
        b += 2.0;
        d = 1.0 / (step * d + b);
        c = b + step / c;
        let change = c * d;
        fraction *= change;
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// Where the upper tail of the chi-square distribution is `tail`.
pub fn chi_square_point(tail: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 10.0 * (freedom + 10.0) + 100.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if chi_square_tail(middle, freedom) > tail { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// P(D < d) of the one-sample Kolmogorov-Smirnov statistic with `n` observations (Marsaglia, Tsang & Wang, "Evaluating
/// Kolmogorov's distribution", J. Statistical Software 2003).
pub fn kolmogorov(n: u32, d: f64) -> f64 {
    let scaled = f64::from(n) * d;
    let k = scaled.floor() as usize + 1;
    let (size, h) = (2 * k - 1, k as f64 - scaled);
    let mut matrix = vec![vec![0.0f64; size]; size];
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            *cell = if i + 1 >= j { 1.0 } else { 0.0 };
        }
    }
    for (i, row) in matrix.iter_mut().enumerate() {
        row[0] -= h.powi(i as i32 + 1);
    }
    for (i, cell) in matrix[size - 1].iter_mut().enumerate() {
        *cell -= h.powi((size - i) as i32);
    }
    matrix[size - 1][0] += if 2.0 * h - 1.0 > 0.0 { (2.0 * h - 1.0).powi(size as i32) } else { 0.0 };
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            let factorial = (1..=(i + 1).saturating_sub(j)).map(|g| g as f64).product::<f64>();
            *cell /= factorial;
        }
    }
    // The power, and n! / n^n, as logarithms so that nothing overflows.
    let (power, scale) = raised(&matrix, n);
    let factor = (1..=n).map(|i| (f64::from(i) / f64::from(n)).ln()).sum::<f64>();
    (power[k - 1][k - 1].ln() + scale + factor).exp().clamp(0.0, 1.0)
}

type Matrix = Vec<Vec<f64>>;

/// A matrix's power, with the logarithm of a factor that was taken out.
fn raised(matrix: &Matrix, mut exponent: u32) -> (Matrix, f64) {
    let size = matrix.len();
    let mut result: Matrix = (0..size).map(|i| (0..size).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let (mut base, mut base_scale, mut scale) = (matrix.clone(), 0.0, 0.0);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(&result, &base);
            scale += base_scale + tamed(&mut result);
        }
        base = product(&base, &base);
        base_scale = 2.0 * base_scale + tamed(&mut base);
        exponent >>= 1;
    }
    (result, scale)
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let size = a.len();
    let cell = |i: usize, j: usize| (0..size).map(|k| a[i][k] * b[k][j]).sum();
    (0..size).map(|i| (0..size).map(|j| cell(i, j)).collect()).collect()
}

fn tamed(matrix: &mut Matrix) -> f64 {
    let most = matrix.iter().flatten().copied().fold(1e-300, f64::max);
    matrix.iter_mut().flatten().for_each(|cell| *cell /= most);
    most.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::golden::close;

    #[test]
    fn known_values() {
        close(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln(), 1e-13);
        close(chi_square_tail(3.841_458_820_694_124, 1.0), 0.05, 1e-12);
        close(chi_square_point(0.05, 1.0), 3.841_458_820_694_124, 1e-9);
        // The paper's own example.
        close(kolmogorov(10, 0.274), 0.628_479_615_455_5, 1e-10);
    }
}
