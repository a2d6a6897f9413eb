//! XGBoost's JSON and UBJSON: trees (`gbtree`, `dart`) and `gblinear`. Decisions follow XGBoost's CPU predictor: numbers
//! and sums in single precision, `<` at thresholds, the base score first and then the trees in their order.

mod linear;
mod schema;
mod ubjson;

use super::links::single;
use super::tree_model::{Link, Score, TreeModel, TreeParts};
use super::{Format, ImportError, Imported, TaskHint};
use crate::forest::{Builder, Codes, Described, Forest, Missing, Test};
use crate::tensor::TensorModel;
use linear::Linear;
use schema::{Booster, BoosterModel, Document, Learner, LearnerParam, Tree};

/// More columns than this are damage: a small file must not make us reserve much.
const FEATURES_MAX: u64 = 1 << 20;

/// More outputs than this are damage.
const OUTPUTS_MAX: u64 = 1 << 16;

/// Categories are below this: XGBoost's limit, where single precision stops to count.
const CATEGORY_MAX: i64 = 1 << 24;

/// Sets of categories of one tree may take this many words of 32 bits: 64 MB.
const SET_WORDS_MAX: usize = 1 << 24;

pub(super) fn import_json(bytes: &[u8]) -> Result<Imported, ImportError> {
    let format = Format::XgboostJson;
    let document = serde_json::from_slice(bytes).map_err(|source| ImportError::Json { format, source })?;
    document_model(format, document)
}

pub(super) fn import_ubjson(bytes: &[u8]) -> Result<Imported, ImportError> {
    let format = Format::XgboostUbjson;
    let document = ubjson::from_slice(bytes)
        .map_err(|error| ImportError::damaged(format, format!("byte {}", error.at), error.to_string()))?;
    document_model(format, document)
}

fn document_model(format: Format, document: Document) -> Result<Imported, ImportError> {
    let reader = Reader { format };
    let Learner { learner_model_param, gradient_booster, objective, feature_names, attributes } = document.learner;
    let Meaning { task, score, link, margin } = reader.meaning(&objective.name, learner_model_param.num_class)?;
    let outputs = reader.outputs(&learner_model_param)?;
    let start = reader.start(&learner_model_param.base_score, margin, outputs)?;
    let mut notes = Vec::new();
    if objective.name == "multi:softmax" {
        notes.push("the library's own predict gives the class with the largest of the probabilities".to_owned());
    }
    if matches!(task, TaskHint::Unknown) {
        notes.push("it ranks: the values order rows and have no unit".to_owned());
    }
    let features = learner_model_param.num_feature as usize;
    let best = attributes.get("best_iteration").and_then(|best| best.trim().parse::<usize>().ok());
    let model: Box<dyn TensorModel> = if gradient_booster.name == "gblinear" {
        let kernel = Linear::new(format, features, outputs, gradient_booster.model)?;
        // XGBoost 3.2 adds the first output's base score to all.
        let start = vec![start[0]; outputs];
        Box::new(TreeModel::new(TreeParts { kernel, platform: "xgboost", start, raw: None, score, link }))
    } else {
        let kernel = reader.forest(gradient_booster, features, outputs, best, &mut notes)?;
        Box::new(TreeModel::new(TreeParts { kernel, platform: "xgboost", start, raw: None, score, link }))
    };
    let feature_names = if feature_names.len() == features { feature_names } else { Vec::new() };
    Ok(Imported { format, model: Some(model), unsupported: None, feature_names, task, classes: Vec::new(), notes })
}

/// What an objective makes of the sums.
struct Meaning {
    task: TaskHint,
    score: Score,
    link: Option<Link<f32>>,
    /// From the file's base score to a sum.
    margin: fn(f32) -> f32,
}

/// -ln(1 / p - 1), in XGBoost's steps.
fn logit(p: f32) -> f32 {
    -single::ln32(1.0 / p - 1.0)
}

struct Reader {
    format: Format,
}

impl Reader {
    fn damaged<T>(&self, place: impl Into<String>, what: impl Into<String>) -> Result<T, ImportError> {
        Err(ImportError::damaged(self.format, place, what))
    }

