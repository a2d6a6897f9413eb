//! What a student learns from: its teacher's word mixed with what came true.

use crate::fit::Sample;
use crate::split::Split;
use crate::train::Teacher;
use vocabulary::inputs::Inputs;
use vocabulary::model::{ModelSpec, Task};

/// A class that is less probable than this is no row of its own to a student of several classes.
const CLASS_MASS_MIN: f64 = 0.02;

/// The train rows and those without an outcome that are not newer than the first row held out. `split` is of the rows
/// with an outcome; a split by hash holds out rows of all ages, so that all rows without an outcome are then older than
/// the newest one held out and are taken up to that.
pub(crate) fn with_unlabelled(split: &Split, target: &[f64]) -> Vec<u32> {
    let last_train = split.train.last().copied().unwrap_or(0);
    let held_out = split.validation.first().or(split.test.first()).copied().unwrap_or(u32::MAX);
    let until = held_out.max(last_train);
    let mut rows: Vec<u32> =
        (0..target.len() as u32).filter(|row| *row < until && target[*row as usize].is_nan()).collect();
    rows.extend(&split.train);
    rows.sort_unstable();
    rows
}

/// The sample with the teacher's word in place of the target. A row of several classes becomes one row for each class
/// that is probable, weighted by how probable it is. `rows` are the places of the sample's rows among the teacher's.
pub(crate) fn sample(spec: &ModelSpec, sample: Sample, rows: &[u32], teacher: Teacher) -> Sample {
    let outputs = spec.outputs();
    let said = |row: u32| &teacher.answers[row as usize * outputs..(row as usize + 1) * outputs];
    if spec.task != Task::Multiclass {
        let mixed = |(target, row): (&f64, &u32)| match target.is_nan() {
            true => said(*row)[0],
            false => teacher.share * said(*row)[0] + (1.0 - teacher.share) * target,
        };
        let target = sample.target.iter().zip(rows).map(mixed).collect();
        return Sample { target, ..sample };
    }
    let mut inputs = Inputs { rows: 0, dense: Vec::new(), slots: Vec::new(), ..sample.inputs };
    let (mut target, mut weights) = (Vec::new(), Vec::new());
    for (place, row) in rows.iter().enumerate() {
        let outcome = sample.target[place];
        for (class, probability) in said(*row).iter().enumerate() {
            let mass = match outcome.is_nan() {
                true => *probability,
                false => teacher.share * probability + (1.0 - teacher.share) * f64::from(outcome as usize == class),
            };
            if mass < CLASS_MASS_MIN {
                continue;
            }
            let width = (sample.inputs.dense_width, sample.inputs.slot_width);
            inputs.dense.extend_from_slice(&sample.inputs.dense[place * width.0..(place + 1) * width.0]);
            inputs.slots.extend_from_slice(&sample.inputs.slots[place * width.1..(place + 1) * width.1]);
            inputs.rows += 1;
            target.push(class as f64);
            weights.push(mass as f32 * sample.weights.as_ref().map_or(1.0, |weights| weights[place]));
        }
    }
    Sample { inputs, target, weights: Some(weights) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    fn inputs(rows: usize) -> Inputs {
        let dense = (0..rows).map(|row| row as f32).collect();
        Inputs { rows, dense_width: 1, dense, ..Inputs::default() }
    }

    #[test]
    fn a_probability_is_mixed_with_what_came_true() {
        let all = Sample { inputs: inputs(3), target: vec![1.0, 0.0, f64::NAN], weights: None };
        let teacher = Teacher { answers: &[0.9, 0.5, 0.5, 0.4, 0.2], share: 0.5 };
        let taught = sample(&spec(Task::Binary), all, &[0, 3, 4], teacher);
        assert_eq!(taught.target, [0.95, 0.2, 0.2]);
    }

    #[test]
    fn several_classes_become_weighted_rows() {
        let all = Sample { inputs: inputs(2), target: vec![2.0, f64::NAN], weights: Some(vec![1.0, 2.0]) };
        let answers = [0.5, 0.01, 0.29, 0.1, 0.1, 0.0, 0.0, 0.25, 0.75, 0.0];
        let taught = sample(&spec(Task::Multiclass), all, &[0, 1], Teacher { answers: &answers, share: 0.5 });
        assert_eq!(taught.inputs.dense, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(taught.target, [0.0, 2.0, 3.0, 4.0, 2.0, 3.0]);
        let expected = [0.25, 0.645, 0.05, 0.05, 0.5, 1.5];
        assert!(taught.weights.unwrap().iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-6));
    }

    #[test]
    fn rows_without_an_outcome_join_the_train_part_only() {
        let target = [1.0, f64::NAN, 0.0, f64::NAN, 1.0, f64::NAN, 0.0];
        let split = Split { train: vec![0, 2], validation: vec![4], test: vec![6] };
        assert_eq!(with_unlabelled(&split, &target), [0, 1, 2, 3]);
    }
}
