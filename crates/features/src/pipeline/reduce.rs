//! Fewer numbers in place of many: principal components and sparse random signs, over standardised columns.

use super::program::{Scale, Source};
use super::transform::number;
use crate::columns::Values;
use crate::hash::{Atom, Purpose, SlotHash, among};

/// Columns that principal components can be taken of at most: the rotations cost their third power, some seconds here.
pub(super) const PCA_COLUMNS_MAX: usize = 512;
/// Rows that the covariance is taken over at most, evenly spaced over those to learn from: its error is then some 1 %
/// of a deviation, and more rows move the components less than tomorrow's rows will.
const PCA_ROWS_MAX: usize = 20_000;
/// A component with less than this part of the first one's variance is rounding, and left out.
const VARIANCE_MIN: f64 = 1e-10;
/// Rounds of rotations at most; 6 to 10 are usual (Golub and Van Loan, "Matrix Computations", 8.5).
const SWEEPS_MAX: usize = 60;

/// Weights of each output, row by row, and the factor that all outputs share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weights {
    pub(super) factor: f64,
    pub(super) rows: Vec<Vec<f64>>,
}

/// The principal components with the largest variance first, at most `components` of them: eigenvectors of the
/// standardised columns' covariance. Each has its largest weight (the first of equal ones) positive. The factor brings
/// the first component to variance 1, so that the others keep their variance relative to it.
pub(super) fn principal_components(
    views: &[Values<'_>],
    inputs: &[(Source, Scale)],
    rows: &[u32],
    components: usize,
) -> Weights {
    let (variances, vectors) = eigen(covariance(views, inputs, rows), inputs.len());
    let most = variances[0];
    let kept = variances.iter().take(components).take_while(|variance| **variance > VARIANCE_MIN * most).count();
    let rows = vectors.into_iter().take(kept.max(1)).map(oriented).collect();
    Weights { factor: if most > 0.0 { 1.0 / most.sqrt() } else { 1.0 }, rows }
}

/// Each weight is 1 or -1 with probability 1/6 and 0 otherwise, by a hash of the seed, the column's name and the
/// component (Achlioptas, "Database-friendly random projections", 2003). Distances are kept up to a common factor, which
/// is chosen so that an output of uncorrelated columns has variance 1.
pub(super) fn random_signs(names: &[String], components: usize, seed: u64) -> Weights {
    let sign = |name: &String, component: usize| {
        let prefix = SlotHash::prefix(seed, Purpose::Projection, &[name]);
        match among(prefix.with(Atom::Int(component as i64)).finish(), 6) {
            0 => 1.0,
            1 => -1.0,
            _ => 0.0,
        }
    };
    let row = |component| names.iter().map(|name| sign(name, component)).collect();
    Weights { factor: (3.0 / names.len() as f64).sqrt(), rows: (0..components).map(row).collect() }
}

/// Row-major covariance, in the order of the rows. Columns have mean 0 but for what was not looked at; the mean of the
/// rows in use is taken off all the same.
fn covariance(views: &[Values<'_>], inputs: &[(Source, Scale)], rows: &[u32]) -> Vec<f64> {
    let width = inputs.len();
    let step = rows.len().div_ceil(PCA_ROWS_MAX).max(1);
    let used: Vec<usize> = rows.iter().step_by(step).map(|row| *row as usize).collect();
    let standardised = |row: usize, values: &mut Vec<f64>| {
        values.clear();
        let value = |(from, scale): &(Source, Scale)| number(views, *from, row).map_or(0.0, |value| scale.apply(value));
        values.extend(inputs.iter().map(value));
    };
    let mut values = Vec::with_capacity(width);
    let mut means = vec![0.0; width];
    for row in &used {
        standardised(*row, &mut values);
        means.iter_mut().zip(&values).for_each(|(mean, value)| *mean += value);
    }
    means.iter_mut().for_each(|mean| *mean /= used.len() as f64);
    let mut products = vec![0.0; width * width];
    for row in &used {
        standardised(*row, &mut values);
        values.iter_mut().zip(&means).for_each(|(value, mean)| *value -= mean);
        for (place, value) in values.iter().enumerate() {
            let sums = &mut products[place * width + place..(place + 1) * width];
            sums.iter_mut().zip(&values[place..]).for_each(|(sum, other)| *sum += value * other);
        }
    }
    for low in 0..width {
        for high in low..width {
            products[low * width + high] /= used.len() as f64;
            products[high * width + low] = products[low * width + high];
        }
    }
    products
}

/// Eigenvalues, largest first, and their vectors, by Jacobi's rotations in a fixed order of rows.
fn eigen(mut matrix: Vec<f64>, width: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut vectors: Vec<Vec<f64>> =
        (0..width).map(|i| (0..width).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let total: f64 = matrix.iter().map(|value| value * value).sum();
    for _ in 0..SWEEPS_MAX {
        let mut off = 0.0;
        for p in 0..width {
            for q in p + 1..width {
                off += matrix[p * width + q] * matrix[p * width + q];
            }
        }
        if off <= total * f64::EPSILON * f64::EPSILON {
            break;
        }
        for p in 0..width {
            for q in p + 1..width {
                rotate(&mut matrix, &mut vectors, width, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..width).collect();
    let variance = |place: usize| matrix[place * width + place];
    order.sort_by(|a, b| variance(*b).total_cmp(&variance(*a)));
    (order.iter().map(|place| variance(*place)).collect(), order.iter().map(|place| vectors[*place].clone()).collect())
}

/// One rotation that makes the element (p, q) zero. `vectors[p]` is the p-th eigenvector.
fn rotate(matrix: &mut [f64], vectors: &mut [Vec<f64>], width: usize, p: usize, q: usize) {
    let apq = matrix[p * width + q];
    if apq == 0.0 {
        return;
    }
    let theta = (matrix[q * width + q] - matrix[p * width + p]) / (2.0 * apq);
    let sign = if theta < 0.0 { -1.0 } else { 1.0 };
    // The lesser root: a rotation by at most an eighth of a turn.
    let t = if theta.is_finite() { sign / (theta.abs() + (theta * theta + 1.0).sqrt()) } else { 0.0 };
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..width {
        let (kp, kq) = (matrix[k * width + p], matrix[k * width + q]);
        matrix[k * width + p] = c * kp - s * kq;
        matrix[k * width + q] = s * kp + c * kq;
    }
    for k in 0..width {
        let (pk, qk) = (matrix[p * width + k], matrix[q * width + k]);
        matrix[p * width + k] = c * pk - s * qk;
        matrix[q * width + k] = s * pk + c * qk;
    }
    // Zero by construction; what rounding left is taken away so that both halves agree.
    matrix[p * width + q] = 0.0;
    matrix[q * width + p] = 0.0;
    let (front, back) = vectors.split_at_mut(q);
    for (vp, vq) in front[p].iter_mut().zip(back[0].iter_mut()) {
        let (a, b) = (*vp, *vq);
        *vp = c * a - s * b;
        *vq = s * a + c * b;
    }
}

fn oriented(mut vector: Vec<f64>) -> Vec<f64> {
    let largest = vector.iter().fold(0.0f64, |most, weight| if weight.abs() > most.abs() { *weight } else { most });
    if largest < 0.0 {
        vector.iter_mut().for_each(|weight| *weight = -*weight);
    }
    vector.iter_mut().for_each(|weight| *weight += 0.0);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::transform::projected;

    #[test]
    fn eigenvectors_of_a_known_matrix() {
        // 2 and 4 along the diagonals of the plane, 9 along the third axis.
        let (values, vectors) = eigen(vec![3.0, 1.0, 0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 9.0], 3);
        assert!(values.iter().zip([9.0, 4.0, 2.0]).all(|(found, known)| (found - known).abs() < 1e-14), "{values:?}");
        let half = 0.5f64.sqrt();
        let known = [vec![0.0, 0.0, 1.0], vec![half, half, 0.0], vec![half, -half, 0.0]];
        for (found, known) in vectors.into_iter().map(oriented).zip(known) {
            assert!(found.iter().zip(&known).all(|(a, b)| (a - b).abs() < 1e-14), "{found:?} {known:?}");
        }
    }

    #[test]
    fn eigenvectors_of_a_large_matrix_are_orthonormal_and_its_own() {
        let width = 40;
        let entry = |i: usize, j: usize| (crate::hash::finish((i.min(j) * 64 + i.max(j)) as u64) >> 40) as f64 / 1e7;
        let matrix: Vec<f64> = (0..width * width).map(|place| entry(place / width, place % width)).collect();
        let (values, vectors) = eigen(matrix.clone(), width);
        for (place, vector) in vectors.iter().enumerate() {
            for (other, second) in vectors.iter().enumerate() {
                let expected = f64::from(u8::from(place == other));
                assert!((projected(vector, second) - expected).abs() < 1e-12);
            }
            let image = |row: usize| projected(&matrix[row * width..(row + 1) * width], vector);
            assert!((0..width).all(|row| (image(row) - values[place] * vector[row]).abs() < 1e-11));
        }
    }

    #[test]
    fn random_signs_are_sparse_and_nearly_keep_distances() {
        let names: Vec<String> = (0..600).map(|i| format!("x{i}")).collect();
        let weights = random_signs(&names, 300, 5);
        let zeros = weights.rows.iter().flatten().filter(|weight| **weight == 0.0).count() as f64;
        assert!((zeros / 180_000.0 - 2.0 / 3.0).abs() < 0.01);
        let vector: Vec<f64> = (0..600).map(|i| f64::from(i % 7) - 3.0).collect();
        let length = |values: &[f64]| projected(values, values);
        let image: Vec<f64> = weights.rows.iter().map(|row| weights.factor * projected(&vector, row)).collect();
        let ratio = length(&image) / length(&vector) * 600.0 / 300.0;
        // A standard deviation of about (2 / 300)^0.5 = 0.08.
        assert!((ratio - 1.0).abs() < 0.3, "{ratio}");
    }
}
