//! Fewer trees: the later rounds are left out, or the trees that matter least, as far as a budget of loss allows; then,
//! where rows for it are given, the leaves that stay are fitted again.

use crate::error::LearnError;
use crate::fit::loss;
use inference::ensemble::{Ensemble, Node};
use inference::{Link, TreesModel};
use vocabulary::inputs::Inputs;
use vocabulary::model::Task;

/// Rows with their outcomes.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// By the pipeline of the version.
    pub inputs: &'a Inputs,
    /// 0 or 1, the quantity, or the place of the class; one a row.
    pub target: &'a [f64],
}

/// How far to prune.
#[derive(Clone, Copy)]
pub struct Pruning<'a> {
    pub task: Task,
    /// Rows that the model did not learn from: they choose and measure.
    pub validation: Rows<'a>,
    /// What the loss on them (log loss, or root mean squared error) may rise by.
    pub budget: f64,
    /// Rows on which the leaves are fitted again, where that lowers the loss; best those that the model learned from.
    pub refit: Option<Rows<'a>>,
}

pub struct PrunedTrees {
    pub ensemble: Ensemble,
    /// Of the model as it was, on the validation rows.
    pub loss_before: f64,
    pub loss_after: f64,
    pub trees_before: usize,
    pub trees_after: usize,
    /// Whether the last rounds were left out, rather than the trees that matter least.
    pub by_rounds: bool,
}

/// Passes over the trees of a refit: each costs as much as a sum over all rows and trees. Where most trees are gone the
/// others have far to go: on the flights, of whose 90 trees 36 were kept, two passes left twice the loss of six.
const PASSES: usize = 6;

/// Share of a Newton step that a leaf is moved by, since its neighbours in other trees move too: a judgement.
const STEP: f64 = 0.5;

/// Added to the curvature of a leaf's rows: one with few rows moves little.
const RIDGE: f64 = 1.0;

/// Leaves out whole rounds, the last ones or those that matter least on the validation rows; of the two the way that
/// leaves fewer trees within the budget. Where no tree can be spared the ensemble comes back as it was.
pub fn prune_trees(model: &TreesModel, how: &Pruning) -> Result<PrunedTrees, LearnError> {
    let ranked = Ranked::new(model, how)?;
    let most = ranked.loss_before + how.budget;
    let mut best: Option<(Ensemble, f64, bool)> = None;
    for (order, by_rounds) in ranked.orders() {
        let Some((pruned, loss)) = fewest(ranked.rounds(), most, |kept| ranked.kept(order, kept)) else { continue };
        if best.as_ref().is_none_or(|(best, ..)| pruned.trees.len() < best.trees.len()) {
            best = Some((pruned, loss, by_rounds));
        }
    }
    Ok(ranked.pruned(best))
}

/// Keeps `share` of the rounds (one at least), the first ones or those that matter most, whichever leaves the lower loss
/// on the validation rows. The budget is not looked at.
pub fn prune_to(model: &TreesModel, how: &Pruning, share: f64) -> Result<PrunedTrees, LearnError> {
    let ranked = Ranked::new(model, how)?;
    let rounds = ranked.rounds();
    let kept = ((rounds as f64 * share).round() as usize).clamp(1, rounds.max(1));
    let [first, second] = ranked.orders().map(|(order, by_rounds)| {
        let (pruned, loss) = ranked.kept(order, kept);
        (pruned, loss, by_rounds)
    });
    let best = if second.1 < first.1 { second } else { first };
    Ok(ranked.pruned(Some(best)))
}

/// An ensemble whose rounds are ranked two ways, and the rows that measure what is kept of them.
struct Ranked<'a> {
    ensemble: Ensemble,
    validation: Walked<'a>,
    refit: Option<Walked<'a>>,
    loss_before: f64,
    in_order: Vec<usize>,
    /// The rounds that matter most first.
    by_weight: Vec<usize>,
}

