//! What the data looked like when a version learned: the reference that the monitors compare with.

use crate::answer::brier;
use crate::model::Task;
use serde::{Deserialize, Serialize};

pub const HOURS_OF_WEEK: usize = 168;

/// Version of this format on disk. Format 2 adds [`ReferenceDetail`]; format 1 is read as one without it.
pub const REFERENCE_FORMAT: u32 = 2;

/// Exact counts of the training rows by feature, hour of week and bin, and the loss to expect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    pub format: u32,
    pub rows: u64,
    pub features: Vec<FeatureReference>,
    /// Loss on rows that the model did not learn from; none where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossReference>,
    /// What format 1 did not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<ReferenceDetail>,
}

/// How much rows of one hour or one day resemble each other, and what single segments looked like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReferenceDetail {
    /// Distinct hours behind each stratum of the reference.
    pub hours: Vec<u32>,
    /// In the order of the features.
    pub dependence: Vec<Dependence>,
    /// Of the bounded loss.
    #[serde(default)]
    pub loss: Option<Dependence>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentReference>,
}

/// Intraclass correlations: the share of the variance, within an hour of the week, that rows of one hour or one day have
/// in common. `1 + (n - 1) r` rows of a block of `n` say as much as one independent row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dependence {
    pub hour: f64,
    pub day: f64,
}

/// One segment's counts in coarse bins: every so many of a feature's edges, the first so many of its categories.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentReference {
    /// `column=value`.
    pub name: String,
    /// In the order of the reference's features.
    pub features: Vec<FeatureReference>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureReference {
    pub name: String,
    pub bins: Bins,
    /// `counts[hour_of_week][bin]`; an hour that was never seen has an empty list. Without a time column everything is
    /// in hour 0 and `stratified` is false.
    pub counts: Vec<Vec<u32>>,
    pub stratified: bool,
}

/// How a raw value becomes a bin. Bin 0 is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bins {
    /// Ascending edges; a value's bin is 1 plus the number of edges that are below it. There are `edges + 2` bins.
    Numeric { edges: Vec<f64> },
    /// A value's bin is 1 plus its place in this list; any other is in the last bin. There are `values + 2` bins.
    Categories { values: Vec<String> },
}

impl Bins {
    pub fn len(&self) -> usize {
        2 + match self {
            Bins::Numeric { edges } => edges.len(),
            Bins::Categories { values } => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// The bin of a number; NaN counts as null.
    pub fn number(&self, value: Option<f64>) -> u16 {
        match (self, value) {
            (Bins::Numeric { edges }, Some(value)) if !value.is_nan() => {
                (1 + edges.partition_point(|edge| *edge < value)) as u16
            }
            _ => 0,
        }
    }

    /// The bin of a category.
    pub fn category(&self, value: Option<&str>) -> u16 {
        match (self, value) {
            (Bins::Categories { values }, Some(value)) => {
                (1 + values.iter().position(|known| known == value).unwrap_or(values.len())) as u16
            }
            _ => 0,
        }
    }
}

/// Loss measured on the newest rows that the model had not seen. For a binary target the loss is the Brier score, for
/// several classes half of it (its range is twice as wide); for a regression it is the absolute error divided by `scale`, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossReference {
    pub rows: u64,
    pub mean: f64,
    pub standard_deviation: f64,
    pub scale: f64,
}

/// The bounded loss of one row, in [0, 1]. See [`LossReference`]. `predicted` holds one number, or the probability of each
/// class.
pub fn bounded_loss(task: Task, scale: f64, predicted: &[f64], outcome: f64) -> f64 {
    match task {
        Task::Binary => (predicted[0] - outcome) * (predicted[0] - outcome),
        Task::Regression => ((predicted[0] - outcome).abs() / scale).min(1.0),
        Task::Multiclass => brier(predicted, outcome) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_of_format_1_is_still_read() {
        let text = r#"{"format":1,"rows":3,"features":[{"name":"x","bins":{"numeric":{"edges":[0.0]}},
            "counts":[[1,1,1]],"stratified":false}],"loss":{"rows":9,"mean":0.1,"standard_deviation":0.2,"scale":1.0}}"#;
        let read: Reference = serde_json::from_str(text).unwrap();
        assert!(read.format == 1 && read.detail.is_none() && read.features[0].counts == [[1, 1, 1]]);
    }
}
