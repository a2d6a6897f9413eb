//! Declarations of derived columns and encodings: expressions, distances, statistics of categories, circles, texts,
//! lists.

use super::{FeatureSpec, TimePart, utc};
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// A column computed from others of the same row: `name = "gain", sql = "capital_gain - capital_loss"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpressionSpec {
    pub name: String,
    /// An SQL expression of the subset that docs/features.md lists.
    pub sql: String,
}

/// The distance along the surface of a sphere of the earth's mean radius, 6371.0088 km, in kilometres (haversine).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistanceSpec {
    pub name: String,
    /// Latitude and longitude in degrees.
    pub from: [String; 2],
    /// Latitude and longitude in degrees.
    pub to: [String; 2],
}

/// The smoothed mean of the target among rows with the same values of `columns`, which are taken together as one key:
/// `(sum + smoothing * mean of all) / (rows + smoothing)`. A row that is learned from sees only rows before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetStatistics {
    pub columns: Vec<String>,
    /// Rows' worth of the mean of all rows. A judgement, in the customary range of 10 to 100.
    #[serde(default = "twenty", skip_serializing_if = "is_twenty")]
    pub smoothing: f64,
    /// A key in fewer rows is taken as unseen.
    #[serde(default = "two", skip_serializing_if = "is_two")]
    pub min_rows: u32,
}

/// How often the values of `columns`, taken together as one key, occur among the rows to learn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountSpec {
    pub columns: Vec<String>,
    #[serde(default = "log_only", skip_serializing_if = "is_log_only")]
    pub gives: Vec<CountForm>,
    /// A key in fewer rows is taken as unseen.
    #[serde(default = "two", skip_serializing_if = "is_two")]
    pub min_rows: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountForm {
    /// `ln(1 + rows)`
    Log,
    /// Rows with the key over all rows.
    Share,
}

/// How long before the row's time the values of `columns`, taken together as one key, were last seen, but no less than
/// `delay` and no more than `most`: `ln(1 + seconds)`. A row that is learned from sees only rows that are older by `delay`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecencySpec {
    pub columns: Vec<String>,
    /// How old a version usually is when it answers. A version knows nothing that came after its training; this is how
    /// training rows come to know as little.
    pub delay: Span,
    /// What a key counts that was never seen, or longer ago.
    #[serde(default = "a_year", skip_serializing_if = "is_a_year")]
    pub most: Span,
    /// A key in fewer rows is taken as unseen.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub min_rows: u32,
}

/// Sine and cosine of parts of an instant, so that 23 o'clock stands beside 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CyclicSpec {
    pub column: String,
    /// A name of the time-zone database, such as `America/New_York`.
    #[serde(default = "utc")]
    pub zone: String,
    /// Any but the year, which does not come round.
    pub parts: Vec<TimePart>,
}

/// Counts of a text's words and pieces of words, each hashed into one of `slots` dense columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    pub column: String,
    #[serde(default = "sixty_four")]
    pub slots: u32,
    /// Lengths of the runs of words that are counted: `[1, 2]` for words and pairs.
    #[serde(default = "one_word")]
    pub words: Vec<u32>,
    /// Lengths of the runs of characters within a word, which is taken with a mark before and behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub characters: Vec<u32>,
    /// What the counts become; by default `count` for trees and `unit` for other learners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<TextScale>,
    /// Whether upper and lower case are told apart.
    #[serde(default, skip_serializing_if = "LetterCase::is_fold")]
    pub case: LetterCase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextScale {
    /// How often.
    Count,
    /// Whether at all: 0 or 1.
    Presence,
    /// Counts divided by the root of the sum of their squares.
    Unit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterCase {
    /// All letters become lower-case.
    #[default]
    Fold,
    Keep,
}

impl LetterCase {
    fn is_fold(&self) -> bool {
        *self == LetterCase::Fold
    }
}

/// A string column whose text is a list, such as `red|green|blue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListSpec {
    pub column: String,
    #[serde(default = "comma")]
    pub separator: String,
    pub gives: Vec<ListForm>,
    /// Dense columns that `items` are hashed into.
    #[serde(default = "sixty_four", skip_serializing_if = "is_sixty_four")]
    pub slots: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListForm {
    /// Which items there are: 1 in the slot of each.
    Items,
    /// How many items.
    Count,
    /// Least of the items that are numbers.
    Min,
    Max,
    Mean,
}

impl ListForm {
    pub fn name(self) -> &'static str {
        match self {
            ListForm::Items => "items",
            ListForm::Count => "count",
            ListForm::Min => "min",
            ListForm::Max => "max",
            ListForm::Mean => "mean",
        }
    }
}

