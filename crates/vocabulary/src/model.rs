//! A model's declaration. On disk: `models/NAME.toml`.

mod features;
mod joins;

pub use features::{
    CountForm, CountSpec, CyclicSpec, Difference, DistanceSpec, ExpressionSpec, FeatureSpec, GRAM_MAX, Known,
    LetterCase, ListForm, ListSpec, RecencySpec, ReduceMethod, ReduceSpec, TEXT_SLOTS_MAX, TargetStatistics, TextScale,
    TextSpec, TimePart, TimeParts, VocabularySpec, WindowFeatures,
};

pub use joins::JoinSpec;

use crate::contract::Scalar;
use crate::id::Share;
pub use crate::network::{BatchScaling, EmbeddingStorage, NetworkSpec, NumericEncoding, RateSchedule};
pub use crate::objective::ObjectiveSpec;
use crate::time::Span;
pub use crate::tuning::{ParameterSpec, TuningMetric, TuningSpec, TuningValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    pub name: String,
    pub contract: String,
    pub task: Task,
    /// The column to predict.
    pub target: String,
    /// The value of a binary target that counts as 1, where the target is not already 0/1 or a bool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<Scalar>,
    /// The classes of a multiclass target, in the order in which their probabilities are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Scalar>,
    /// The column that says how much a row counts when it is learned from; all count the same without. Never an input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// The column that says when the event happened. Without it, the order of the rows in the data stands for time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The column that identifies the event; outcomes may join by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The column that says when the outcome became known. A row is learned from only after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_at: Option<String>,
    pub data: DataSpec,
    #[serde(default)]
    pub features: FeatureSpec,
    #[serde(default)]
    pub learner: LearnerSpec,
    #[serde(default, skip_serializing_if = "TuningSpec::is_default")]
    pub tuning: TuningSpec,
    #[serde(default)]
    pub split: SplitSpec,
    #[serde(default)]
    pub objective: ObjectiveSpec,
    #[serde(default)]
    pub monitors: MonitorSpec,
    #[serde(default)]
    pub retraining: RetrainingSpec,
    #[serde(default)]
    pub release: ReleaseSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Binary,
    Regression,
    /// One of the classes that the declaration lists.
    Multiclass,
}

/// Classes of a multiclass target at most: a judgement; beyond it another kind of model is wanted.
pub const CLASSES_MAX: usize = 256;

impl Task {
    pub fn name(self) -> &'static str {
        match self {
            Task::Binary => "binary",
            Task::Regression => "regression",
            Task::Multiclass => "multiclass",
        }
    }
}

/// Where rows come from: one file, or a query over several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// A table (Parquet, CSV, JSON or Arrow), relative to the project's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A file with one SQL query, relative to the project's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The tables that the query reads: name to file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, String>,
    /// Tables whose columns are taken as they were known at each row's time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<JoinSpec>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearnerKind {
    Linear,
    #[default]
    Trees,
    Network,
    /// All are trained; the one with the lowest validation loss is kept.
    Auto,
}

