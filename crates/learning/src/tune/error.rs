//! Why a search cannot go on.

use crate::error::LearnError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    #[error("the search's journal cannot be read or written at {}", path.display())]
    Journal { path: PathBuf, source: std::io::Error },
    #[error("the search's journal {} is in use by another process; wait for it, or name another journal", path.display())]
    JournalInUse { path: PathBuf },
    #[error("{} is not a journal of a search; name another file", path.display())]
    NoJournal { path: PathBuf },
    #[error("the journal {} has format {found}, and this program knows {known}; begin a new one", path.display())]
    JournalFormat { path: PathBuf, found: u64, known: u32 },
    #[error(
        "the journal {} is of another search (other {differ}); restore what differs to go on with it, or begin a new one",
        path.display()
    )]
    OtherSearch { path: PathBuf, differ: String },
    #[error("the journal holds another point for trial {trial} than this program proposes; begin a new journal")]
    OtherPoint { trial: u32 },
    #[error("there is nothing to search: {0}")]
    Space(String),
    #[error("tuning.space: \"{key}\" cannot be {value}: {problem}")]
    Key { key: String, value: String, problem: String },
    #[error("none of the {trials} trials gave a loss; the first failed because {reason}")]
    NothingMeasured { trials: usize, reason: String },
    #[error("a trial could not be measured")]
    Objective(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error("no {0} threads could be started; lower the number of threads")]
    Threads(usize, #[source] rayon::ThreadPoolBuildError),
}
