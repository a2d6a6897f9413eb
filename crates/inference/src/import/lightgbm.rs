//! LightGBM's text format, version 4 and the earlier ones that differ in what is not read here. Decisions follow
//! LightGBM's `Tree::Predict`: numbers and sums in double precision, `<=` at thresholds, in the order of the trees.

use super::links::double;
use super::tree_model::{Link, Score, TreeModel, TreeParts};
use super::{Format, ImportError, Imported, TaskHint};
use crate::forest::{Builder, Codes, Described, Forest, Missing, Test};
use std::collections::HashMap;
use std::str::FromStr;

const FORMAT: Format = Format::LightgbmText;

/// More columns than this are damage: a wider table has never been seen with trees.
const FEATURES_MAX: usize = 1 << 24;

/// Bits of `decision_type`.
mod decision {
    pub const CATEGORICAL: u8 = 1;
    pub const DEFAULT_LEFT: u8 = 2;
    pub const MISSING_SHIFT: u8 = 2;
    pub const MISSING_ZERO: u8 = 1;
    pub const MISSING_NAN: u8 = 2;
}

/// `key=value` lines up to a blank one, and the line where they begin.
struct Section<'a> {
    line: usize,
    values: HashMap<&'a str, &'a str>,
}

impl<'a> Section<'a> {
    fn text(&self, key: &str) -> Result<&'a str, ImportError> {
        self.values.get(key).copied().ok_or_else(|| self.damaged(format!("\"{key}=\" is missing")))
    }

    fn damaged(&self, what: impl Into<String>) -> ImportError {
        ImportError::damaged(FORMAT, format!("the part that begins in line {}", self.line), what)
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<T, ImportError> {
        let text = self.text(key)?;
        text.trim().parse().map_err(|_| self.damaged(format!("\"{key}={text}\" is no number of the expected kind")))
    }

    /// Exactly `count` numbers. An absent or empty list has none.
    fn numbers<T: FromStr>(&self, key: &str, count: usize) -> Result<Vec<T>, ImportError> {
        let text = self.values.get(key).copied().unwrap_or("");
        let numbers: Result<Vec<T>, _> = text.split_ascii_whitespace().map(str::parse).collect();
        let numbers = numbers.map_err(|_| self.damaged(format!("\"{key}=\" has a word that is no number")))?;
        if numbers.len() != count {
            return Err(self.damaged(format!("\"{key}=\" has {} numbers, expected are {count}", numbers.len())));
        }
        Ok(numbers)
    }
}

/// The sections: the head, then one a tree.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections = Vec::new();
    let mut current = Section { line: 1, values: HashMap::new() };
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line == "end of trees" {
            break;
        }
        if line.starts_with("Tree=") {
            let next = Section { line: at + 1, values: HashMap::new() };
            sections.push(std::mem::replace(&mut current, next));
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        current.values.insert(key, value);
    }
    sections.push(current);
    sections
}

/// What the head says of all trees.
struct Head {
    features: Vec<String>,
    /// Trees of one iteration: the outputs.
    outputs: usize,
    objective: String,
    average: bool,
}

impl Head {
    fn read(section: &Section) -> Result<Head, ImportError> {
        let last: usize = section.number("max_feature_idx")?;
        let outputs: usize = section.number("num_tree_per_iteration")?;
        if last >= FEATURES_MAX || outputs == 0 || outputs > FEATURES_MAX {
            return Err(section.damaged("the numbers of features and of trees in an iteration are out of range"));
        }
        let mut features: Vec<String> =
            section.text("feature_names")?.split_ascii_whitespace().map(str::to_owned).collect();
        if features.len() != last + 1 {
            return Err(section.damaged(format!("{} features are named, expected are {}", features.len(), last + 1)));
        }
        // LightGBM's own names for columns without one.
        if features.iter().enumerate().all(|(at, name)| *name == format!("Column_{at}")) {
            features.clear();
        }
        let objective = section.values.get("objective").copied().unwrap_or("").to_owned();
        Ok(Head { features, outputs, objective, average: section.values.contains_key("average_output") })
    }

    fn width(section: &Section) -> Result<usize, ImportError> {
        Ok(section.number::<usize>("max_feature_idx")? + 1)
    }
}

