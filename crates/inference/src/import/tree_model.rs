//! Trees as a tensor model: one matrix in, the score and the raw sum out.

use crate::forest::{Forest, Oblivious, Real};
use crate::tensor::{Data, RunError, Signature, Tensor, TensorModel, TensorSpec};

/// What evaluates a matrix of rows.
pub(super) trait Kernel: Send + Sync {
    type Input: Real;
    type Sum: Real;

    fn features(&self) -> usize;
    /// Adds to `outputs` sums a row.
    fn add_to(&self, rows: &[Self::Input], sums: &mut [Self::Sum]);
    fn canonical(&self, row: &mut [Self::Input]);
    fn bytes(&self) -> usize;
}

impl<F: Real, S: Real> Kernel for Forest<F, S> {
    type Input = F;
    type Sum = S;

    fn features(&self) -> usize {
        Forest::features(self)
    }

    fn add_to(&self, rows: &[F], sums: &mut [S]) {
        Forest::add_to(self, rows, sums);
    }

    fn canonical(&self, row: &mut [F]) {
        Forest::canonical(self, row);
    }

    fn bytes(&self) -> usize {
        Forest::bytes(self)
    }
}

impl Kernel for Oblivious {
    type Input = f32;
    type Sum = f64;

    fn features(&self) -> usize {
        Oblivious::features(self)
    }

    fn add_to(&self, rows: &[f32], sums: &mut [f64]) {
        Oblivious::add_to(self, rows, sums);
    }

    fn canonical(&self, row: &mut [f32]) {
        Oblivious::canonical(self, row);
    }

    fn bytes(&self) -> usize {
        Oblivious::bytes(self)
    }
}

/// From a row's raw sums, in place, to its scores.
pub(super) type Link<S> = Box<dyn Fn(&mut [S]) + Send + Sync>;

/// What the scores are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Score {
    /// `probability`, of the positive class.
    Probability,
    /// `probabilities`, one a class.
    Probabilities,
    /// `value`.
    Value,
    /// Only the raw sum, under the name `raw`.
    Raw,
}

/// The parts of a model of trees.
pub(super) struct TreeParts<K: Kernel> {
    pub kernel: K,
    pub platform: &'static str,
    /// What each output's sum begins with: one for each output.
    pub start: Vec<K::Sum>,
    /// From the sum of start and leaves to what the library calls the raw score; none where they are the same.
    pub raw: Option<Link<K::Sum>>,
    pub score: Score,
    /// From the raw score to the score; none where they are the same.
    pub link: Option<Link<K::Sum>>,
}

pub(super) struct TreeModel<K: Kernel> {
    parts: TreeParts<K>,
    signature: Signature,
}

/// The place of the scores in the signature; the raw sums follow, where they differ.
const SCORE: usize = 0;

impl<K: Kernel> TreeModel<K> {
    pub(super) fn new(parts: TreeParts<K>) -> TreeModel<K> {
        let outputs = parts.start.len();
        let shape = |score: Score| match (score, outputs) {
            (Score::Probabilities, outputs) => vec![-1, outputs as i64],
            (_, 1) => vec![-1],
            (_, outputs) => vec![-1, outputs as i64],
        };
        let name = match parts.score {
            Score::Probability => "probability",
            Score::Probabilities => "probabilities",
            Score::Value => "value",
            Score::Raw => "raw",
        };
        let spec = |name: &str| {
            let shape = shape(parts.score);
            TensorSpec { name: name.to_owned(), datatype: <K::Sum as Real>::DATATYPE, shape }
        };
        let mut given = vec![spec(name)];
        if parts.link.is_some() {
            given.push(spec("raw"));
        }
        let datatype = <K::Input as Real>::DATATYPE;
        let input = TensorSpec { name: "input".to_owned(), datatype, shape: vec![-1, parts.kernel.features() as i64] };
        let signature = Signature { inputs: vec![input], outputs: given, batches: true };
        TreeModel { parts, signature }
    }

    fn rows<'a>(&self, inputs: &'a [Tensor]) -> Result<(&'a [K::Input], usize), RunError> {
        let features = self.parts.kernel.features();
        let wrong = || {
            RunError::Input(format!(
                "one {} tensor \"input\" of shape [rows, {features}] is expected",
                <K::Input as Real>::DATATYPE
            ))
        };
        let [input] = inputs else { return Err(wrong()) };
        let values = K::Input::slice(&input.data).ok_or_else(wrong)?;
        match input.shape[..] {
            [rows, width] if width == features && rows.checked_mul(width) == Some(values.len()) => Ok((values, rows)),
            _ => Err(wrong()),
        }
    }
}

impl<K: Kernel> TensorModel for TreeModel<K> {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn platform(&self) -> &'static str {
        self.parts.platform
    }

    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let (values, rows) = self.rows(inputs)?;
        let outputs = self.parts.start.len();
        let mut sums: Vec<K::Sum> = self.parts.start.iter().copied().cycle().take(rows * outputs).collect();
        self.parts.kernel.add_to(values, &mut sums);
        let apply = |link: &Option<Link<K::Sum>>, sums: &mut [K::Sum]| {
            if let Some(link) = link {
                sums.chunks_exact_mut(outputs).for_each(link);
            }
        };
        apply(&self.parts.raw, &mut sums);
        wanted
            .iter()
            .map(|place| {
                let spec = self.signature.outputs.get(*place);
                let spec = spec.ok_or_else(|| RunError::Model(format!("there is no output {place}")))?;
                let mut values = sums.clone();
                if *place == SCORE {
                    apply(&self.parts.link, &mut values);
                }
                let shape = spec.shape.iter().map(|length| usize::try_from(*length).unwrap_or(rows)).collect();
                Ok(Tensor::new(spec.name.clone(), shape, K::Sum::data(values)))
            })
            .collect()
    }

    fn exact(&self) -> bool {
        true
    }

    fn canonical(&self, inputs: &mut [Tensor]) -> bool {
        let features = self.parts.kernel.features();
        let [input] = inputs else { return false };
        let values: Option<&mut [K::Input]> = match &mut input.data {
            data @ (Data::Fp32(_) | Data::Fp64(_)) => K::Input::slice_mut(data),
            _ => None,
        };
        match values {
            Some(values) if features > 0 => {
                values.chunks_exact_mut(features).for_each(|row| self.parts.kernel.canonical(row));
                true
            }
            _ => false,
        }
    }

    fn bytes(&self) -> usize {
        self.parts.kernel.bytes()
    }
}
