//! CatBoost's JSON.

use super::{Float, Node, Nodes, Parts, Trees, refuse};
use crate::forest::{NanAs, ObliviousTree};
use crate::import::{Format, ImportError, Imported};
use serde::Deserialize;
use serde_json::Value;

const FORMAT: Format = Format::CatboostJson;

#[derive(Deserialize)]
struct Document {
    features_info: FeaturesInfo,
    #[serde(default)]
    model_info: ModelInfo,
    oblivious_trees: Option<Vec<Tree>>,
    trees: Option<Vec<FreeTree>>,
    scale_and_bias: Option<(f64, Bias)>,
}

#[derive(Default, Deserialize)]
struct ModelInfo {
    #[serde(default)]
    params: Value,
    #[serde(default)]
    class_params: Value,
}

#[derive(Deserialize)]
struct FeaturesInfo {
    #[serde(default)]
    float_features: Vec<FloatFeature>,
    #[serde(default)]
    categorical_features: Vec<Value>,
    #[serde(default)]
    text_features: Vec<Value>,
    #[serde(default)]
    embedding_features: Vec<Value>,
}

#[derive(Deserialize)]
struct FloatFeature {
    flat_feature_index: usize,
    #[serde(default)]
    feature_id: Option<String>,
    #[serde(default)]
    feature_name: Option<String>,
    #[serde(default)]
    nan_value_treatment: Option<String>,
}

/// One number, or one an output.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bias {
    One(f64),
    Many(Vec<f64>),
}

#[derive(Deserialize)]
struct Tree {
    leaf_values: Vec<f64>,
    #[serde(default)]
    splits: Option<Vec<Split>>,
}

#[derive(Deserialize)]
struct Split {
    border: Option<f32>,
    float_feature_index: Option<usize>,
    #[serde(default)]
    split_type: Option<String>,
}

impl Split {
    fn read(&self) -> Result<(usize, f32), ImportError> {
        match (self.split_type.as_deref(), self.float_feature_index, self.border) {
            (None | Some("FloatFeature"), Some(float), Some(border)) => Ok((float, border)),
            (Some("FloatFeature"), ..) => {
                Err(ImportError::damaged(FORMAT, "a split", "it lacks its feature or its border"))
            }
            (other, ..) => Err(refuse(FORMAT, &format!("splits of the kind \"{}\"", other.unwrap_or("unknown")))),
        }
    }
}

/// A split with two branches, or a leaf.
#[derive(Deserialize)]
struct FreeTree {
    split: Option<Split>,
    left: Option<Box<FreeTree>>,
    right: Option<Box<FreeTree>>,
    value: Option<Bias>,
}

pub fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|source| ImportError::Json { format: FORMAT, source })?;
    let info = &document.features_info;
    for (list, what) in [
        (&info.categorical_features, "categorical features"),
        (&info.text_features, "text features"),
        (&info.embedding_features, "embedding features"),
    ] {
        if !list.is_empty() {
            return Err(refuse(FORMAT, what));
        }
    }
    let floats: Result<Vec<Float>, ImportError> = document.features_info.float_features.iter().map(float).collect();
    let (trees, outputs) = match (document.oblivious_trees, document.trees) {
        (Some(trees), _) => oblivious(trees)?,
        (None, Some(trees)) => free(trees)?,
        (None, None) => return Err(ImportError::damaged(FORMAT, "its end", "it has no trees")),
    };
    let (scale, bias) = match document.scale_and_bias {
        None => (1.0, vec![0.0; outputs]),
        Some((scale, Bias::One(bias))) => (scale, vec![bias; outputs]),
        Some((scale, Bias::Many(biases))) if biases.is_empty() => (scale, vec![0.0; outputs]),
        Some((scale, Bias::Many(biases))) => (scale, biases),
    };
    // Earlier versions wrote these as text.
    let value = |value: Value| match value {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::Null),
        other => other,
    };
    let ModelInfo { params, class_params } = document.model_info;
    let (params, class_params) = (value(params), value(class_params));
    Parts { format: FORMAT, floats: floats?, outputs, trees, scale, bias, params, class_params }.import()
}

fn float(feature: &FloatFeature) -> Result<Float, ImportError> {
    let nan = match feature.nan_value_treatment.as_deref() {
        None | Some("AsIs" | "AsFalse") => NanAs::Lowest,
        Some("AsTrue") => NanAs::Highest,
        Some(other) => {
            return Err(ImportError::damaged(FORMAT, "a feature", format!("nan_value_treatment is \"{other}\"")));
        }
    };
    let name = feature.feature_name.clone().or_else(|| feature.feature_id.clone()).unwrap_or_default();
    Ok(Float { flat: feature.flat_feature_index, name, nan })
}

/// The trees, and how many values a leaf has.
fn oblivious(trees: Vec<Tree>) -> Result<(Trees, usize), ImportError> {
    let mut outputs = None;
    let mut read = Vec::with_capacity(trees.len());
    for (at, tree) in trees.into_iter().enumerate() {
        let splits: Result<Vec<_>, _> = tree.splits.unwrap_or_default().iter().map(Split::read).collect();
        let splits = splits?;
        let its = 1usize.checked_shl(splits.len() as u32).and_then(|leaves| tree.leaf_values.len().checked_div(leaves));
        let its = its.filter(|outputs| outputs << splits.len() == tree.leaf_values.len() && *outputs > 0);
        if its.is_none() || outputs.is_some_and(|outputs| Some(outputs) != its) {
            let what = format!("{} values do not fit {} splits", tree.leaf_values.len(), splits.len());
            return Err(ImportError::damaged(FORMAT, format!("tree {at}"), what));
        }
        outputs = its;
        read.push(ObliviousTree { splits, values: tree.leaf_values });
    }
    Ok((Trees::Oblivious(read), outputs.unwrap_or(1)))
}

fn free(trees: Vec<FreeTree>) -> Result<(Trees, usize), ImportError> {
    let mut read = Vec::with_capacity(trees.len());
    let mut outputs = None;
    for (at, tree) in trees.into_iter().enumerate() {
        let mut nodes = Nodes::new();
        let mut waiting = vec![tree];
        // A node's place is its place in this queue: children follow behind all that wait already.
        let mut next = 0;
        while next < waiting.len() {
            let place = waiting.len();
            let FreeTree { split, left, right, value } = std::mem::replace(&mut waiting[next], EMPTY);
            nodes.push(match (split, left, right, value) {
                (Some(split), Some(left), Some(right), _) => {
                    let (float, border) = split.read()?;
                    waiting.extend([*left, *right]);
                    Node::Split { float, border, low: place, high: place + 1 }
                }
                (None, None, None, Some(value)) => Node::Leaf(match value {
                    Bias::One(value) => vec![value],
                    Bias::Many(values) => values,
                }),
                _ => {
                    return Err(ImportError::damaged(FORMAT, format!("tree {at}"), "a node is neither split nor leaf"));
                }
            });
            if let Some(Node::Leaf(values)) = nodes.last()
                && *outputs.get_or_insert(values.len()) != values.len()
            {
                return Err(ImportError::damaged(FORMAT, format!("tree {at}"), "leaves differ in length"));
            }
            next += 1;
        }
        read.push(nodes);
    }
    Ok((Trees::Free(read), outputs.unwrap_or(1)))
}

const EMPTY: FreeTree = FreeTree { split: None, left: None, right: None, value: None };