pub(super) fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        ImportError::damaged(FORMAT, format!("byte {}", error.valid_up_to()), "it is no UTF-8 text")
    })?;
    if !text.lines().any(|line| line.trim_end() == "end of trees") {
        return Err(ImportError::damaged(FORMAT, "its end", "\"end of trees\" is missing, so that it was cut off"));
    }
    let sections = sections(text);
    let [first, trees @ ..] = sections.as_slice() else {
        return Err(ImportError::damaged(FORMAT, "its beginning", "it has no head"));
    };
    let head = Head::read(first)?;
    let expected = first.values.get("tree_sizes").map_or(0, |sizes| sizes.split_ascii_whitespace().count());
    if first.values.contains_key("tree_sizes") && trees.len() != expected {
        return Err(first.damaged(format!("it announces {expected} trees and has {}", trees.len())));
    }
    if trees.len() % head.outputs != 0 {
        return Err(first.damaged(format!("{} trees are no whole iterations of {}", trees.len(), head.outputs)));
    }
    let mut builder = Builder::new(Head::width(first)?, head.outputs, Codes::Truncated);
    for (at, section) in trees.iter().enumerate() {
        let nodes = tree(section)?;
        builder.tree(at % head.outputs, 0, &nodes).map_err(ImportError::trees(FORMAT))?;
    }
    let iterations = trees.len() / head.outputs;
    finish(head, iterations, builder.build(), categories_note(text))
}

/// pandas' categories are coded by their place in a list that the file's end keeps.
fn categories_note(text: &str) -> Option<String> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("pandas_categorical:"))?;
    let lists = line.trim();
    (lists.starts_with("[[")).then(|| {
        let shown: String = lists.chars().take(200).collect();
        format!(
            "categorical columns are given as their place in pandas' lists of categories, NaN for others; \
             the lists begin {shown}"
        )
    })
}

/// The nodes of a tree: splits first, then leaves.
fn tree(section: &Section) -> Result<Vec<Described<f64, f64>>, ImportError> {
    let leaves: usize = section.number("num_leaves")?;
    if section.values.get("is_linear").is_some_and(|value| value.trim() == "1") {
        return Err(ImportError::unsupported(
            FORMAT,
            "linear trees",
            "train without linear_tree, or export to ONNX and serve it with ONNX Runtime",
        ));
    }
    // One word of text a leaf at least, so that the count cannot be larger than the file.
    let values: Vec<f64> = section.numbers("leaf_value", leaves)?;
    let splits = leaves.checked_sub(1).ok_or_else(|| section.damaged("it has no leaves"))?;
    let features: Vec<usize> = section.numbers("split_feature", splits)?;
    let thresholds: Vec<f64> = section.numbers("threshold", splits)?;
    let decisions: Vec<u8> = section.numbers("decision_type", splits)?;
    let left: Vec<i64> = section.numbers("left_child", splits)?;
    let right: Vec<i64> = section.numbers("right_child", splits)?;
    let mut sets = Sets::read(section)?;
    // A leaf is named by the complement of its number.
    let child = |child: i64| match usize::try_from(child) {
        Ok(split) if split < splits => split,
        Ok(_) => usize::MAX,
        Err(_) => usize::try_from(!child).map_or(usize::MAX, |leaf| splits.saturating_add(leaf)),
    };
    let mut nodes = Vec::with_capacity(splits + leaves);
    for split in 0..splits {
        let (test, missing, missing_passes) = test(section, &mut sets, thresholds[split], decisions[split])?;
        nodes.push(Described::Branch {
            feature: features[split],
            test,
            missing,
            missing_passes,
            passes: child(left[split]),
            fails: child(right[split]),
        });
    }
    nodes.extend(values.into_iter().map(Described::Leaf));
    Ok(nodes)
}

/// The sets of categories of one tree.
struct Sets {
    bounds: Vec<usize>,
    words: Vec<u32>,
    /// Words that no node has taken: each set belongs to one node, so that damage cannot multiply them.
    left: usize,
}

impl Sets {
    fn read(section: &Section) -> Result<Sets, ImportError> {
        let count: usize = if section.values.contains_key("num_cat") { section.number("num_cat")? } else { 0 };
        if count == 0 {
            return Ok(Sets { bounds: Vec::new(), words: Vec::new(), left: 0 });
        }
        let bounds: Vec<usize> = section.numbers("cat_boundaries", count.saturating_add(1))?;
        let words: Vec<u32> = section.numbers("cat_threshold", bounds.last().copied().unwrap_or(0))?;
        let left = words.len();
        Ok(Sets { bounds, words, left })
    }

