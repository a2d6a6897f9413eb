//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor`: our trees, summed and finished in the steps of ONNX Runtime on
//! one thread. On several threads it adds partial sums, so that its own last bits depend on their number.

use super::attributes::{Attributes, Labels};
use super::graph::{Context, Operator, Outputs, mismatch};
use super::post::{Post, logistic, probit};
use super::{Unsupported, unsupported};
use crate::forest::{Accumulate, Builder, Codes, Described, Forest, Missing, Test};
use crate::tensor::{Data, Tensor};
use std::collections::HashMap;

/// More outputs than this are damage.
const OUTPUTS_MAX: usize = 1 << 16;

/// More columns than this are damage.
const FEATURES_MAX: i64 = 1 << 20;

pub(super) fn operator(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    attributes.without(&[
        "nodes_values_as_tensor",
        "class_weights_as_tensor",
        "target_weights_as_tensor",
        "base_values_as_tensor",
    ])?;
    if attributes.op() == "TreeEnsembleClassifier" { classifier(attributes) } else { regressor(attributes) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// The scores of the rows, and which of them any leaf has touched.
struct Scores {
    outputs: usize,
    aggregate: Aggregate,
    scores: Vec<f32>,
    touched: Vec<bool>,
}

impl Accumulate<f32> for Scores {
    #[inline(always)]
    fn add(&mut self, row: usize, output: usize, value: f32) {
        let at = row * self.outputs + output;
        let (score, touched) = (&mut self.scores[at], &mut self.touched[at]);
        let better = match self.aggregate {
            Aggregate::Sum | Aggregate::Average => {
                *score += value;
                false
            }
            Aggregate::Min => value < *score || !*touched,
            Aggregate::Max => value > *score || !*touched,
        };
        if better {
            *score = value;
        }
        *touched = true;
    }
}

struct Ensemble {
    forest: Forest<f32, f32>,
    aggregate: Aggregate,
    base: Vec<f32>,
    post: Post,
}

impl Ensemble {
    fn scores(&self, inputs: &[&Tensor]) -> Result<(Scores, usize), super::graph::Stop> {
        let [input] = inputs else { return mismatch("it takes one input") };
        let cast;
        let values: &[f32] = match &input.data {
            Data::Fp32(values) => values,
            Data::Int64(values) => {
                cast = values.iter().map(|value| *value as f32).collect::<Vec<_>>();
                &cast
            }
            other => return mismatch(format!("inputs of type {} are left to ONNX Runtime", other.datatype())),
        };
        let [rows, width] = input.shape[..] else { return mismatch("its input is no matrix") };
        let features = self.forest.features();
        if width < features {
            return mismatch(format!("it reads {features} columns, its input has {width}"));
        }
        let outputs = self.forest.outputs();
        let (scores, touched) = (vec![0.0; rows * outputs], vec![false; rows * outputs]);
        let mut scores = Scores { outputs, aggregate: self.aggregate, scores, touched };
        if width == features {
            self.forest.walk(values, &mut scores);
        } else {
            // Columns behind the last that is read.
            let read = values.chunks_exact(width).flat_map(|row| &row[..features]).copied();
            self.forest.walk(&read.collect::<Vec<_>>(), &mut scores);
        }
        Ok((scores, rows))
    }
}

impl Ensemble {
    fn canonical(&self, input: &mut Tensor) -> bool {
        let features = self.forest.features();
        match (&mut input.data, &input.shape[..]) {
            (Data::Fp32(values), [_, width]) if *width >= features => {
                for row in values.chunks_exact_mut(*width) {
                    self.forest.canonical(&mut row[..features]);
                    row[features..].fill(0.0);
                }
                true
            }
            _ => false,
        }
    }
}

struct Regressor(Ensemble);

impl Operator for Regressor {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let Ensemble { forest, aggregate, base, post } = &self.0;
        let (mut scores, rows) = self.0.scores(inputs)?;
        let outputs = forest.outputs();
        for (row, touched) in scores.scores.chunks_exact_mut(outputs).zip(scores.touched.chunks_exact(outputs)) {
            if *aggregate == Aggregate::Average {
                row.iter_mut().for_each(|score| *score /= forest.trees() as f32);
            }
            for (output, score) in row.iter_mut().enumerate() {
                // What no leaf has touched stays 0, without its base value: so does ONNX Runtime.
                if touched[output] {
                    *score += base.get(output).unwrap_or(&0.0);
                }
            }
            match (&mut *row, post) {
                ([score], Post::Probit) => *score = probit(*score),
                // A single score keeps its value under the other transforms: so does ONNX Runtime.
                ([_], _) => (),
                (row, post) => post.apply(row),
            }
        }
        Ok(vec![Tensor::new(String::new(), vec![rows, outputs], Data::Fp32(scores.scores))])
    }

    fn bytes(&self) -> usize {
        self.0.forest.bytes()
    }

    fn canonical(&self, input: &mut Tensor) -> bool {
        self.0.canonical(input)
    }
}

struct Classifier {
    ensemble: Ensemble,
    labels: Labels,
    /// Two classes, and weights for one of them alone: the other is what it lacks.
    binary: bool,
    all_positive: bool,
}

impl Operator for Classifier {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let (mut scores, rows) = self.ensemble.scores(inputs)?;
        let outputs = self.labels.len();
        let mut places = Vec::with_capacity(rows);
        for (row, touched) in scores.scores.chunks_exact_mut(outputs).zip(scores.touched.chunks_exact(outputs)) {
            places.push(match row {
                [first, second] => self.two(first, second, [touched[0], touched[1]]),
                row => self.many(row, touched),
            });
        }
        let labels = Tensor::new(String::new(), vec![rows], self.labels.at(&places));
        Ok(vec![labels, Tensor::new(String::new(), vec![rows, outputs], Data::Fp32(scores.scores))])
    }

    fn bytes(&self) -> usize {
        self.ensemble.forest.bytes()
    }

    fn canonical(&self, input: &mut Tensor) -> bool {
        self.ensemble.canonical(input)
    }
}