impl<'a> Ranked<'a> {
    fn new(model: &TreesModel, how: &Pruning<'a>) -> Result<Ranked<'a>, LearnError> {
        let ensemble = model.ensemble();
        let walked = |rows| Walked::new(&ensemble, model.link(), how.task, rows);
        let validation = walked(how.validation)?;
        let refit = how.refit.map(walked).transpose()?;
        let in_order: Vec<usize> = (0..ensemble.trees.len() / ensemble.outputs()).collect();
        let mut by_weight = in_order.clone();
        let weights = validation.weights(&ensemble);
        by_weight.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
        let loss_before = validation.loss(&ensemble);
        Ok(Ranked { ensemble, validation, refit, loss_before, in_order, by_weight })
    }

    fn rounds(&self) -> usize {
        self.in_order.len()
    }

    /// Both orders; of each, whether it leaves out the last rounds.
    fn orders(&self) -> [(&[usize], bool); 2] {
        [(&self.in_order, true), (&self.by_weight, false)]
    }

    /// The first `count` rounds of an order, and the loss with them: as they are, or with leaves fitted again, whichever
    /// loses less. On few rows a refit learns them by heart.
    fn kept(&self, order: &[usize], count: usize) -> (Ensemble, f64) {
        let kept = |refit: Option<&Walked>| {
            let pruned = self.validation.kept(&self.ensemble, &order[..count], refit);
            let loss = self.validation.loss_of(&pruned, &order[..count]);
            (pruned, loss)
        };
        let plain = kept(None);
        match self.refit.as_ref().map(|refit| kept(Some(refit))) {
            Some(refitted) if refitted.1 < plain.1 => refitted,
            _ => plain,
        }
    }

    /// The result; the ensemble as it was where nothing was found.
    fn pruned(self, best: Option<(Ensemble, f64, bool)>) -> PrunedTrees {
        let (trees_before, loss_before) = (self.ensemble.trees.len(), self.loss_before);
        let (ensemble, loss_after, by_rounds) = best.unwrap_or((self.ensemble, loss_before, true));
        let trees_after = ensemble.trees.len();
        PrunedTrees { ensemble, loss_before, loss_after, trees_before, trees_after, by_rounds }
    }
}

/// Halves the interval of how many rounds to keep, as if the loss only fell with more of them; what is returned was
/// measured to be within the budget.
fn fewest(rounds: usize, most: f64, tried: impl Fn(usize) -> (Ensemble, f64)) -> Option<(Ensemble, f64)> {
    let (mut low, mut high) = (1, rounds);
    let mut found = None;
    while low < high {
        let middle = (low + high) / 2;
        let (pruned, loss) = tried(middle);
        if loss <= most {
            found = Some((pruned, loss));
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    found
}

/// Rows and the leaves they come to.
struct Walked<'a> {
    task: Task,
    link: Link,
    target: &'a [f64],
    outputs: usize,
    /// Of each tree, the node of each row.
    leaves: Vec<Vec<u32>>,
}

impl<'a> Walked<'a> {
    fn new(ensemble: &Ensemble, link: Link, task: Task, rows: Rows<'a>) -> Result<Walked<'a>, LearnError> {
        let Rows { inputs, target } = rows;
        if link != Link::of(task) || inputs.rows != target.len() || inputs.dense_width < ensemble.width() {
            let what = format!(
                "{} rows of {} columns with {} outcomes of a {} target were given for trees with the link {link:?} over \
                 {} columns",
                inputs.rows,
                inputs.dense_width,
                target.len(),
                task.name(),
                ensemble.width()
            );
            return Err(LearnError::Compress { what });
        }
        if inputs.rows == 0 {
            return Err(LearnError::Compress { what: "there are no rows to measure on".to_owned() });
        }
        let walk = |tree: &inference::ensemble::Tree| {
            (0..inputs.rows).map(|row| tree.leaf(inputs.dense_row(row)) as u32).collect()
        };
        let leaves = ensemble.trees.iter().map(walk).collect();
        Ok(Walked { task, link, target, outputs: ensemble.outputs(), leaves })
    }

    fn rows(&self) -> usize {
        self.target.len()
    }

    /// The mean over the rows of what a tree adds.
    fn mean(&self, ensemble: &Ensemble, tree: usize) -> f64 {
        let values = self.leaves[tree].iter().map(|leaf| f64::from(ensemble.trees[tree].value(*leaf as usize)));
        values.sum::<f64>() / self.rows() as f64
    }

    /// How much each round moves the answers beyond a constant: the variance of what its trees add.
    fn weights(&self, ensemble: &Ensemble) -> Vec<f64> {
        let variance = |tree: usize| {
            let mean = self.mean(ensemble, tree);
            let apart = |leaf: &u32| f64::from(ensemble.trees[tree].value(*leaf as usize)) - mean;
            self.leaves[tree].iter().map(|leaf| apart(leaf) * apart(leaf)).sum::<f64>()
        };
        let rounds = ensemble.trees.len() / self.outputs;
        (0..rounds).map(|round| (round * self.outputs..(round + 1) * self.outputs).map(variance).sum()).collect()
    }

    /// The places of the trees of some rounds, in the ensemble's order.
    fn places(&self, kept: &[usize]) -> Vec<usize> {
        let mut rounds = kept.to_vec();
        rounds.sort_unstable();
        rounds.into_iter().flat_map(|round| round * self.outputs..(round + 1) * self.outputs).collect()
    }

    /// The ensemble of some rounds. What the others add on average goes into the base, and the leaves are fitted again
    /// where there are rows for it.
    fn kept(&self, ensemble: &Ensemble, kept: &[usize], refit: Option<&Walked>) -> Ensemble {
        let places = self.places(kept);
        let mut base: Vec<f64> = ensemble.base.iter().map(|base| f64::from(*base)).collect();
        for (place, tree) in ensemble.trees.iter().enumerate() {
            if places.binary_search(&place).is_err() {
                base[tree.output] += refit.unwrap_or(self).mean(ensemble, place);
            }
        }
        let trees = places.iter().map(|place| ensemble.trees[*place].clone()).collect();
        let mut pruned = Ensemble { base: base.into_iter().map(|base| base as f32).collect(), trees };
        if let Some(rows) = refit {
            rows.refit(&mut pruned, &places);
        }
        pruned
    }

    /// The sums of all rows, row-major; `places` are those of the trees among the leaves.
    fn sums(&self, ensemble: &Ensemble, places: &[usize]) -> Vec<f64> {
        let mut sums: Vec<f64> =
            (0..self.rows()).flat_map(|_| ensemble.base.iter().map(|base| f64::from(*base))).collect();
        for (tree, place) in ensemble.trees.iter().zip(places) {
            for (row, leaf) in self.leaves[*place].iter().enumerate() {
                sums[row * self.outputs + tree.output] += f64::from(tree.value(*leaf as usize));
            }
        }
        sums
    }

    fn loss(&self, ensemble: &Ensemble) -> f64 {
        let all: Vec<usize> = (0..ensemble.trees.len() / self.outputs).collect();
        self.loss_of(ensemble, &all)
    }

    fn loss_of(&self, ensemble: &Ensemble, kept: &[usize]) -> f64 {
        let mut scores = self.sums(ensemble, &self.places(kept));
        scores.chunks_exact_mut(self.outputs).for_each(|row| self.link.apply_row(row));
        loss(self.task, &scores, self.target)
    }

    /// Moves the leaves of one tree after the other by part of a Newton step on what the whole ensemble leaves.
    fn refit(&self, ensemble: &mut Ensemble, places: &[usize]) {
        let mut sums = self.sums(ensemble, places);
        let mut scores = vec![0.0; self.outputs];
        for _ in 0..PASSES {
            for (tree, place) in ensemble.trees.iter_mut().zip(places) {
                let output = tree.output;
                let mut steps = vec![(0.0, 0.0); tree.nodes.len()];
                for (row, leaf) in self.leaves[*place].iter().enumerate() {
                    scores.copy_from_slice(&sums[row * self.outputs..(row + 1) * self.outputs]);
                    self.link.apply_row(&mut scores);
                    let outcome = match self.task {
                        Task::Multiclass => f64::from(u8::from(self.target[row] == output as f64)),
                        Task::Binary | Task::Regression => self.target[row],
                    };
                    let curvature = match self.task {
                        Task::Regression => 1.0,
                        Task::Binary | Task::Multiclass => scores[output] * (1.0 - scores[output]),
                    };
                    let (slope, curve) = &mut steps[*leaf as usize];
                    *slope += outcome - scores[output];
                    *curve += curvature;
                }
                let moves: Vec<f32> =
                    steps.iter().map(|(slope, curve)| (STEP * slope / (curve + RIDGE)) as f32).collect();
                for (node, step) in tree.nodes.iter_mut().zip(&moves) {
                    if let Node::Leaf(value) = node {
                        *value += step;
                    }
                }
                for (row, leaf) in self.leaves[*place].iter().enumerate() {
                    sums[row * self.outputs + output] += f64::from(moves[*leaf as usize]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{Goal, Phase, Sample, Watch};
    use crate::keyed::{Purpose, bits};
    use inference::{CompactTreesModel, Model, load_model};
    use vocabulary::inputs::{DenseColumn, Layout};
    use vocabulary::model::{LearnerKind, TreesSpec};

    fn uniform(row: usize, step: u64) -> f32 {
        (bits(3, Purpose::Split, step, row as u64) >> 40) as f32 / (1u64 << 24) as f32
    }

    /// The outcome follows from two of three columns and chance.
    fn sample(task: Task, from: usize, rows: usize) -> Sample {
        let dense = (from..from + rows).flat_map(|row| [1, 2, 3].map(|step| uniform(row, step))).collect();
        let outcome = |row: usize| {
            let sum = f64::from(uniform(row, 1) + uniform(row, 2) * uniform(row, 2) + 0.3 * uniform(row, 4));
            match task {
                Task::Regression => sum,
                Task::Binary => f64::from(u8::from(sum > 1.0)),
                Task::Multiclass => (sum * 1.4).floor().min(2.0),
            }
        };
        let inputs = Inputs { rows, dense_width: 3, dense, ..Inputs::default() };
        Sample { inputs, target: (from..from + rows).map(outcome).collect(), weights: None }
    }

    fn trained(task: Task, rounds: u32) -> TreesModel {
        let column = |name: &str| DenseColumn { name: name.to_owned(), categorical: false };
        let layout = Layout { dense: ["a", "b", "c"].map(column).to_vec(), ..Layout::default() };
        let goal = Goal { task, outputs: if task == Task::Multiclass { 3 } else { 1 } };
        let watch =
            Watch { seed: 1, learner: LearnerKind::Trees, phase: Phase::Fit, progress: &|_| {}, checkpoints: None };
        let spec = TreesSpec { leaves: 8, ..TreesSpec::default() };
        let model = crate::trees::fit(&spec, goal, &layout, sample(task, 0, 2000), rounds, &watch).unwrap();
        TreesModel::from_bytes(&model.to_bytes(), model.layout()).unwrap()
    }

    #[test]
    fn trees_are_left_out_as_far_as_the_budget_goes() {
        for task in [Task::Binary, Task::Regression, Task::Multiclass] {
            let (model, seen, unseen) = (trained(task, 60), sample(task, 0, 2000), sample(task, 2000, 1000));
            let validation = Rows { inputs: &unseen.inputs, target: &unseen.target };
            let refit = Rows { inputs: &seen.inputs, target: &seen.target };
            let prune = |budget, refit| prune_trees(&model, &Pruning { task, validation, budget, refit }).unwrap();
            let (tight, loose, refitted) = (prune(0.002, None), prune(0.02, None), prune(0.002, Some(refit)));
            for pruned in [&tight, &loose, &refitted] {
                assert_eq!(pruned.trees_before, model.ensemble().trees.len());
                assert_eq!(pruned.trees_after, pruned.ensemble.trees.len());
                assert!(pruned.trees_after < pruned.trees_before, "{task:?}");
            }
            assert!(tight.loss_after <= tight.loss_before + 0.002 && loose.loss_after <= loose.loss_before + 0.02);
            assert!(loose.trees_after < tight.trees_after, "{task:?}");
            assert!(refitted.trees_after <= tight.trees_after, "{task:?}");

            // What was measured is what the compact model answers.
            let compact = CompactTreesModel::exact(&tight.ensemble, model.link(), model.layout()).unwrap();
            let loaded = load_model("compact_trees", &compact.to_bytes(), model.layout()).unwrap();
            let mut scores = Vec::new();
            loaded.predict(&unseen.inputs, &mut scores).unwrap();
            assert!((loss(task, &scores, &unseen.target) - tight.loss_after).abs() < 1e-5);
        }
    }

    #[test]
    fn without_a_budget_nothing_worse_comes_back() {
        let (model, unseen) = (trained(Task::Binary, 20), sample(Task::Binary, 2000, 500));
        let validation = Rows { inputs: &unseen.inputs, target: &unseen.target };
        let how = Pruning { task: Task::Binary, validation, budget: -1.0, refit: None };
        let same = prune_trees(&model, &how).unwrap();
        assert_eq!((same.trees_after, same.loss_after), (20, same.loss_before));
        assert!(same.ensemble == model.ensemble());
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let (model, unseen) = (trained(Task::Binary, 3), sample(Task::Binary, 0, 10));
        let wrong = |task, target: &[f64]| {
            let how = Pruning { task, validation: Rows { inputs: &unseen.inputs, target }, budget: 0.1, refit: None };
            prune_trees(&model, &how).map(|_| ()).unwrap_err().to_string()
        };
        assert!(wrong(Task::Regression, &unseen.target).contains("10 rows of 3 columns"));
        assert!(wrong(Task::Binary, &unseen.target[..4]).contains("with 4 outcomes"));
    }
}