    fn meaning(&self, objective: &str, classes: u64) -> Result<Meaning, ImportError> {
        let same = |x: f32| x;
        let (task, score, link, margin): (_, _, _, fn(f32) -> f32) = match objective {
            "binary:logistic" => (TaskHint::Binary, Score::Probability, Some(single::logistic()), logit),
            "binary:logitraw" => (TaskHint::Binary, Score::Raw, None, same),
            "binary:hinge" => (TaskHint::Binary, Score::Value, Some(single::hinge()), same),
            "reg:logistic" => (TaskHint::Regression, Score::Value, Some(single::logistic()), logit),
            "multi:softprob" | "multi:softmax" => {
                let task = TaskHint::Multiclass(classes as usize);
                (task, Score::Probabilities, Some(single::softmax()), same)
            }
            "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" | "survival:aft" => {
                (TaskHint::Regression, Score::Value, Some(single::exponential()), single::ln32)
            }
            "reg:squarederror"
            | "reg:linear"
            | "reg:squaredlogerror"
            | "reg:pseudohubererror"
            | "reg:absoluteerror"
            | "reg:quantileerror"
            | "reg:expectileerror" => (TaskHint::Regression, Score::Value, None, same),
            "rank:pairwise" | "rank:ndcg" | "rank:map" => (TaskHint::Unknown, Score::Value, None, same),
            other => {
                let what = format!("the objective \"{other}\"");
                let remedy = "train with one of XGBoost's own objectives";
                return Err(ImportError::unsupported(self.format, what, remedy));
            }
        };
        Ok(Meaning { task, score, link, margin })
    }

    fn outputs(&self, param: &LearnerParam) -> Result<usize, ImportError> {
        let outputs = param.num_class.max(1).max(param.num_target);
        if param.num_feature == 0 || param.num_feature > FEATURES_MAX || outputs > OUTPUTS_MAX {
            return self.damaged("learner_model_param", "the numbers of features and outputs are out of range");
        }
        Ok(outputs as usize)
    }

    /// One sum an output. The base score is a number, or since version 3.1 a list of them.
    fn start(&self, base: &str, margin: fn(f32) -> f32, outputs: usize) -> Result<Vec<f32>, ImportError> {
        let list = base.trim().trim_start_matches('[').trim_end_matches(']');
        let scores: Result<Vec<f32>, _> = list.split(',').map(|word| word.trim().parse::<f32>()).collect();
        match scores.as_deref() {
            Ok([score]) => Ok(vec![margin(*score); outputs]),
            Ok(scores) if scores.len() == outputs => Ok(scores.iter().map(|score| margin(*score)).collect()),
            _ => self.damaged("base_score", format!("\"{base}\" is neither a number nor a list of {outputs}")),
        }
    }

    fn forest(
        &self,
        booster: Booster,
        features: usize,
        outputs: usize,
        best: Option<usize>,
        notes: &mut Vec<String>,
    ) -> Result<Forest<f32, f32>, ImportError> {
        let weights = booster.weight_drop;
        let model = match (booster.name.as_str(), booster.model, booster.gbtree) {
            ("gbtree", Some(model), _) => model,
            ("dart", _, Some(trees)) if trees.name == "gbtree" => match trees.model {
                Some(model) => model,
                None => return self.damaged("gradient_booster", "it has no model"),
            },
            ("gbtree" | "dart", ..) => return self.damaged("gradient_booster", "it has no model"),
            (other, ..) => {
                let what = format!("the booster \"{other}\"");
                return Err(ImportError::unsupported(self.format, what, "train with gbtree, dart or gblinear"));
            }
        };
        if model.tree_info.len() != model.trees.len() {
            return self.damaged("tree_info", "it is not as long as the list of trees");
        }
        if !weights.is_empty() && weights.len() != model.trees.len() {
            return self.damaged("weight_drop", "it is not as long as the list of trees");
        }
        let used = self.used(&model, best, notes)?;
        let mut builder = Builder::new(features, outputs, Codes::NonNegative);
        for (at, tree) in model.trees.iter().enumerate().take(used) {
            let output = usize::try_from(model.tree_info[at]).unwrap_or(usize::MAX);
            let nodes = self.tree(at, tree, weights.get(at).copied())?;
            builder.tree(output, 0, &nodes).map_err(ImportError::trees(self.format))?;
        }
        Ok(builder.build())
    }