impl LearnerKind {
    pub fn name(self) -> &'static str {
        match self {
            LearnerKind::Linear => "linear",
            LearnerKind::Trees => "trees",
            LearnerKind::Network => "network",
            LearnerKind::Auto => "auto",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LearnerSpec {
    pub kind: LearnerKind,
    pub trees: TreesSpec,
    pub linear: LinearSpec,
    pub network: NetworkSpec,
    /// How much rows of each class count beside each other; for classification.
    #[serde(skip_serializing_if = "ClassWeights::is_none")]
    pub class_weights: ClassWeights,
    /// Rows this old weigh half of the newest; needs a time column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_life: Option<Span>,
}

/// In `models/NAME.toml`: `class_weights = "balanced"`, or `[learner.class_weights]` with a weight by class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "ClassWeightsForm", into = "ClassWeightsForm")]
pub enum ClassWeights {
    #[default]
    None,
    /// Each class counts as much as any other: rows / (classes * rows of the class).
    Balanced,
    /// By the class's name; a binary target's are "0" and "1". Classes that are not named weigh 1.
    By(BTreeMap<String, f64>),
}

impl ClassWeights {
    pub fn is_none(&self) -> bool {
        *self == ClassWeights::None
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ClassWeightsForm {
    Word(ClassWeightsWord),
    By(BTreeMap<String, f64>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ClassWeightsWord {
    None,
    Balanced,
}

impl From<ClassWeightsForm> for ClassWeights {
    fn from(form: ClassWeightsForm) -> Self {
        match form {
            ClassWeightsForm::Word(ClassWeightsWord::None) => ClassWeights::None,
            ClassWeightsForm::Word(ClassWeightsWord::Balanced) => ClassWeights::Balanced,
            ClassWeightsForm::By(weights) => ClassWeights::By(weights),
        }
    }
}

impl From<ClassWeights> for ClassWeightsForm {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::None => ClassWeightsForm::Word(ClassWeightsWord::None),
            ClassWeights::Balanced => ClassWeightsForm::Word(ClassWeightsWord::Balanced),
            ClassWeights::By(weights) => ClassWeightsForm::By(weights),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TreesSpec {
    /// Boosting rounds at most; early stopping may keep fewer.
    pub rounds: u32,
    pub learning_rate: f64,
    /// Leaves of one tree at most.
    pub leaves: u32,
    /// Rows that a leaf must hold at least.
    pub min_rows: u32,
    /// Splits on the way to a leaf at most; 0 means no limit.
    pub depth: u32,
    /// Share of columns that each tree sees.
    pub column_share: f64,
    /// Share of those columns that each split sees.
    pub node_column_share: f64,
    /// Share of rows that each tree sees.
    pub row_share: f64,
    pub row_sampling: RowSampling,
    pub l1: f64,
    pub l2: f64,
    /// Fall of the loss below which a leaf is not split.
    pub min_gain: f64,
    /// Draws a leaf towards its parent as strongly as this many rows of the leaf draw it to their own value; 0 means not.
    pub smoothing: f64,
    /// Intervals into which a column's values are sorted at most.
    pub max_bins: u32,
    /// By name of a column: 1 where the answer may only rise with it, -1 where it may only fall. Not for several classes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub monotone: BTreeMap<String, i8>,
    /// Rounds without improvement on the validation rows after which boosting stops; 0 means never.
    pub patience: u32,
}

/// Which rows a tree sees where `row_share` is below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowSampling {
    #[default]
    Uniform,
    /// Rows with large gradients are more likely, and all are reweighted (minimal-variance sampling, Ibragimov and Gusev,
    /// NeurIPS 2019).
    Gradient,
}

impl Default for TreesSpec {
    fn default() -> Self {
        TreesSpec {
            rounds: 600,
            learning_rate: 0.06,
            leaves: 31,
            min_rows: 15,
            depth: 0,
            column_share: 0.8,
            node_column_share: 1.0,
            row_share: 1.0,
            row_sampling: RowSampling::Uniform,
            l1: 0.0,
            l2: 0.5,
            min_gain: 0.0,
            smoothing: 0.0,
            max_bins: 256,
            monotone: BTreeMap::new(),
            patience: 30,
        }
    }
}

/// Weights of dense columns and of hashed slots, learned in mini-batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearSpec {
    pub method: LinearMethod,
    /// How fast weights change.
    pub alpha: f64,
    /// Slows the first steps.
    pub beta: f64,
    /// Penalty on each weight's magnitude beside the sum of the rows' losses; weights below it are zero.
    pub l1: f64,
    /// Penalty on half of each weight's square.
    pub l2: f64,
    /// Passes over the rows at most; early stopping may keep fewer.
    pub epochs: u32,
    /// Weights are kept in a table of `1 << table_bits`.
    pub table_bits: u8,
    /// Rows that see the same weights: a step of learning. 0 chooses by the number of rows: a thousandth of them, 256 at
    /// least and 4096 at most.
    pub batch_rows: u32,
    /// Whether a version holds the learner's state beside the weights, so that it goes on learning where it ended. Twice
    /// to four times the bytes.
    pub keep_state: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearMethod {
    /// FTRL-proximal (McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013, algorithm 1).
    #[default]
    Ftrl,
    /// Diagonal AdaGrad with composite mirror descent (Duchi et al., JMLR 2011).
    Adagrad,
}

impl Default for LinearSpec {
    fn default() -> Self {
        LinearSpec {
            method: LinearMethod::Ftrl,
            alpha: 0.05,
            beta: 1.0,
            l1: 0.5,
            l2: 1.0,
            epochs: 8,
            table_bits: 18,
            batch_rows: 0,
            keep_state: false,
        }
    }
}

/// Which part of the rows is for what. By time where there is a time column: the newest are the test, those before them
/// the validation. Without one, by the order of the rows in the data unless `shuffle` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SplitSpec {
    pub test: f64,
    pub validation: f64,
    /// For data without an order: rows are assigned by a hash of their place and the seed.
    pub shuffle: bool,
    /// After evaluation the model is fitted again on all rows, with the number of rounds that was found; the metrics stay
    /// those of the model that had not seen the test rows.
    pub refit: bool,
}

impl Default for SplitSpec {
    fn default() -> Self {
        SplitSpec { test: 0.2, validation: 0.15, shuffle: false, refit: true }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorSpec {
    /// Chance that any monitor of this model ever raises a false alarm, over all features and for all time.
    pub false_alarms: f64,
    /// How far (largest difference of distribution functions) an input may leave its reference.
    pub drift_tolerance: f64,
    /// How far mean outcome and mean prediction may differ.
    pub calibration_tolerance: f64,
    /// How much the mean loss (Brier score, or scaled absolute error) may exceed its reference.
    pub loss_tolerance: f64,
}

impl Default for MonitorSpec {
    fn default() -> Self {
        MonitorSpec { false_alarms: 0.05, drift_tolerance: 0.10, calibration_tolerance: 0.03, loss_tolerance: 0.01 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrainingSpec {
    /// Retrain when this much time has passed since the last training, if there are new outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// Retrain on an alarm, but not within this time of the last training.
    pub cool_down: Span,
    /// Whether alarms ask for a retraining.
    pub on_alarm: bool,
    /// New outcomes that a retraining needs at least.
    pub min_outcomes: u64,
    /// Only rows of the last this-much time are learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// A version that the loop makes answers with the mean of this many retrainings: its own and the ones before it, as
    /// far as the model's declaration and contract are still the same. Steadier than each alone, at as many times the
    /// cost of an answer; training costs no more.
    pub average: u32,
    /// What asks for a retraining.
    #[serde(skip_serializing_if = "RetrainingPolicy::is_default")]
    pub policy: RetrainingPolicy,
    /// With policy "value": how far ahead a retraining's gain is counted.
    #[serde(skip_serializing_if = "is_month")]
    pub horizon: Span,
    /// Share of refused rows above which incoming data is too bad to learn from; nothing is learned until it has healed.
    #[serde(skip_serializing_if = "is_tenth")]
    pub bad_rows_max: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetrainingPolicy {
    /// `every`, and alarms where `on_alarm` is set.
    #[default]
    Schedule,
    /// Whenever it is expected to save more over the horizon than it costs; needs `[objective] error_price`.
    Value,
}

impl RetrainingPolicy {
    pub fn is_default(&self) -> bool {
        *self == RetrainingPolicy::default()
    }
}

const MONTH: Span = Span::days(30);
const TENTH: f64 = 0.1;

fn is_month(span: &Span) -> bool {
    *span == MONTH
}

fn is_tenth(share: &f64) -> bool {
    *share == TENTH
}

/// Retrainings that can be averaged at most.
pub const AVERAGE_MAX: u32 = 16;

impl Default for RetrainingSpec {
    fn default() -> Self {
        RetrainingSpec {
            every: None,
            cool_down: Span::days(7),
            on_alarm: true,
            min_outcomes: 1000,
            window: None,
            average: 1,
            policy: RetrainingPolicy::Schedule,
            horizon: MONTH,
            bad_rows_max: TENTH,
        }
    }
}

/// The release gate: a paired test on the same rows that may be looked at any time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseSpec {
    /// Whether the loop may promote by itself.
    pub automatic: bool,
    /// Chance that a trial ever certifies a newcomer that is worse by more than the tolerance.
    pub alpha: f64,
    /// Rows with outcomes are summed in blocks of this length before they are compared: rows of one storm are not
    /// independent.
    pub block: Span,
    /// Time in shadow at least.
    pub min_shadow: Span,
    /// Rows with outcomes at least.
    pub min_rows: u64,
    /// A newcomer must be certified not to lose more than the live version by this much a row …
    pub tolerance: f64,
    /// … and to lose less by this much on the rows seen, to be worth the change.
    pub min_gain: f64,
    /// Share of requests that a canary answers.
    pub canary: Share,
    /// Time in canary at least; zero goes from shadow straight to live.
    pub min_canary: Span,
    /// A trial without a verdict after this time is ended.
    pub horizon: Span,
    /// How much more of a canary's answers than of the live version's may be slower than `[objective] latency_ms` …
    #[serde(skip_serializing_if = "is_guard_slow")]
    pub guard_slow: f64,
    /// … and how much more may fail, before the canary is certified as harmful and withdrawn.
    #[serde(skip_serializing_if = "is_guard_failed")]
    pub guard_failed: f64,
}

const GUARD_SLOW: f64 = 0.05;
const GUARD_FAILED: f64 = 0.01;

fn is_guard_slow(share: &f64) -> bool {
    *share == GUARD_SLOW
}

fn is_guard_failed(share: &f64) -> bool {
    *share == GUARD_FAILED
}

impl Default for ReleaseSpec {
    fn default() -> Self {
        ReleaseSpec {
            automatic: true,
            alpha: 0.05,
            block: Span::hours(24),
            min_shadow: Span::days(2),
            min_rows: 1000,
            tolerance: 0.002,
            min_gain: 0.003,
            canary: Share::from_bp(1000),
            min_canary: Span::days(1),
            horizon: Span::days(30),
            guard_slow: GUARD_SLOW,
            guard_failed: GUARD_FAILED,
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("model \"{model}\": {what}")]
pub struct ModelSpecError {
    pub model: String,
    pub what: String,
}

impl ModelSpec {
    /// The columns that never are inputs: target, time, key and the time of the outcome.
    pub fn reserved_columns(&self) -> impl Iterator<Item = &str> {
        [Some(&self.target), self.time.as_ref(), self.key.as_ref(), self.outcome_at.as_ref(), self.weight.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// The names of the classes in the order of their probabilities: "0" and "1" for a binary target, none for a
    /// regression.
    pub fn class_names(&self) -> Vec<String> {
        match self.task {
            Task::Regression => Vec::new(),
            Task::Binary => vec!["0".to_owned(), "1".to_owned()],
            Task::Multiclass => self.classes.iter().map(Scalar::text).collect(),
        }
    }

    /// Numbers that a model of this declaration gives a row: one, or the probability of each class.
    pub fn outputs(&self) -> usize {
        if self.task == Task::Multiclass { self.classes.len() } else { 1 }
    }

    /// Checks the declaration against itself and its contract; every problem found is returned.
    pub fn problems(&self, contract: &crate::Contract) -> Vec<ModelSpecError> {
        let mut found = Vec::new();
        let mut say = |what: String| found.push(ModelSpecError { model: self.name.clone(), what });
        let mut column = |role: &str, name: &str| {
            if contract.column(name).is_none() {
                let hint = crate::suggest::hint(name, contract.column_names());
                say(format!(
                    "{role} names column \"{name}\", which contract \"{}\" does not declare{hint}",
                    contract.name
                ));
            }
        };
        column("target", &self.target);
        for (role, name) in
            [("time", &self.time), ("key", &self.key), ("outcome_at", &self.outcome_at), ("weight", &self.weight)]
        {
            if let Some(name) = name {
                column(role, name);
            }
        }
        let derived: Vec<&str> = self.features.derived_names().collect();
        let of_windows: Vec<String> = self.window_columns().collect();
        for (role, name) in self.features.named_columns() {
            if !derived.contains(&name) && !of_windows.iter().any(|column| column == name) {
                column(role, name);
            }
        }
        for name in derived.iter().filter(|name| contract.column(name).is_some()) {
            say(format!("features make a column \"{name}\", which the contract declares too; give it another name"));
        }
        self.features.problems().into_iter().for_each(&mut say);
        match (self.task, self.classes.len()) {
            (Task::Multiclass, 2..=CLASSES_MAX) => {
                let mut names = self.class_names();
                names.sort_unstable();
                if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                    say(format!("classes names \"{}\" twice", twice[0]));
                }
            }
            (Task::Multiclass, count) => say(format!(
                "task = \"multiclass\" needs classes = [...], 2 to {CLASSES_MAX} of them; there are {count}"
            )),
            (_, 0) => {}
            (task, _) => say(format!("classes is for task = \"multiclass\", not \"{}\"", task.name())),
        }
        if let ClassWeights::By(weights) = &self.learner.class_weights {
            let known = self.class_names();
            for (class, weight) in weights {
                if !known.contains(class) {
                    let hint = crate::suggest::hint(class, known.iter().map(String::as_str));
                    say(format!("learner.class_weights names \"{class}\", which is no class{hint}"));
                }
                if !(weight.is_finite() && *weight > 0.0) {
                    say(format!("learner.class_weights: {weight} of \"{class}\" is not above zero"));
                }
            }
        }
        if !self.learner.class_weights.is_none() && self.task == Task::Regression {
            say("learner.class_weights is for classification".to_owned());
        }
        for (column, direction) in &self.learner.trees.monotone {
            if ![1, -1].contains(direction) {
                say(format!("learner.trees.monotone: {direction} of \"{column}\" is neither 1 nor -1"));
            }
        }
        if !self.learner.trees.monotone.is_empty() && self.task == Task::Multiclass {
            say("learner.trees.monotone is not for task = \"multiclass\": a class's probability depends on all classes' trees".to_owned());
        }
        if self.data.file.is_some() == self.data.sql.is_some() {
            say("data needs either file or sql".to_owned());
        }
        if self.data.sql.is_none() && !self.data.tables.is_empty() {
            say("data.tables is for data.sql".to_owned());
        }
        for (place, join) in self.data.joins.iter().enumerate() {
            join.problems(contract, self.time.as_ref(), &mut say);
            if self.data.joins[..place].iter().any(|earlier| earlier.name == join.name) {
                say(format!("data.joins \"{}\" is declared twice; give each its own name", join.name));
            }
        }
        self.tuning.problems(self.task).into_iter().for_each(&mut say);
        self.objective.problems(self.task).into_iter().for_each(&mut say);
        if self.retraining.policy == RetrainingPolicy::Value && self.objective.error_price.is_none() {
            say("retraining.policy = \"value\" needs objective.error_price: what a wrong answer costs".to_owned());
        }
        for (name, value, low, high) in [
            ("split.test", self.split.test, 0.0, 0.9),
            ("split.validation", self.split.validation, 0.01, 0.9),
            ("split.test + split.validation", self.split.test + self.split.validation, 0.0, 0.95),
            ("monitors.false_alarms", self.monitors.false_alarms, 1e-6, 0.5),
            ("monitors.drift_tolerance", self.monitors.drift_tolerance, 0.0, 1.0),
            ("retraining.average", f64::from(self.retraining.average), 1.0, f64::from(AVERAGE_MAX)),
            ("retraining.bad_rows_max", self.retraining.bad_rows_max, 0.0, 1.0),
            ("release.guard_slow", self.release.guard_slow, 0.0, 1.0),
            ("release.guard_failed", self.release.guard_failed, 0.0, 1.0),
            ("release.alpha", self.release.alpha, 1e-6, 0.4),
            ("release.tolerance", self.release.tolerance, 0.0, f64::MAX),
            ("learner.trees.learning_rate", self.learner.trees.learning_rate, 1e-4, 1.0),
            ("learner.trees.column_share", self.learner.trees.column_share, 0.01, 1.0),
            ("learner.trees.row_share", self.learner.trees.row_share, 0.01, 1.0),
            ("learner.trees.node_column_share", self.learner.trees.node_column_share, 0.01, 1.0),
            ("learner.trees.leaves", f64::from(self.learner.trees.leaves), 2.0, 65_536.0),
            ("learner.trees.depth", f64::from(self.learner.trees.depth), 0.0, 512.0),
            ("learner.trees.l1", self.learner.trees.l1, 0.0, 1e9),
            ("learner.trees.l2", self.learner.trees.l2, 0.0, 1e9),
            ("learner.trees.min_gain", self.learner.trees.min_gain, 0.0, 1e9),
            ("learner.trees.smoothing", self.learner.trees.smoothing, 0.0, 1e9),
            ("learner.trees.max_bins", f64::from(self.learner.trees.max_bins), 2.0, 65_536.0),
            ("features.vocabulary.min_rows", f64::from(self.features.vocabulary.min_rows), 1.0, f64::from(u32::MAX)),
            ("features.vocabulary.rows", f64::from(self.features.vocabulary.rows), 1.0, 100e6),
            (
                "features.reduce.components",
                self.features.reduce.as_ref().map_or(1.0, |reduce| f64::from(reduce.components)),
                1.0,
                4096.0,
            ),
            ("learner.linear.table_bits", f64::from(self.learner.linear.table_bits), 8.0, 28.0),
            ("learner.linear.batch_rows", f64::from(self.learner.linear.batch_rows), 0.0, 65_536.0),
            ("learner.linear.alpha", self.learner.linear.alpha, 1e-6, 100.0),
            ("learner.linear.beta", self.learner.linear.beta, 1e-6, 1e6),
            ("learner.linear.l1", self.learner.linear.l1, 0.0, 1e9),
            ("learner.linear.l2", self.learner.linear.l2, 0.0, 1e9),
        ]
        .into_iter()
        .chain(self.learner.network.ranges())
        {
            if !(low..=high).contains(&value) {
                say(format!("{name} = {value} is outside {low} to {high}"));
            }
        }
        found
    }
}
