//! From raw scores to scores, in the libraries' own steps. e^x and ln x are ours, the same on every platform: within one
//! unit in the last place of the true value, as the platform's are.

use super::tree_model::Link;
use crate::elementary::{exp, ln};

/// ln(1 + x), from x = 0 on.
fn ln_1p(x: f64) -> f64 {
    // What 1 + x loses is given back (Goldberg 1991, theorem 4).
    let sum = 1.0 + x;
    if sum == 1.0 {
        x
    } else if sum.is_infinite() {
        sum
    } else {
        ln(sum) * (x / (sum - 1.0))
    }
}

/// In double precision: LightGBM's and CatBoost's.
pub(super) mod double {
    use super::*;

    fn each(function: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Link<f64> {
        Box::new(move |row| row.iter_mut().for_each(|value| *value = function(*value)))
    }

    /// 1 / (1 + e^(-slope x)) of each output.
    pub fn logistic(slope: f64) -> Link<f64> {
        each(move |x| 1.0 / (1.0 + exp(-slope * x)))
    }

    pub fn exponential() -> Link<f64> {
        each(exp)
    }

    /// ln(1 + e^x).
    pub fn softplus() -> Link<f64> {
        each(|x| ln_1p(exp(x)))
    }

    /// x |x|: the target's root was learned.
    pub fn signed_square() -> Link<f64> {
        each(|x| {
            if x < 0.0 {
                -x * x
            } else if x > 0.0 {
                x * x
            } else {
                0.0
            }
        })
    }

    /// x / `count`, then `link`.
    pub fn averaged(count: f64, link: Option<Link<f64>>) -> Link<f64> {
        Box::new(move |row| {
            row.iter_mut().for_each(|value| *value /= count);
            if let Some(link) = &link {
                link(row);
            }
        })
    }

    /// CatBoost's x scale + bias of each output.
    pub fn affine(scale: f64, bias: Vec<f64>) -> Link<f64> {
        Box::new(move |row| row.iter_mut().zip(&bias).for_each(|(value, bias)| *value = *value * scale + bias))
    }

    pub fn softmax() -> Link<f64> {
        Box::new(|row| {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            for value in row.iter_mut() {
                *value = exp(*value - most);
                sum += *value;
            }
            row.iter_mut().for_each(|value| *value /= sum);
        })
    }
}

/// In single precision: XGBoost's.
pub(super) mod single {
    use super::*;

    fn each(function: impl Fn(f32) -> f32 + Send + Sync + 'static) -> Link<f32> {
        Box::new(move |row| row.iter_mut().for_each(|value| *value = function(*value)))
    }

    /// e^x, rounded once.
    pub fn exp32(x: f32) -> f32 {
        exp(f64::from(x)) as f32
    }

    /// ln x, rounded once.
    pub fn ln32(x: f32) -> f32 {
        ln(f64::from(x)) as f32
    }

    /// XGBoost's sigmoid: the exponent ends at 88.7, the divisor is 1e-16 away from zero.
    pub fn logistic() -> Link<f32> {
        each(|x| 1.0 / (exp32((-x).min(88.7)) + 1.0 + 1e-16))
    }

    pub fn exponential() -> Link<f32> {
        each(exp32)
    }

    pub fn hinge() -> Link<f32> {
        each(|x| if x > 0.0 { 1.0 } else { 0.0 })
    }

    /// The sum is taken in double precision.
    pub fn softmax() -> Link<f32> {
        Box::new(|row| {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for value in row.iter_mut() {
                *value = exp32(*value - most);
                sum += f64::from(*value);
            }
            row.iter_mut().for_each(|value| *value /= sum as f32);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_arguments_of_the_logarithm() {
        for x in [0.0, 1e-20, 1e-9, 0.3, 5.0, 1e300] {
            let (ours, theirs) = (ln_1p(x), x.ln_1p());
            assert!((ours - theirs).abs() <= 4.0 * f64::EPSILON * theirs, "{x}: {ours} {theirs}");
        }
        assert_eq!(ln_1p(f64::INFINITY), f64::INFINITY);
    }
}
