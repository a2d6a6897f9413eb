//! Why no version could be made.

use features::FeatureError;
use inference::{BundleError, ModelError};

#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    #[error(
        "model \"{model}\": {rows} rows have an outcome, {needed} are needed at least; widen the time range or add data"
    )]
    TooFewRows { model: String, rows: usize, needed: usize },
    #[error(
        "model \"{model}\": target \"{target}\" is null in all {rows} rows; check the data's query, or wait for outcomes"
    )]
    NoOutcome { model: String, target: String, rows: usize },
    #[error(
        "model \"{model}\": target \"{target}\" has the one value {value} in all rows of the {part} part; there is nothing to learn, widen the time range or check target and positive"
    )]
    OneValue { model: String, target: String, value: f64, part: &'static str },
    #[error(
        "model \"{model}\": target \"{target}\" is {value} in row {row}; a finite number{also} is expected, correct the data or let the contract make it null"
    )]
    Target { model: String, target: String, value: f64, row: usize, also: &'static str },
    #[error("model \"{model}\": learner.half_life needs a time column; declare time, or leave half_life out")]
    HalfLife { model: String },
    #[error(
        "model \"{model}\": features.target_statistics and features.recency need the rows in one piece, since each row sees those before it; \
         leave them out, or raise [engine] load_bytes_max"
    )]
    StreamedStatistics { model: String },
    #[error(
        "model \"{model}\": column \"{column}\" gives the time, but row {row} of the data has none or is older than the row before it; sort the rows by time"
    )]
    Time { model: String, column: String, row: usize },
    #[error(
        "column \"{column}\" has type {found}, which is not canonical; pass the rows through features::canonical first"
    )]
    NotCanonical { column: String, found: String },
    #[error("the learner left finite numbers; lower {parameter}")]
    Diverged { parameter: &'static str },
    #[error("the run was asked to stop; its state is kept, go on with --resume")]
    Stopped,
    #[error("the run's state cannot be kept or read at {}", path.display())]
    Checkpoint { path: std::path::PathBuf, source: std::io::Error },
    #[error("the run's state was kept by another training (other data, declaration or seed); begin a new run")]
    OtherRun,
    #[error(
        "model \"{model}\": column \"{column}\" gives the weights, but holds {value} in row {row}; numbers above or at zero are expected, of which some are above it"
    )]
    Weight { model: String, column: String, value: f64, row: usize },
    #[error(
        "this version of model \"{model}\" was itself made smaller ({steps}); name the version that it was made from"
    )]
    Compressed { model: String, steps: String },
    #[error("model \"{model}\": there is no column \"{column}\" to slice by")]
    Slice { model: String, column: String },
    #[error("the version cannot be opened")]
    Load(#[from] inference::LoadError),
    #[error("model \"{model}\": the version cannot go on learning: {what}; train it anew")]
    Continue { model: String, what: String },
    #[error("the rows could not be read from their source")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("learner.trees.monotone names \"{column}\", which {what}")]
    Monotone { column: String, what: String },
    #[error(
        "column \"{column}\" is infinite in row {row} of the rows to learn from; let the contract reject or repair it"
    )]
    Infinite { column: String, row: usize },
    #[error("no round of boosting was asked for; set learner.trees.rounds above 0")]
    Rounds,
    #[error("the version to continue from does not fit: {what}; train a new one")]
    Start { what: String },
    /// Inputs that were not made by a pipeline and cannot be learned from.
    #[error("{0}")]
    Direct(String),
    #[error("the model cannot be made smaller: {what}; give rows from the version's own pipeline")]
    Compress { what: String },
    #[error("a share of {share} of a network cannot be pruned; 0 to 0.99 can")]
    Share { share: f64 },
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error("rows could not be put together")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("the trees could not be trained; check learner.trees")]
    Trees(#[from] hessboost::error::HessboostError),
    #[error("the model could not be made or evaluated")]
    Model(#[from] ModelError),
    #[error("the bundle could not be written")]
    Bundle(#[from] BundleError),
    #[error("no {0} threads could be started; lower the number of threads")]
    Threads(usize, #[source] rayon::ThreadPoolBuildError),
}