impl Classifier {
    /// Finishes a row of three or more classes and gives the place of its label.
    fn many(&self, row: &mut [f32], touched: &[bool]) -> usize {
        let base = &self.ensemble.base;
        for (score, base) in row.iter_mut().zip(base) {
            *score += base;
        }
        let mut best: Option<usize> = None;
        for (place, score) in row.iter().enumerate() {
            let counts = touched[place] || !base.is_empty();
            if counts && best.is_none_or(|best| *score > row[best]) {
                best = Some(place);
            }
        }
        self.ensemble.post.apply(row);
        best.unwrap_or(0)
    }

    /// Finishes a row of two classes and gives the place of its label. ONNX Runtime takes the second base value alone
    /// where the second class has weights, and gives 0 for a class that no leaf has touched.
    fn two(&self, first: &mut f32, second: &mut f32, touched: [bool; 2]) -> usize {
        match self.ensemble.base[..] {
            [_, base] if touched[1] => {
                *second = base + *first;
                *first = -*second;
            }
            [base, ..] => *first += base,
            [] => (),
        }
        let single = !touched[1] && self.ensemble.base.len() < 2;
        let positive = if touched[1] { *second } else { *first };
        if !touched[0] {
            *first = 0.0;
        }
        let limit = if self.binary && self.all_positive { 0.5 } else { 0.0 };
        let label = usize::from(positive > limit);
        if single {
            self.complete(first, second);
        } else {
            let mut row = [*first, *second];
            self.ensemble.post.apply(&mut row);
            [*first, *second] = row;
        }
        label
    }

    /// The second class from the only score there is.
    fn complete(&self, first: &mut f32, second: &mut f32) {
        let score = *first;
        (*first, *second) = match (self.ensemble.post, self.binary && self.all_positive) {
            (Post::Logistic, _) => (logistic(-score), logistic(score)),
            (_, true) => (1.0 - score, score),
            (_, false) => (-score, score),
        };
    }
}

fn classifier(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let refuse = |why: &str| unsupported(attributes.op(), why);
    let labels = attributes.labels().ok_or_else(|| refuse("it has no classes"))?;
    let classes = labels.len();
    let (ids, weights) = (attributes.ints("class_ids"), attributes.floats("class_weights"));
    let base = attributes.floats("base_values").to_vec();
    let post = Post::read(attributes)?;
    let base_fits = base.is_empty() || base.len() == classes || (classes == 2 && base.len() == 1);
    if classes < 2 || !base_fits || (classes == 2 && post == Post::Probit) {
        return Err(refuse("so many classes with such base values or transform are left to ONNX Runtime"));
    }
    let binary = classes == 2 && ids.iter().all(|id| ids.first() == Some(id));
    let all_positive = !weights.iter().any(|weight| *weight < 0.0);
    // There, ONNX Runtime's labels are 0 and 1, whatever the classes are called.
    let renamed = matches!(&labels, Labels::Ints(labels) if labels != &[0, 1]);
    if !binary && classes == 2 && (base.len() == 1 || renamed) {
        return Err(refuse("two classes with weights of their own are left to ONNX Runtime unless they are 0 and 1"));
    }
    let forest = forest(attributes, classes, "class")?;
    let ensemble = Ensemble { forest, aggregate: Aggregate::Sum, base, post };
    Ok(Box::new(Classifier { ensemble, labels, binary, all_positive }))
}

