//! Tuning: a search for the values of a declaration that give the least loss on the validation rows, by asynchronous
//! successive halving ([`halving`]) with proposals of a tree-structured Parzen estimator ([`proposer`]), decided in
//! logical order ([`logic`]): the same seed gives the same trials and winner with any number of workers, and after a kill.

mod declared;
mod error;
mod halving;
mod journal;
mod logic;
mod model;
mod normal;
mod parzen;
mod plot;
mod proposer;
mod search;
mod space;
#[cfg(test)]
mod tests;
mod trial;

pub use error::TuneError;
pub use journal::trials_so_far;
pub use logic::Settings;
pub use model::{Clocks, TuneRequest, Tuned, run};
pub use plot::plot;
pub use search::{Budget, Call, Ending, Failure, Measured, Money, Objective, Progress, Runtime, Search, Searched};
pub use space::{Condition, Domain, Parameter, Point, Scale, Space};
pub use trial::{Trial, best_of};
