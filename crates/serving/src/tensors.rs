//! Running a tensor model on several requests at once: their rows are joined, computed and parted again. Where the
//! joined run fails, each request runs alone, so that only the one at fault fails.

use crate::lane::Execute;
use inference::{Data, RunError, Tensor, TensorModel};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One request: inputs in the signature's order, and places of the outputs that are wanted.
pub struct TensorJob {
    pub inputs: Vec<Tensor>,
    pub wanted: Vec<usize>,
}

impl TensorJob {
    /// Requests of one shape may share a batch.
    pub fn shape(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.wanted.hash(&mut hasher);
        for input in &self.inputs {
            input.datatype().hash(&mut hasher);
            input.shape.get(1..).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn fits(&self, other: &TensorJob) -> bool {
        let same = |(a, b): (&Tensor, &Tensor)| a.datatype() == b.datatype() && a.shape.get(1..) == b.shape.get(1..);
        self.wanted == other.wanted
            && self.inputs.len() == other.inputs.len()
            && self.inputs.iter().zip(&other.inputs).all(same)
    }

    pub fn rows(&self) -> usize {
        self.inputs.first().map_or(1, Tensor::rows)
    }
}

pub struct Tensors {
    pub model: Box<dyn TensorModel>,
}

impl Execute for Tensors {
    type Input = TensorJob;
    type Output = Vec<Tensor>;

    fn execute(&self, parts: &[&TensorJob]) -> Vec<Result<Vec<Tensor>, RunError>> {
        if let [first, _, ..] = parts
            && parts.iter().all(|part| part.fits(first))
            && let Some(answers) = self.together(parts)
        {
            return answers.into_iter().map(Ok).collect();
        }
        parts.iter().map(|part| self.run(&part.inputs, &part.wanted)).collect()
    }
}

impl Tensors {
    /// A model that panics has failed, and the thread goes on.
    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let run = || self.model.run(inputs, wanted);
        let panicked = |_| Err(RunError::Model("it panicked; the log says where".into()));
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked)
    }

    fn together(&self, parts: &[&TensorJob]) -> Option<Vec<Vec<Tensor>>> {
        let joined: Vec<Tensor> = (0..parts[0].inputs.len()).map(|place| join(parts, place)).collect();
        let rows: usize = parts.iter().map(|part| part.rows()).sum();
        let outputs = self.run(&joined, &parts[0].wanted).ok()?;
        if outputs.iter().any(|output| output.shape.first() != Some(&rows)) {
            return None;
        }
        let mut from = 0;
        let part = |part: &&TensorJob| {
            let to = from + part.rows();
            let answer = outputs.iter().map(|output| output.slice_rows(from, to)).collect();
            from = to;
            answer
        };
        Some(parts.iter().map(part).collect())
    }
}

fn join(parts: &[&TensorJob], place: usize) -> Tensor {
    let first = &parts[0].inputs[place];
    let mut shape = first.shape.clone();
    let mut data = Data::empty(first.datatype());
    let mut rows = 0;
    for part in parts {
        let input = &part.inputs[place];
        data.extend(&input.data, 0, input.data.len());
        rows += input.rows();
    }
    if let Some(length) = shape.first_mut() {
        *length = rows;
    }
    Tensor { name: first.name.clone(), shape, data }
}

/// Appends the rows of `more` to `whole`; both come from the same outputs of one model.
pub fn append(whole: &mut Vec<Tensor>, more: Vec<Tensor>) {
    if whole.is_empty() {
        *whole = more;
        return;
    }
    for (output, part) in whole.iter_mut().zip(more) {
        output.data.extend(&part.data, 0, part.data.len());
        if let (Some(rows), Some(added)) = (output.shape.first_mut(), part.shape.first()) {
            *rows += added;
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use inference::{Datatype, Signature, TensorSpec};
    use std::time::Duration;

    /// Doubles each number; refuses negative ones; takes some time a batch, busily.
    pub struct Doubling {
        pub signature: Signature,
        pub takes: Duration,
        pub factor: f32,
    }

    impl Doubling {
        pub fn new(takes: Duration) -> Doubling {
            let spec = |name: &str| TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape: vec![-1, 2] };
            let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y"), spec("z")], batches: true };
            Doubling { signature, takes, factor: 2.0 }
        }
    }

    impl TensorModel for Doubling {
        fn signature(&self) -> &Signature {
            &self.signature
        }
        fn platform(&self) -> &'static str {
            "test"
        }
        fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
            let started = std::time::Instant::now();
            while started.elapsed() < self.takes {
                std::hint::spin_loop();
            }
            let Data::Fp32(values) = &inputs[0].data else { return Err(RunError::Input("not FP32".into())) };
            if values.iter().any(|value| *value < 0.0) {
                return Err(RunError::Input("a number is below zero".into()));
            }
            assert!(!values.contains(&666.0), "the model breaks");
            let scaled = |by: f32| Data::Fp32(values.iter().map(|value| value * by).collect());
            let shape = inputs[0].shape.clone();
            let name = |place: usize| self.signature.outputs[place].name.clone();
            let output =
                |place: &usize| Tensor::new(name(*place), shape.clone(), scaled(self.factor * (*place as f32 + 1.0)));
            Ok(wanted.iter().map(output).collect())
        }
        fn exact(&self) -> bool {
            true
        }
        fn bytes(&self) -> usize {
            1 << 20
        }
    }

    pub fn job(values: &[f32]) -> TensorJob {
        let shape = vec![values.len() / 2, 2];
        TensorJob { inputs: vec![Tensor::new("x", shape, Data::Fp32(values.to_vec()))], wanted: vec![0] }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Doubling, job};
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_bad_request_fails_alone() {
        let tensors = Tensors { model: Box::new(Doubling::new(Duration::ZERO)) };
        let jobs = [job(&[1.0, 2.0]), job(&[-1.0, 0.0]), job(&[3.0, 4.0, 5.0, 6.0])];
        let answers = tensors.execute(&jobs.iter().collect::<Vec<_>>());
        assert_eq!(answers[0].as_ref().unwrap()[0].data, Data::Fp32(vec![2.0, 4.0]));
        assert!(matches!(&answers[1], Err(RunError::Input(_))));
        assert_eq!(answers[2].as_ref().unwrap()[0].shape, [2, 2]);
        let good = [job(&[1.0, 2.0]), job(&[3.0, 4.0, 5.0, 6.0])];
        let answers = tensors.execute(&good.iter().collect::<Vec<_>>());
        assert_eq!(answers[1].as_ref().unwrap()[0].data, Data::Fp32(vec![6.0, 8.0, 10.0, 12.0]));
    }
}
