//! What each kind of model can be spared: trees, units or weights that do least, and bits.

use super::network::{FineTuning, fine_tune_network, prune_network};
use super::trees::{Pruning, Rows, prune_to};
use super::variant::Quantize;
use crate::error::LearnError;
use inference::network::quantized::{DenseForm, QuantizeOptions, TableForm, quantize_network};
use inference::{
    CompactLinearModel, CompactTreesModel, LeafBits, LinearModel, Model, NetworkModel, Quantization, TreesModel,
};
use vocabulary::inputs::Inputs;
use vocabulary::model::{LearnerKind, LearnerSpec, ModelSpec};

/// Rounds of boosting of a student at most: it is to be small. A judgement.
const STUDENT_ROUNDS: u32 = 150;
/// Leaves of a student's tree at most.
const STUDENT_LEAVES: u32 = 31;
/// Depth of a student's tree at most: enough for 31 leaves with some room. Without a limit the trees of the flights are
/// up to 14 deep.
const STUDENT_DEPTH: u32 = 7;
/// Units of a student's layers.
const STUDENT_HIDDEN: [u32; 2] = [64, 32];

/// Passes over the train rows after units were removed: what is left finds its place again. A judgement.
const FINE_TUNING_EPOCHS: u32 = 2;

/// Leaves that a refit of trees remembers at most, one for each row and tree: a gigabyte at four bytes.
const REFIT_LEAVES_MAX: usize = 1 << 28;

/// Fewer rows for each leaf that stays, and a refit of all leaves learns the rows by heart: with 3 of them a model of
/// 6,000 rows lost .04 of its AUC, with 290 the flights' lost less than without. A judgement between the two.
const REFIT_ROWS_PER_LEAF: f64 = 50.0;

/// Rows that help, by the pipeline of the model.
pub(super) struct Aid<'a> {
    pub spec: &'a ModelSpec,
    /// Choose what to remove and set ranges; the twin has not learned from them.
    pub inputs: Inputs,
    pub target: &'a [f64],
    /// What is left learns on from these.
    pub train: &'a dyn Fn() -> Result<(Inputs, Vec<f64>), LearnError>,
    pub seed: u64,
}

/// Makes a declaration that of a student: small, and fast to learn.
pub(super) fn student(spec: &mut LearnerSpec, learner: LearnerKind) {
    match learner {
        LearnerKind::Trees => {
            // Half as many rounds need steps twice as large to come as far; what a teacher says is smoother than what
            // comes true, so that large steps do little harm.
            spec.trees.rounds = spec.trees.rounds.div_ceil(2).min(STUDENT_ROUNDS);
            spec.trees.leaves = spec.trees.leaves.min(STUDENT_LEAVES);
            // Rows step together, each as often as the deepest leaf needs.
            let depth = if spec.trees.depth == 0 { STUDENT_DEPTH } else { spec.trees.depth };
            spec.trees.depth = depth.min(STUDENT_DEPTH);
            spec.trees.learning_rate = (2.0 * spec.trees.learning_rate).clamp(0.1, 0.3);
        }
        LearnerKind::Network => spec.network.hidden = STUDENT_HIDDEN.to_vec(),
        LearnerKind::Linear | LearnerKind::Auto => {}
    }
}

/// The model without `share` of its trees, units or weights.
pub(super) fn prune(model: &dyn Model, share: f64, aid: &Aid) -> Result<Box<dyn Model>, LearnError> {
    match model.kind() {
        TreesModel::KIND => {
            let trees = TreesModel::from_bytes(&model.to_bytes(), model.layout())?;
            let validation = Rows { inputs: &aid.inputs, target: aid.target };
            let ensemble = trees.ensemble();
            let (inputs, target) = thinned((aid.train)()?, REFIT_LEAVES_MAX / ensemble.trees.len().max(1));
            let leaves: usize = ensemble.trees.iter().map(|tree| tree.nodes.len().div_ceil(2)).sum();
            let enough = inputs.rows as f64 >= REFIT_ROWS_PER_LEAF * leaves as f64 * (1.0 - share);
            let refit = (enough && inputs.rows > 0).then_some(Rows { inputs: &inputs, target: &target });
            let how = Pruning { task: aid.spec.task, validation, budget: f64::INFINITY, refit };
            let pruned = prune_to(&trees, &how, 1.0 - share)?;
            Ok(Box::new(CompactTreesModel::exact(&pruned.ensemble, trees.link(), trees.layout())?))
        }
        LinearModel::KIND => Ok(Box::new(lighter(model, share)?)),
        NetworkModel::KIND => {
            let network = NetworkModel::from_bytes(&model.to_bytes(), model.layout())?;
            let pruned = prune_network(&network, Rows { inputs: &aid.inputs, target: aid.target }, share)?;
            let (inputs, target) = (aid.train)()?;
            let how = FineTuning { spec: &aid.spec.learner.network, epochs: FINE_TUNING_EPOCHS, seed: aid.seed };
            let rows = Rows { inputs: &inputs, target: &target };
            Ok(Box::new(fine_tune_network(&pruned.parts, model.layout(), rows, how)?))
        }
        kind => Err(LearnError::Compress { what: format!("a model of kind \"{kind}\" cannot be pruned") }),
    }
}