/// Slots of one text or list at most: a judgement; each is a column of every row.
pub const TEXT_SLOTS_MAX: u32 = 4096;
/// Words or characters of a run at most.
pub const GRAM_MAX: u32 = 8;

fn twenty() -> f64 {
    20.0
}

fn is_twenty(value: &f64) -> bool {
    *value == 20.0
}

fn two() -> u32 {
    2
}

fn is_two(value: &u32) -> bool {
    *value == 2
}

fn one() -> u32 {
    1
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

fn a_year() -> Span {
    Span(365 * 86_400_000_000)
}

fn is_a_year(value: &Span) -> bool {
    *value == a_year()
}

fn log_only() -> Vec<CountForm> {
    vec![CountForm::Log]
}

fn is_log_only(forms: &[CountForm]) -> bool {
    forms == [CountForm::Log]
}

fn sixty_four() -> u32 {
    64
}

fn is_sixty_four(value: &u32) -> bool {
    *value == 64
}

fn one_word() -> Vec<u32> {
    vec![1]
}

fn comma() -> String {
    ",".to_owned()
}

impl FeatureSpec {
    /// Names of the columns that the declaration itself makes and others of it may name.
    pub fn derived_names(&self) -> impl Iterator<Item = &str> {
        let expressions = self.expression.iter().map(|expression| expression.name.as_str());
        expressions.chain(self.distance.iter().map(|distance| distance.name.as_str()))
    }

    /// Each column that is named, and where.
    pub fn named_columns(&self) -> Vec<(&'static str, &str)> {
        let mut named: Vec<(&'static str, &str)> = Vec::new();
        let sets = [
            ("features.columns", &self.columns),
            ("features.exclude", &self.exclude),
            ("features.numeric_categories", &self.numeric_categories),
        ];
        for (role, names) in sets {
            named.extend(names.iter().map(|name| (role, name.as_str())));
        }
        named.extend(self.time_parts.iter().map(|parts| ("features.time_parts", parts.column.as_str())));
        named.extend(self.cross.iter().flatten().map(|name| ("features.cross", name.as_str())));
        let differences = self.difference.iter().flat_map(|difference| [&difference.later, &difference.earlier]);
        named.extend(differences.map(|name| ("features.difference", name.as_str())));
        let reduced = self.reduce.iter().flat_map(|reduce| &reduce.columns);
        named.extend(reduced.map(|name| ("features.reduce", name.as_str())));
        let places = self.distance.iter().flat_map(|distance| distance.from.iter().chain(&distance.to));
        named.extend(places.map(|name| ("features.distance", name.as_str())));
        let keys = self.target_statistics.iter().flat_map(|statistics| &statistics.columns);
        named.extend(keys.map(|name| ("features.target_statistics", name.as_str())));
        let keys = self.counts.iter().flat_map(|counts| &counts.columns);
        named.extend(keys.map(|name| ("features.counts", name.as_str())));
        let keys = self.recency.iter().flat_map(|recency| &recency.columns);
        named.extend(keys.map(|name| ("features.recency", name.as_str())));
        named.extend(self.cyclic.iter().map(|cyclic| ("features.cyclic", cyclic.column.as_str())));
        named.extend(self.text.iter().map(|text| ("features.text", text.column.as_str())));
        named.extend(self.lists.iter().map(|list| ("features.lists", list.column.as_str())));
        named
    }

    /// What is wrong with the encodings, whatever the contract says.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut names: Vec<&str> = self.derived_names().collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            found.push(format!("features make a column \"{}\" twice; give one another name", twice[0]));
        }
        if names.first().is_some_and(|name| name.is_empty()) {
            found.push("features.expression and features.distance need a name".to_owned());
        }
        for statistics in &self.target_statistics {
            if !(0.0..=1e9).contains(&statistics.smoothing) {
                found.push(format!(
                    "features.target_statistics: smoothing = {} is outside 0 to 1e9",
                    statistics.smoothing
                ));
            }
        }
        let keys = self.target_statistics.iter().map(|statistics| ("target_statistics", &statistics.columns));
        for (role, columns) in keys.chain(self.counts.iter().map(|counts| ("counts", &counts.columns))) {
            if columns.is_empty() {
                found.push(format!("features.{role} needs columns"));
            }
        }
        for counts in self.counts.iter().filter(|counts| counts.gives.is_empty()) {
            found.push(format!("features.counts of {:?} gives nothing; say gives = [\"log\"]", counts.columns));
        }
        for recency in &self.recency {
            if recency.columns.is_empty() || recency.delay.0 < 0 || recency.most <= recency.delay {
                found.push(format!(
                    "features.recency of {:?} needs columns, a delay of 0 or more, and a longer span as most",
                    recency.columns
                ));
            }
        }
        for cyclic in &self.cyclic {
            if cyclic.parts.is_empty() || cyclic.parts.contains(&TimePart::Year) {
                found.push(format!(
                    "features.cyclic of \"{}\" needs parts that come round, such as [\"hour\", \"weekday\"]; a year does not",
                    cyclic.column
                ));
            }
        }
        for text in &self.text {
            let grams = text.words.iter().chain(&text.characters);
            if grams.clone().count() == 0 || grams.clone().any(|length| !(1..=GRAM_MAX).contains(length)) {
                found.push(format!(
                    "features.text of \"{}\" needs words or characters, with lengths of 1 to {GRAM_MAX}",
                    text.column
                ));
            }
        }
        for list in &self.lists {
            if list.separator.is_empty() || list.gives.is_empty() {
                found.push(format!("features.lists of \"{}\" needs a separator and something it gives", list.column));
            }
        }
        let slots = self.text.iter().map(|text| (&text.column, text.slots));
        for (column, slots) in slots.chain(self.lists.iter().map(|list| (&list.column, list.slots))) {
            if !(1..=TEXT_SLOTS_MAX).contains(&slots) {
                found.push(format!("features: {slots} slots of \"{column}\" are outside 1 to {TEXT_SLOTS_MAX}"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_short_and_what_they_leave_out_has_a_value() {
        let text = r#"{"target_statistics":[{"columns":["carrier","origin"]}],"counts":[{"columns":["tail"]}],
            "text":[{"column":"title"}],"lists":[{"column":"tags","separator":"|","gives":["items","count"]}]}"#;
        let features: FeatureSpec = serde_json::from_str(text).unwrap();
        let statistics = &features.target_statistics[0];
        assert_eq!((statistics.smoothing, statistics.min_rows), (20.0, 2));
        assert_eq!((features.counts[0].gives.as_slice(), features.text[0].slots), (&[CountForm::Log][..], 64));
        assert!(features.problems().is_empty(), "{:?}", features.problems());
        let written = serde_json::to_string(&features).unwrap();
        assert_eq!(serde_json::from_str::<FeatureSpec>(&written).unwrap(), features);
        assert_eq!(features.named_columns().len(), 5);
    }

    #[test]
    fn declarations_that_cannot_be_are_named() {
        let text = r#"{"expression":[{"name":"x","sql":"1"},{"name":"x","sql":"2"}],
            "target_statistics":[{"columns":[],"smoothing":-1}],"counts":[{"columns":["a"],"gives":[]}],
            "recency":[{"columns":["a"],"delay":"2d","most":"1d"}],
            "cyclic":[{"column":"at","parts":["year"]}],"text":[{"column":"t","words":[9],"slots":0}],
            "lists":[{"column":"l","separator":"","gives":["count"]}]}"#;
        let problems = serde_json::from_str::<FeatureSpec>(text).unwrap().problems();
        let parts = [
            "twice",
            "smoothing",
            "needs columns",
            "gives nothing",
            "a longer span",
            "come round",
            "lengths",
            "separator",
            "0 slots",
        ];
        assert_eq!(problems.len(), parts.len(), "{problems:?}");
        assert!(problems.iter().zip(parts).all(|(found, part)| found.contains(part)), "{problems:?}");
    }
}
