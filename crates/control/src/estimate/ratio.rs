//! How many live rows there are for each reference row like it: a classifier that tells the two apart, turned into weights
//! (Sugiyama, Suzuki & Kanamori, "Density ratio estimation in machine learning", 2012, chapter 4).

/// A weight is at most this: a row that stands for more says more about the classifier than about the world.
const WEIGHT_MAX: f64 = 20.0;
const RIDGE: f64 = 1.0;
const STEPS: usize = 8;

/// Weights of the reference's rows, with mean 1, by a logistic model with each feature and its square. All rows have the
/// same number of features; numbers only. Without live rows, or features, all are 1.
pub fn density_ratio(reference: &[Vec<f64>], live: &[Vec<f64>]) -> Vec<f64> {
    let width = reference.first().map_or(0, Vec::len);
    if width == 0 || live.is_empty() {
        return vec![1.0; reference.len()];
    }
    let scales: Vec<(f64, f64)> = (0..width).map(|feature| scale(reference, live, feature)).collect();
    let spread = |row: &Vec<f64>| -> Vec<f64> {
        let scaled = row.iter().zip(&scales).map(|(x, (mean, deviation))| ((x - mean) / deviation).clamp(-6.0, 6.0));
        let scaled: Vec<f64> = scaled.collect();
        std::iter::once(1.0).chain(scaled.iter().copied()).chain(scaled.iter().map(|x| x * x)).collect()
    };
    let here: Vec<Vec<f64>> = reference.iter().map(spread).collect();
    let there: Vec<Vec<f64>> = live.iter().map(spread).collect();
    let labelled = || here.iter().map(|row| (row, 0.0)).chain(there.iter().map(|row| (row, 1.0)));
    let size = 2 * width + 1;
    let mut beta = vec![0.0; size];
    for _ in 0..STEPS {
        let mut gradient: Vec<f64> = beta.iter().map(|b| -RIDGE * b).collect();
        let mut hessian = vec![vec![0.0; size]; size];
        (0..size).for_each(|i| hessian[i][i] = RIDGE);
        for (row, label) in labelled() {
            let p = logistic(row.iter().zip(&beta).map(|(x, b)| x * b).sum());
            for i in 0..size {
                gradient[i] += row[i] * (label - p);
                for j in 0..=i {
                    hessian[i][j] += row[i] * row[j] * p * (1.0 - p);
                }
            }
        }
        for (b, step) in beta.iter_mut().zip(solved(hessian, gradient)) {
            *b += step;
        }
    }
    let odds = |row: &Vec<f64>| {
        let sum: f64 = row.iter().zip(&beta).map(|(x, b)| x * b).sum();
        (sum.min(50.0).exp() * reference.len() as f64 / live.len() as f64).min(WEIGHT_MAX)
    };
    let weights: Vec<f64> = here.iter().map(odds).collect();
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    weights.iter().map(|weight| weight / mean).collect()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn scale(reference: &[Vec<f64>], live: &[Vec<f64>], feature: usize) -> (f64, f64) {
    let values = || reference.iter().chain(live).map(|row| row[feature]);
    let rows = (reference.len() + live.len()) as f64;
    let mean = values().sum::<f64>() / rows;
    let variance = values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / rows;
    (mean, variance.sqrt().max(1e-12))
}

/// Solves a symmetric positive definite system, of which the lower half is given, by Cholesky's factors.
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for i in 0..size {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - dot;
            matrix[i][j] = if i == j { rest.max(1e-12).sqrt() } else { rest / matrix[j][j] };
        }
    }
    for i in 0..size {
        let dot: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - dot) / matrix[i][i];
    }
    for i in (0..size).rev() {
        let dot: f64 = (i + 1..size).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - dot) / matrix[i][i];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn a_shifted_normal_gets_its_true_weights() {
        let mut random = Random(3);
        let mut rows = |mean: f64| -> Vec<Vec<f64>> { (0..4000).map(|_| vec![mean + random.normal()]).collect() };
        let (reference, live) = (rows(0.0), rows(0.5));
        let weights = density_ratio(&reference, &live);
        // The ratio of the densities is exp(x / 2 - 1 / 8).
        let off = reference.iter().zip(&weights).map(|(x, w)| (w - (0.5 * x[0] - 0.125).exp()).abs());
        assert!(off.sum::<f64>() / 4000.0 < 0.05);
        assert_eq!(density_ratio(&reference[..2], &[]), [1.0, 1.0]);
    }
}