    /// Early stopping leaves trees that the library's predict skips.
    fn used(&self, model: &BoosterModel, best: Option<usize>, notes: &mut Vec<String>) -> Result<usize, ImportError> {
        let all = model.trees.len();
        let Some(best) = best else { return Ok(all) };
        match model.iteration_indptr.get(best.saturating_add(1)).map(|end| usize::try_from(*end)) {
            Some(Ok(end)) if end < all => {
                notes.push(format!("early stopping: the first {end} of {all} trees are used (best_iteration {best})"));
                Ok(end)
            }
            Some(Ok(end)) if end == all => Ok(all),
            None if model.iteration_indptr.is_empty() => {
                notes.push(format!("best_iteration {best} is not applied: the file lacks iteration_indptr"));
                Ok(all)
            }
            _ => self.damaged("iteration_indptr", "it does not fit the best iteration and the trees"),
        }
    }

    fn tree(&self, at: usize, tree: &Tree, weight: Option<f32>) -> Result<Vec<Described<f32, f32>>, ImportError> {
        if tree.tree_param.size_leaf_vector > 1 {
            let remedy = "train with multi_strategy=one_output_per_tree";
            return Err(ImportError::unsupported(self.format, "leaves of several outputs", remedy));
        }
        let nodes = tree.left_children.len();
        let lengths = [
            tree.right_children.len(),
            tree.split_indices.len(),
            tree.split_conditions.len(),
            tree.default_left.len(),
            if tree.split_type.is_empty() { nodes } else { tree.split_type.len() },
        ];
        if lengths.iter().any(|length| *length != nodes) {
            return self.damaged(format!("tree {at}"), "its lists differ in length");
        }
        let mut sets = self.sets(at, tree)?;
        let place = |child: i64| usize::try_from(child).unwrap_or(usize::MAX);
        let mut described = Vec::with_capacity(nodes);
        for node in 0..nodes {
            let condition = tree.split_conditions[node];
            let (left, right) = (tree.left_children[node], tree.right_children[node]);
            if left == -1 {
                described.push(Described::Leaf(weight.map_or(condition, |weight| condition * weight)));
                continue;
            }
            let default_left = tree.default_left[node].0;
            let feature = place(tree.split_indices[node]);
            let by_category = tree.split_type.get(node) == Some(&1);
            let (test, passes, fails) = if by_category {
                // The categories in the list go right.
                let set = sets.get_mut(node).map(std::mem::take).unwrap_or_default();
                (Test::Member(set), place(right), place(left))
            } else {
                (Test::Below(condition), place(left), place(right))
            };
            let missing_passes = default_left != by_category;
            described.push(Described::Branch { feature, test, missing: Missing::Nan, missing_passes, passes, fails });
        }
        Ok(described)
    }

    /// For each node, the bits of the categories that go right; empty where no node splits by category.
    fn sets(&self, at: usize, tree: &Tree) -> Result<Vec<Vec<u32>>, ImportError> {
        let count = tree.categories_nodes.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut sets = vec![Vec::new(); tree.left_children.len()];
        let mut words = 0;
        for number in 0..count {
            let part = || {
                let from = usize::try_from(*tree.categories_segments.get(number)?).ok()?;
                let size = usize::try_from(*tree.categories_sizes.get(number)?).ok()?;
                tree.categories.get(from..from.checked_add(size)?)
            };
            let node = usize::try_from(tree.categories_nodes[number]).ok().and_then(|node| sets.get_mut(node));
            let (Some(categories), Some(set)) = (part(), node) else {
                return self.damaged(format!("tree {at}"), format!("set of categories {number} is out of range"));
            };
            for category in categories {
                if !(0..CATEGORY_MAX).contains(category) {
                    return self.damaged(format!("tree {at}"), format!("{category} is no category"));
                }
                let word = *category as usize / 32;
                if set.len() <= word {
                    words += word + 1 - set.len();
                    if words > SET_WORDS_MAX {
                        return self.damaged(format!("tree {at}"), "its sets of categories are larger than 64 MB");
                    }
                    set.resize(word + 1, 0u32);
                }
                set[word] |= 1 << (category % 32);
            }
        }
        Ok(sets)
    }
}
