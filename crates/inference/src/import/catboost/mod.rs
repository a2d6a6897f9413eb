//! CatBoost's models of numeric features: JSON and the binary cbm. Decisions follow its CPU evaluator: `>` at borders in
//! single precision, leaves summed in double precision in the order of the trees, then scale and bias.

mod cbm;
mod flat;
mod json;

pub(super) use cbm::import as import_cbm;
pub(super) use json::import as import_json;

use super::links::double;
use super::tree_model::{Kernel, Link, Score, TreeModel, TreeParts};
use super::{Format, ImportError, Imported, TaskHint};
use crate::forest::{Builder, Codes, Described, Missing, NanAs, Oblivious, ObliviousTree, Test};
use crate::tensor::TensorModel;
use serde_json::Value;

/// More columns than this are damage: a small file must not make us reserve much.
const FEATURES_MAX: usize = 1 << 20;

/// A numeric feature.
struct Float {
    /// Its column among all features.
    flat: usize,
    name: String,
    nan: NanAs,
}

/// A tree whose levels ask different questions, each node's children by their places.
type Nodes = Vec<Node>;

enum Node {
    /// Above the border to `high`, else to `low`.
    Split { float: usize, border: f32, low: usize, high: usize },
    /// One value an output.
    Leaf(Vec<f64>),
}

enum Trees {
    /// Of splits on numeric features by their number.
    Oblivious(Vec<ObliviousTree>),
    Free(Vec<Nodes>),
}

/// What both formats hold.
struct Parts {
    format: Format,
    floats: Vec<Float>,
    outputs: usize,
    trees: Trees,
    scale: f64,
    bias: Vec<f64>,
    /// The training's parameters and the classes' names, as far as they are there.
    params: Value,
    class_params: Value,
}

fn refuse(format: Format, what: &str) -> ImportError {
    ImportError::unsupported(format, what, "turn such columns into numbers before training")
}

impl Parts {
    fn damaged(&self, what: impl Into<String>) -> ImportError {
        ImportError::damaged(self.format, "the trees", what)
    }

    /// The number of columns, and for each what takes the place of NaN.
    fn columns(&self) -> Result<Vec<NanAs>, ImportError> {
        let width = self.floats.iter().map(|float| float.flat.saturating_add(1)).max().unwrap_or(0);
        if width == 0 || width > FEATURES_MAX {
            return Err(self.damaged("the number of features is out of range"));
        }
        let mut nans = vec![NanAs::Lowest; width];
        for float in &self.floats {
            nans[float.flat] = float.nan;
        }
        Ok(nans)
    }

    fn names(&self, width: usize) -> Vec<String> {
        let mut names: Vec<String> = (0..width).map(|column| column.to_string()).collect();
        for float in self.floats.iter().filter(|float| !float.name.is_empty()) {
            names[float.flat].clone_from(&float.name);
        }
        if self.floats.iter().all(|float| float.name.is_empty()) { Vec::new() } else { names }
    }

    fn flat(&self, float: usize) -> usize {
        self.floats.get(float).map_or(usize::MAX, |float| float.flat)
    }

    fn import(mut self) -> Result<Imported, ImportError> {
        if self.bias.len() != self.outputs || self.outputs == 0 {
            let what = format!("{} biases are given for {} outputs", self.bias.len(), self.outputs);
            return Err(self.damaged(what));
        }
        let nans = self.columns()?;
        let feature_names = self.names(nans.len());
        let mut notes = Vec::new();
        let (task, score, link) = self.meaning(&mut notes);
        let classes = self.classes();
        let trees = std::mem::replace(&mut self.trees, Trees::Free(Vec::new()));
        let model = match trees {
            Trees::Oblivious(mut trees) => {
                for (split, _) in trees.iter_mut().flat_map(|tree| &mut tree.splits) {
                    *split = self.flat(*split);
                }
                let kernel = Oblivious::new(nans, self.outputs, trees).map_err(ImportError::trees(self.format))?;
                self.model(kernel, score, link)
            }
            Trees::Free(trees) => {
                let mut builder = Builder::<f32, f64>::new(nans.len(), self.outputs, Codes::Truncated);
                for nodes in trees {
                    let described: Vec<_> = nodes.into_iter().map(|node| self.described(node)).collect();
                    builder.tree(0, 0, &described).map_err(ImportError::trees(self.format))?;
                }
                self.model(builder.build(), score, link)
            }
        };
        let format = self.format;
        Ok(Imported { format, model: Some(model), unsupported: None, feature_names, task, classes, notes })
    }

    fn described(&self, node: Node) -> Described<f32, f64> {
        match node {
            Node::Leaf(values) if values.len() == 1 => Described::Leaf(values[0]),
            Node::Leaf(values) => Described::LeafOf((0..).zip(values).collect()),
            Node::Split { float, border, low, high } => Described::Branch {
                feature: self.flat(float),
                test: Test::AtMost(border),
                missing: Missing::Nan,
                missing_passes: self.floats.get(float).is_none_or(|float| float.nan == NanAs::Lowest),
                passes: low,
                fails: high,
            },
        }
    }

    fn model<K>(&self, kernel: K, score: Score, link: Option<Link<f64>>) -> Box<dyn TensorModel>
    where
        K: Kernel<Sum = f64> + 'static,
    {
        let plain = self.scale == 1.0 && self.bias.iter().all(|bias| *bias == 0.0);
        let raw = (!plain).then(|| double::affine(self.scale, self.bias.clone()));
        let start = vec![0.0; self.outputs];
        Box::new(TreeModel::new(TreeParts { kernel, platform: "catboost", start, raw, score, link }))
    }

    fn meaning(&self, notes: &mut Vec<String>) -> (TaskHint, Score, Option<Link<f64>>) {
        let outputs = self.outputs;
        let loss = self.params.pointer("/loss_function/type").and_then(Value::as_str).unwrap_or("");
        match loss {
            "Logloss" | "CrossEntropy" => (TaskHint::Binary, Score::Probability, Some(double::logistic(1.0))),
            "MultiClass" => (TaskHint::Multiclass(outputs), Score::Probabilities, Some(double::softmax())),
            "MultiClassOneVsAll" => (TaskHint::Multiclass(outputs), Score::Probabilities, Some(double::logistic(1.0))),
            "MultiLogloss" | "MultiCrossEntropy" => {
                notes.push("each output is the probability of one label".to_owned());
                (TaskHint::Unknown, Score::Probabilities, Some(double::logistic(1.0)))
            }
            "Poisson" | "Tweedie" => {
                notes.push(format!("{loss}: the value is e to the raw score, the library's prediction type Exponent"));
                (TaskHint::Regression, Score::Value, Some(double::exponential()))
            }
            "RMSE" | "MAE" | "Quantile" | "MAPE" | "Huber" | "Expectile" | "Lq" | "LogLinQuantile" | "LogCosh"
            | "MultiRMSE" | "MultiQuantile" | "MSLE" => (TaskHint::Regression, Score::Value, None),
            other => {
                notes.push(match other {
                    "" => "the file does not name its loss: the raw sums are given".to_owned(),
                    other => format!("loss \"{other}\": the raw sums are given"),
                });
                (TaskHint::Unknown, Score::Raw, None)
            }
        }
    }

    /// The names of the classes by the places of the outputs; of a binary model, negative and positive.
    fn classes(&self) -> Vec<String> {
        let list = |key: &str| self.class_params.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let names = list("class_names");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if names.is_empty() {
            list("class_to_label").iter().map(text).collect()
        } else {
            names.iter().map(text).collect()
        }
    }
}
