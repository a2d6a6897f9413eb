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
    #[error("model \"{model}\": column \"{column}\" gives the weights, but holds {value} in row {row}; numbers above or at zero are expected, of which some are above it")]
    Weight { model: String, column: String, value: f64, row: usize },
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
