//! What classical operators do to their scores at the end (`post_transform`), in ONNX Runtime's steps and in single
//! precision. e^x is rounded once from double precision.

use super::attributes::Attributes;
use super::{Unsupported, unsupported};
use crate::import::links::single::{exp32, ln32};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Post {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

impl Post {
    pub(super) fn read(attributes: &Attributes) -> Result<Post, Unsupported> {
        match attributes.text("post_transform", "NONE") {
            "NONE" => Ok(Post::None),
            "LOGISTIC" => Ok(Post::Logistic),
            "SOFTMAX" => Ok(Post::Softmax),
            "SOFTMAX_ZERO" => Ok(Post::SoftmaxZero),
            "PROBIT" => Ok(Post::Probit),
            other => Err(unsupported(attributes.op(), format!("post_transform {other} is unknown"))),
        }
    }

    /// The scores of one row, of which there are two or more.
    pub(super) fn apply(self, row: &mut [f32]) {
        match self {
            Post::None => (),
            Post::Logistic => row.iter_mut().for_each(|score| *score = logistic(*score)),
            Post::Softmax => softmax(row),
            Post::SoftmaxZero => softmax_zero(row),
            Post::Probit => row.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }
}

/// 1 / (1 + e^-|x|), or what it lacks to one.
pub(super) fn logistic(x: f32) -> f32 {
    let upper = 1.0 / (1.0 + exp32(-x.abs()));
    if x < 0.0 { 1.0 - upper } else { upper }
}

fn largest(row: &[f32]) -> f32 {
    row.iter().fold(f32::MIN, |most, score| if *score > most { *score } else { most })
}

pub(super) fn softmax(row: &mut [f32]) {
    let most = largest(row);
    let mut sum = 0.0;
    for score in row.iter_mut() {
        *score = exp32(*score - most);
        sum += *score;
    }
    row.iter_mut().for_each(|score| *score /= sum);
}

/// Leaves out the scores that are zero.
fn softmax_zero(row: &mut [f32]) {
    let most = largest(row);
    let zero = exp32(-most);
    let mut sum = 0.0;
    for score in row.iter_mut() {
        if *score > 0.000_000_1 || *score < -0.000_000_1 {
            *score = exp32(*score - most);
            sum += *score;
        } else {
            *score *= zero;
        }
    }
    row.iter_mut().for_each(|score| *score /= sum);
}

/// The inverse of the normal distribution, by Winitzki's approximation of the inverse error function (2008).
pub(super) fn probit(p: f32) -> f32 {
    let x = 2.0 * p - 1.0;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ln32((1.0 - x) * (1.0 + x));
    #[expect(clippy::approx_constant, reason = "ONNX Runtime's constant")]
    let v = 2.0 / (3.14159f32 * 0.147) + 0.5 * log;
    let v2 = 1.0 / 0.147 * log;
    let v3 = -v + (v * v - v2).sqrt();
    std::f32::consts::SQRT_2 * (sign * v3.sqrt())
}