fn regressor(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let refuse = |why: String| unsupported(attributes.op(), why);
    let aggregate = match attributes.text("aggregate_function", "SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(refuse(format!("aggregate_function {other} is unknown"))),
    };
    let targets = usize::try_from(attributes.int("n_targets", 0)).unwrap_or(0);
    let base = attributes.floats("base_values").to_vec();
    if targets == 0 || targets > OUTPUTS_MAX || !(base.is_empty() || base.len() == targets) {
        return Err(refuse(format!("{targets} targets with {} base values cannot be", base.len())));
    }
    let forest = forest(attributes, targets, "target")?;
    Ok(Box::new(Regressor(Ensemble { forest, aggregate, base, post: Post::read(attributes)? })))
}

/// What a leaf adds, to which output.
type Weights = Vec<(u32, f32)>;

/// The nodes of all trees, as the attributes list them.
struct Listed<'a> {
    attributes: &'a Attributes<'a>,
    trees: &'a [i64],
    nodes: &'a [i64],
    features: &'a [i64],
    modes: &'a [Vec<u8>],
    values: &'a [f32],
    passes: &'a [i64],
    fails: &'a [i64],
    missing: &'a [i64],
}

impl<'a> Listed<'a> {
    fn read(attributes: &'a Attributes) -> Result<Listed<'a>, Unsupported> {
        let listed = Listed {
            attributes,
            trees: attributes.ints("nodes_treeids"),
            nodes: attributes.ints("nodes_nodeids"),
            features: attributes.ints("nodes_featureids"),
            modes: attributes.texts("nodes_modes"),
            values: attributes.floats("nodes_values"),
            passes: attributes.ints("nodes_truenodeids"),
            fails: attributes.ints("nodes_falsenodeids"),
            missing: attributes.ints("nodes_missing_value_tracks_true"),
        };
        let count = listed.trees.len();
        let lengths = [
            listed.nodes.len(),
            listed.features.len(),
            listed.modes.len(),
            listed.values.len(),
            listed.passes.len(),
            listed.fails.len(),
            if listed.missing.is_empty() { count } else { listed.missing.len() },
        ];
        if count == 0 || lengths.iter().any(|length| *length != count) {
            return Err(listed.refuse("the lists of its nodes differ in length"));
        }
        Ok(listed)
    }

    fn refuse(&self, why: &str) -> Unsupported {
        unsupported(self.attributes.op(), why)
    }

    /// One more than the last column that is read.
    fn width(&self) -> Result<usize, Unsupported> {
        let branches = self.modes.iter().zip(self.features).filter(|(mode, _)| mode.as_slice() != b"LEAF");
        let last = branches.map(|(_, feature)| *feature).max().unwrap_or(0);
        match usize::try_from(last) {
            Ok(last) if last < FEATURES_MAX as usize => Ok(last + 1),
            _ => Err(self.refuse("the numbers of its columns are out of range")),
        }
    }

    fn branch(&self, at: usize, child: impl Fn(i64) -> usize) -> Result<Described<f32, f32>, Unsupported> {
        let threshold = self.values[at];
        let tracks = self.missing.get(at).is_some_and(|tracks| *tracks != 0);
        let (yes, no) = (child(self.passes[at]), child(self.fails[at]));
        if threshold.is_nan() {
            return Err(self.refuse("a threshold is no number"));
        }
        // Of `>=` and `>` the opposite is asked, so that NaN, for which neither holds, passes the opposite.
        let (test, passes, fails, missing_passes) = match self.modes[at].as_slice() {
            b"BRANCH_LEQ" => (Test::AtMost(threshold), yes, no, tracks),
            b"BRANCH_LT" => (Test::Below(threshold), yes, no, tracks),
            b"BRANCH_GTE" => (Test::Below(threshold), no, yes, !tracks),
            b"BRANCH_GT" => (Test::AtMost(threshold), no, yes, !tracks),
            b"BRANCH_EQ" => (Test::Equal(threshold), yes, no, tracks),
            // NaN equals nothing.
            b"BRANCH_NEQ" => (Test::Equal(threshold), no, yes, false),
            _ => return Err(self.refuse("a node has an unknown mode")),
        };
        let feature = usize::try_from(self.features[at]).unwrap_or(usize::MAX);
        Ok(Described::Branch { feature, test, missing: Missing::Nan, missing_passes, passes, fails })
    }
}

/// The weights of each leaf, by the numbers of tree and node.
fn weights(attributes: &Attributes, kind: &str, outputs: usize) -> Result<HashMap<(i64, i64), Weights>, Unsupported> {
    let list = |name: &str| attributes.ints(&format!("{kind}_{name}"));
    let (trees, nodes, ids) = (list("treeids"), list("nodeids"), list("ids"));
    let values = attributes.floats(&format!("{kind}_weights"));
    if [nodes.len(), ids.len(), values.len()].iter().any(|length| *length != trees.len()) {
        return Err(unsupported(attributes.op(), "the lists of its leaves differ in length"));
    }
    let mut weights: HashMap<(i64, i64), Weights> = HashMap::new();
    for (at, value) in values.iter().enumerate() {
        let output = u32::try_from(ids[at]).ok().filter(|output| (*output as usize) < outputs);
        let leaf = weights.entry((trees[at], nodes[at])).or_default();
        match output {
            // Of one output, only the first weight counts, whatever its number.
            _ if outputs == 1 && leaf.is_empty() => leaf.push((0, *value)),
            _ if outputs == 1 => (),
            Some(output) => leaf.push((output, *value)),
            None => return Err(unsupported(attributes.op(), "a leaf adds to an output that is not there")),
        }
    }
    Ok(weights)
}

fn forest(attributes: &Attributes, outputs: usize, kind: &str) -> Result<Forest<f32, f32>, Unsupported> {
    let listed = Listed::read(attributes)?;
    let mut weights = weights(attributes, kind, outputs)?;
    let mut builder = Builder::new(listed.width()?, outputs, Codes::Truncated);
    let mut seen = std::collections::HashSet::new();
    let mut from = 0;
    while from < listed.trees.len() {
        let tree = listed.trees[from];
        let to = listed.trees[from..].iter().position(|other| *other != tree).map_or(listed.trees.len(), |n| from + n);
        if !seen.insert(tree) {
            return Err(listed.refuse("the nodes of a tree do not stand together"));
        }
        add_tree(&listed, &mut builder, from..to, &mut weights)?;
        from = to;
    }
    Ok(builder.build())
}

/// Adds the tree whose nodes are at the places `range`; its root is the first.
fn add_tree(
    listed: &Listed,
    builder: &mut Builder<f32, f32>,
    range: std::ops::Range<usize>,
    weights: &mut HashMap<(i64, i64), Weights>,
) -> Result<(), Unsupported> {
    let mut places = HashMap::with_capacity(range.len());
    for at in range.clone() {
        if places.insert(listed.nodes[at], at - range.start).is_some() {
            return Err(listed.refuse("two nodes of a tree have the same number"));
        }
    }
    let child = |number: i64| places.get(&number).copied().unwrap_or(usize::MAX);
    let mut described = Vec::with_capacity(range.len());
    // Where all leaves add to one output, the tree itself does.
    let mut only: Option<u32> = None;
    let mut one = true;
    for at in range {
        if listed.modes[at].as_slice() != b"LEAF" {
            described.push(listed.branch(at, child)?);
            continue;
        }
        let leaf = weights.remove(&(listed.trees[at], listed.nodes[at]));
        let leaf = leaf.ok_or_else(|| listed.refuse("a leaf has no weight"))?;
        one &= leaf.len() == 1 && *only.get_or_insert(leaf[0].0) == leaf[0].0;
        described.push(Described::LeafOf(leaf));
    }
    if one {
        for node in &mut described {
            if let Described::LeafOf(leaf) = node {
                *node = Described::Leaf(leaf[0].1);
            }
        }
    }
    let output = if one { only.unwrap_or(0) } else { 0 };
    builder.tree(output as usize, 0, &described).map_err(|error| listed.refuse(&error.to_string()))
}