/// Every so manieth row, so that there are `most` at most.
fn thinned((inputs, target): (Inputs, Vec<f64>), most: usize) -> (Inputs, Vec<f64>) {
    let every = inputs.rows.div_ceil(most.max(1)).max(1);
    if every == 1 {
        return (inputs, target);
    }
    let rows: Vec<usize> = (0..inputs.rows).step_by(every).collect();
    let kept = Inputs {
        rows: rows.len(),
        dense_width: inputs.dense_width,
        dense: rows.iter().flat_map(|row| inputs.dense_row(*row)).copied().collect(),
        slot_width: inputs.slot_width,
        slots: rows.iter().flat_map(|row| inputs.slot_row(*row)).copied().collect(),
    };
    (kept, rows.iter().map(|row| target[*row]).collect())
}

/// The linear model without the weights of least size; the dense ones, which are few, stay.
fn lighter(model: &dyn Model, share: f64) -> Result<LinearModel, LearnError> {
    let linear = LinearModel::from_bytes(&model.to_bytes(), model.layout())?;
    let mut parts = linear.parts().clone();
    let outputs = parts.bias.len();
    let size = |weights: &[f32]| weights.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
    let mut places: Vec<(f32, usize)> = parts.table.chunks_exact(outputs).map(size).zip(0..).collect();
    places.retain(|(size, _)| *size > 0.0);
    places.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (_, place) in &places[..(places.len() as f64 * share) as usize] {
        parts.table[place * outputs..(place + 1) * outputs].fill(0.0);
    }
    Ok(LinearModel::new(parts, model.layout().clone())?)
}

/// The model in fewer bits.
pub(super) fn quantize(model: &dyn Model, bits: Quantize, aid: &Aid) -> Result<Box<dyn Model>, LearnError> {
    let rounding = |leaves| Quantization { thresholds: 256, leaves };
    let leaves = match bits {
        Quantize::Int8 => LeafBits::Sixteen,
        Quantize::Int4 => LeafBits::Eight,
    };
    match model.kind() {
        TreesModel::KIND => {
            let trees = TreesModel::from_bytes(&model.to_bytes(), model.layout())?;
            let (compact, _) =
                CompactTreesModel::quantized(&trees.ensemble(), trees.link(), trees.layout(), rounding(leaves))?;
            Ok(Box::new(compact))
        }
        CompactTreesModel::KIND => {
            let trees = CompactTreesModel::from_bytes(&model.to_bytes(), model.layout())?;
            let (compact, _) =
                CompactTreesModel::quantized(&trees.ensemble()?, trees.link(), trees.layout(), rounding(leaves))?;
            Ok(Box::new(compact))
        }
        LinearModel::KIND => {
            let linear = LinearModel::from_bytes(&model.to_bytes(), model.layout())?;
            Ok(Box::new(CompactLinearModel::quantized(&linear)?))
        }
        NetworkModel::KIND => {
            let network = NetworkModel::from_bytes(&model.to_bytes(), model.layout())?;
            let tables = match bits {
                Quantize::Int8 => TableForm::Int8,
                Quantize::Int4 => TableForm::Int4,
            };
            let options = QuantizeOptions { dense: DenseForm::Static, tables };
            Ok(Box::new(quantize_network(&network, &options, Some(&aid.inputs))?))
        }
        kind => Err(LearnError::Compress { what: format!("a model of kind \"{kind}\" has no form in fewer bits") }),
    }
}