    fn take(&mut self, section: &Section, number: f64) -> Result<Vec<u32>, ImportError> {
        let at = number as usize;
        let words = match (self.bounds.get(at), self.bounds.get(at.saturating_add(1))) {
            (Some(from), Some(to)) => self.words.get(*from..*to),
            _ => None,
        };
        let left = words.and_then(|words| self.left.checked_sub(words.len()));
        let (Some(words), Some(left)) = (words, left) else {
            return Err(section.damaged(format!("the set of categories {number} is not there, or used twice")));
        };
        self.left = left;
        Ok(words.to_vec())
    }
}

fn test(
    section: &Section,
    sets: &mut Sets,
    threshold: f64,
    decision: u8,
) -> Result<(Test<f64>, Missing, bool), ImportError> {
    if decision & decision::CATEGORICAL != 0 {
        return Ok((Test::Member(sets.take(section, threshold)?), Missing::Nan, false));
    }
    let left = decision & decision::DEFAULT_LEFT != 0;
    let (missing, passes) = match decision >> decision::MISSING_SHIFT & 3 {
        decision::MISSING_ZERO => (Missing::NanOrZero, left),
        decision::MISSING_NAN => (Missing::Nan, left),
        // NaN counts as 0.
        _ => (Missing::Nan, 0.0 <= threshold),
    };
    Ok((Test::AtMost(threshold), missing, passes))
}

/// The value of `name:value` among the objective's words.
fn parameter(objective: &str, name: &str, default: f64) -> Result<f64, ImportError> {
    let value = objective.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
    value.map_or(Ok(default), |value| {
        value.parse().map_err(|_| ImportError::damaged(FORMAT, "the objective", format!("{name}:{value} is no number")))
    })
}

fn finish(
    head: Head,
    iterations: usize,
    kernel: Forest<f64, f64>,
    note: Option<String>,
) -> Result<Imported, ImportError> {
    let Head { features, outputs, objective, average } = head;
    let mut notes: Vec<String> = note.into_iter().collect();
    let root = objective.split_ascii_whitespace().any(|word| word == "sqrt");
    let sigmoid = parameter(&objective, "sigmoid", 1.0)?;
    let value = |link: Option<Link<f64>>| (TaskHint::Regression, Score::Value, link);
    let (task, score, link) = match objective.split_ascii_whitespace().next().unwrap_or("") {
        "binary" => (TaskHint::Binary, Score::Probability, Some(double::logistic(sigmoid))),
        "cross_entropy" | "xentropy" => (TaskHint::Binary, Score::Probability, Some(double::logistic(1.0))),
        "cross_entropy_lambda" | "xentlambda" => value(Some(double::softplus())),
        "multiclass" | "softmax" => (TaskHint::Multiclass(outputs), Score::Probabilities, Some(double::softmax())),
        "multiclassova" | "multiclass_ova" | "ova" | "ovr" => {
            (TaskHint::Multiclass(outputs), Score::Probabilities, Some(double::logistic(sigmoid)))
        }
        "poisson" | "gamma" | "tweedie" => value(Some(double::exponential())),
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" => {
            value(root.then(double::signed_square))
        }
        "lambdarank" | "rank_xendcg" => {
            notes.push("it ranks: the values order rows and have no unit".to_owned());
            (TaskHint::Unknown, Score::Value, None)
        }
        "" | "custom" | "none" => {
            notes.push("the file names no objective: the raw sums of the leaves are given".to_owned());
            (TaskHint::Unknown, Score::Raw, None)
        }
        other => {
            let what = format!("the objective \"{other}\"");
            return Err(ImportError::unsupported(FORMAT, what, "train with one of LightGBM's own objectives"));
        }
    };
    // A random forest's raw score stays a sum; its score is made from the average.
    let link = if average && iterations > 0 { Some(double::averaged(iterations as f64, link)) } else { link };
    let parts = TreeParts { kernel, platform: "lightgbm", start: vec![0.0; outputs], raw: None, score, link };
    Ok(Imported {
        format: FORMAT,
        model: Some(Box::new(TreeModel::new(parts))),
        unsupported: None,
        feature_names: features,
        task,
        classes: Vec::new(),
        notes,
    })
}
