//! What a model's declaration says of its inputs: `[features]` in `models/NAME.toml`.

mod encodings;
mod windows;

pub use encodings::*;
pub use windows::{Known, WindowFeatures};

use serde::{Deserialize, Serialize};

/// What the pipeline makes of the columns. Without anything declared, every contract column except target, time, key
/// and `outcome_at` is used as its type suggests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureSpec {
    /// The columns to use; all usable ones when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Columns never to use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Parts of an instant in a named time zone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub time_parts: Vec<TimeParts>,
    /// Combinations of string (or integer) columns taken as one category.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cross: Vec<Vec<String>>,
    /// Time between two instants, in seconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub difference: Vec<Difference>,
    /// String columns (or crosses, as `a*b`) replaced by the smoothed mean of the target; all string columns with more
    /// than 16 categories when empty. Trees only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_mean: Vec<String>,
    /// Int columns whose numbers are names: taken as categories, as string columns are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numeric_categories: Vec<String>,
    /// Which values of a category a network tells apart.
    #[serde(skip_serializing_if = "VocabularySpec::is_default")]
    pub vocabulary: VocabularySpec,
    /// Numbers brought together into fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduce: Option<ReduceSpec>,
    /// Columns computed from others of the same row; each is then used as its type suggests, like a declared one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expression: Vec<ExpressionSpec>,
    /// Distances between two places on the earth.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distance: Vec<DistanceSpec>,
    /// Categories replaced by what the target was in rows before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_statistics: Vec<TargetStatistics>,
    /// Categories replaced by how often they occur.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<CountSpec>,
    /// Categories replaced by how long ago they were last seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recency: Vec<RecencySpec>,
    /// Parts of instants as places on a circle.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cyclic: Vec<CyclicSpec>,
    /// Texts as counts of words and pieces of words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<TextSpec>,
    /// Texts that hold a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ListSpec>,
    /// What streams know about a row's key at the row's time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowFeatures>,
}

/// A network has a row of an embedding for each value that it tells apart; all others share a few rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VocabularySpec {
    /// A value that occurs in fewer rows has no row of its own. A judgement: what is seen less says more about those
    /// rows than about the value, and a network must meet unknown values while it learns.
    pub min_rows: u32,
    /// Values with an own row at most, over all columns; the most frequent ones are kept.
    pub rows: u32,
}

impl Default for VocabularySpec {
    fn default() -> Self {
        VocabularySpec { min_rows: 4, rows: 1_000_000 }
    }
}

impl VocabularySpec {
    pub fn is_default(&self) -> bool {
        *self == VocabularySpec::default()
    }
}

/// Replaces numeric columns by fewer linear combinations of them, each standardised first; what is missing counts as
/// the column's mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReduceSpec {
    pub method: ReduceMethod,
    /// The columns to replace; all numeric columns in use when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    pub components: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReduceMethod {
    /// Principal components, those of the largest variance first.
    Pca,
    /// Sparse random signs (Achlioptas, "Database-friendly random projections", 2003), which nearly keep distances.
    RandomProjection,
}

impl ReduceMethod {
    pub fn name(self) -> &'static str {
        match self {
            ReduceMethod::Pca => "pca",
            ReduceMethod::RandomProjection => "random_projection",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeParts {
    pub column: String,
    /// A name of the time-zone database, such as `America/New_York`.
    #[serde(default = "utc")]
    pub zone: String,
    pub parts: Vec<TimePart>,
}

fn utc() -> String {
    "UTC".to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePart {
    /// 0 to 23
    Hour,
    /// 0 to 1439
    MinuteOfDay,
    /// 0 (Monday) to 6
    Weekday,
    /// 0 to 167, from Monday midnight
    HourOfWeek,
    /// 1 to 31
    Day,
    /// 1 to 12
    Month,
    /// 1 to 366
    DayOfYear,
    Year,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    pub later: String,
    pub earlier: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a declaration leaves out stays out of the file, so that bundles of before keep their bytes.
    #[test]
    fn defaults_are_not_written_and_settings_come_back() {
        assert_eq!(serde_json::to_string(&FeatureSpec::default()).unwrap(), "{}");
        let text = r#"{"vocabulary":{"min_rows":10},"reduce":{"method":"random_projection","components":8}}"#;
        let features: FeatureSpec = serde_json::from_str(text).unwrap();
        assert_eq!((features.vocabulary.min_rows, features.vocabulary.rows), (10, 1_000_000));
        assert_eq!(features.reduce.as_ref().map(|reduce| reduce.method.name()), Some("random_projection"));
        let back: FeatureSpec = serde_json::from_str(&serde_json::to_string(&features).unwrap()).unwrap();
        assert_eq!(back, features);
        assert!(serde_json::from_str::<FeatureSpec>(r#"{"reduce":{"method":"pca"}}"#).is_err());
    }
}
