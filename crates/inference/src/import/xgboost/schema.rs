//! The parts of XGBoost's JSON that a prediction needs. Newer programs add fields, older ones lack some.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Deserialize)]
pub struct Document {
    pub learner: Learner,
}

#[derive(Deserialize)]
pub struct Learner {
    pub learner_model_param: LearnerParam,
    pub gradient_booster: Booster,
    pub objective: Objective,
    #[serde(default)]
    pub feature_names: Vec<String>,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
pub struct LearnerParam {
    pub base_score: String,
    #[serde(deserialize_with = "number")]
    pub num_feature: u64,
    #[serde(default, deserialize_with = "number")]
    pub num_class: u64,
    #[serde(default = "one", deserialize_with = "number")]
    pub num_target: u64,
}

#[derive(Deserialize)]
pub struct Objective {
    pub name: String,
}

/// `gbtree`, `dart` or `gblinear`.
#[derive(Deserialize)]
pub struct Booster {
    pub name: String,
    pub model: Option<BoosterModel>,
    /// Of `dart`: the trees.
    pub gbtree: Option<Box<Booster>>,
    /// Of `dart`: what each tree's leaves are multiplied by.
    #[serde(default)]
    pub weight_drop: Vec<f32>,
}

#[derive(Deserialize)]
pub struct BoosterModel {
    #[serde(default)]
    pub trees: Vec<Tree>,
    /// The output that each tree adds to.
    #[serde(default)]
    pub tree_info: Vec<i64>,
    /// Where each iteration's trees begin, and the end of the last.
    #[serde(default)]
    pub iteration_indptr: Vec<i64>,
    /// Of `gblinear`: for each feature and then the bias, one weight an output.
    #[serde(default)]
    pub weights: Vec<f32>,
}

#[derive(Deserialize)]
pub struct Tree {
    pub left_children: Vec<i64>,
    pub right_children: Vec<i64>,
    pub split_indices: Vec<i64>,
    /// The threshold of a split, the value of a leaf.
    pub split_conditions: Vec<f32>,
    pub default_left: Vec<Flag>,
    /// 1 where the split is by category.
    #[serde(default)]
    pub split_type: Vec<i64>,
    #[serde(default)]
    pub categories: Vec<i64>,
    #[serde(default)]
    pub categories_nodes: Vec<i64>,
    #[serde(default)]
    pub categories_segments: Vec<i64>,
    #[serde(default)]
    pub categories_sizes: Vec<i64>,
    pub tree_param: TreeParam,
}

#[derive(Deserialize)]
pub struct TreeParam {
    #[serde(default = "one", deserialize_with = "number")]
    pub size_leaf_vector: u64,
}

fn one() -> u64 {
    1
}

/// A whole number, which XGBoost writes as text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Number;
    impl Visitor<'_> for Number {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a whole number, or one as text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            text.trim().parse().map_err(|_| E::custom(format!("\"{text}\" is no whole number")))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
            u64::try_from(number).map_err(|_| E::custom("a number is below zero"))
        }
    }
    deserializer.deserialize_any(Number)
}

/// True or false, which earlier programs write as such and later ones as 1 and 0.
#[derive(Clone, Copy)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("true, false, 1 or 0")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Flag, E> {
                Ok(Flag(number != 0))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Flag, E> {
                Ok(Flag(number != 0))
            }
        }
        deserializer.deserialize_any(FlagVisitor)
    }
}
