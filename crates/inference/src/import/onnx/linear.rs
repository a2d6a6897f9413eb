//! `LinearClassifier` and `LinearRegressor`. ONNX Runtime sums in single precision in an order that depends on the
//! machine; here each product is exact and the sum is taken in double precision, in the order of the columns, and rounded
//! once.

use super::attributes::{Attributes, Labels};
use super::graph::{Context, Operator, Outputs, Stop, mismatch};
use super::numbers::as_floats;
use super::post::{Post, probit};
use super::{Unsupported, unsupported};
use crate::tensor::{Data, Tensor};

const NOTE: &str = "linear sums are rounded once: ONNX Runtime's own may differ from them by up to \
    (columns + 1) * 6e-8 * (|intercept| + sum of |column * coefficient|), and after a LOGISTIC transform by 2e-7 more";

struct Linear {
    /// Row by row: for each target, one number a column.
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    post: Post,
}

impl Linear {
    fn scores(&self, inputs: &[&Tensor]) -> Result<(Vec<f32>, usize), Stop> {
        let [input] = inputs else { return mismatch("it takes one input") };
        let [rows, width] = input.shape[..] else { return mismatch("its input is no matrix") };
        let targets = self.intercepts.len();
        if width == 0 || self.coefficients.len() != width * targets {
            let found = self.coefficients.len();
            return mismatch(format!("{found} coefficients do not fit {targets} targets of {width} columns"));
        }
        let values = as_floats(&input.data)?;
        let mut scores = Vec::with_capacity(rows * targets);
        for row in values.chunks_exact(width) {
            for (coefficients, intercept) in self.coefficients.chunks_exact(width).zip(&self.intercepts) {
                let products = row.iter().zip(coefficients).map(|(x, w)| f64::from(*x) * f64::from(*w));
                scores.push((products.sum::<f64>() + f64::from(*intercept)) as f32);
            }
        }
        Ok((scores, rows))
    }
}

struct Regressor(Linear);

impl Operator for Regressor {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        if !matches!(inputs, [Tensor { data: Data::Fp32(_), .. }]) {
            return mismatch("only single precision is taken");
        }
        let (mut scores, rows) = self.0.scores(inputs)?;
        let targets = self.0.intercepts.len();
        match (targets, self.0.post) {
            (1, Post::Probit) => scores.iter_mut().for_each(|score| *score = probit(*score)),
            (1, _) => (),
            (_, post) => scores.chunks_exact_mut(targets).for_each(|row| post.apply(row)),
        }
        Ok(vec![Tensor::new(String::new(), vec![rows, targets], Data::Fp32(scores))])
    }

    fn bytes(&self) -> usize {
        self.0.coefficients.len() * 4
    }

    fn note(&self) -> Option<&'static str> {
        Some(NOTE)
    }
}

struct Classifier {
    linear: Linear,
    labels: Labels,
}

impl Operator for Classifier {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let (mut scores, rows) = self.linear.scores(inputs)?;
        let targets = self.linear.intercepts.len();
        let places: Vec<usize> = scores.chunks_exact(targets).map(place).collect();
        let mut width = targets;
        if targets == 1 {
            // The second class is what the only score lacks to one, whatever the transform.
            scores = scores.into_iter().flat_map(|score| [1.0 - score, score]).collect();
            width = 2;
        } else {
            scores.chunks_exact_mut(targets).for_each(|row| self.linear.post.apply(row));
        }
        let labels = Tensor::new(String::new(), vec![rows], self.labels.at(&places));
        Ok(vec![labels, Tensor::new(String::new(), vec![rows, width], Data::Fp32(scores))])
    }

    fn bytes(&self) -> usize {
        self.linear.coefficients.len() * 4
    }

    fn note(&self) -> Option<&'static str> {
        Some(NOTE)
    }
}

/// The first of the largest scores; of a single score, whether it is above zero.
fn place(row: &[f32]) -> usize {
    match row {
        [score] => usize::from(*score > 0.0),
        row => (1..row.len()).fold(0, |best, at| if row[at] > row[best] { at } else { best }),
    }
}

pub(super) fn classifier(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let refuse = |why: &str| unsupported(attributes.op(), why);
    let labels = attributes.labels().ok_or_else(|| refuse("it has no classes"))?;
    let linear = Linear {
        coefficients: attributes.floats("coefficients").to_vec(),
        intercepts: attributes.floats("intercepts").to_vec(),
        post: Post::read(attributes)?,
    };
    let fits = match linear.intercepts.len() {
        1 => labels.len() == 2 && linear.post != Post::Probit,
        targets => targets == labels.len(),
    };
    if !fits {
        return Err(refuse("its intercepts do not fit its classes"));
    }
    Ok(Box::new(Classifier { linear, labels }))
}

pub(super) fn regressor(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let targets = usize::try_from(attributes.int("targets", 1)).unwrap_or(0);
    let coefficients = attributes.floats("coefficients").to_vec();
    if targets == 0 || targets > coefficients.len() {
        return Err(unsupported(attributes.op(), "it has fewer coefficients than targets"));
    }
    let given = attributes.floats("intercepts");
    let intercepts = if given.len() == targets { given.to_vec() } else { vec![0.0; targets] };
    Ok(Box::new(Regressor(Linear { coefficients, intercepts, post: Post::read(attributes)? })))
}
