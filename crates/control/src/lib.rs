//! The judgement of the loop: monitors, the release gate, and what follows from them. Pure: no input or output, no
//! clock, no randomness. What happened is handed in, what to do is handed back.
//!
//! The way of a decision: [`MonitorSet`] and [`Trial`] see rows → [`assess`] names what was found → [`decide`] plans →
//! [`lint`] refuses what must not be → [`apply`] gives the next routing. Between [`decide`] and [`lint`] a project's playbooks
//! add their steps: [`playbook::react`].

mod apply;
pub mod confidence;
mod decide;
pub mod delay;
pub mod detector;
pub mod drift;
pub mod drill;
pub mod estimate;
mod finding;
mod gate;
pub mod guard;
pub mod incident;
mod loss;
pub mod measures;
mod monitors;
pub mod objective;
pub mod playbook;
pub mod profile;
pub mod retraining;
pub mod sequential;
pub mod share;
#[cfg(test)]
mod testing;

pub use apply::{ApplyError, apply};
pub use decide::{Jobs, Refusal, World, assess, decide, lint};
pub use drift::{FeatureSummary, InputMonitor, InputOptions, RowView};
pub use finding::finding;
pub use gate::{Evidence, Trial, Verdict, judge};
pub use loss::{CalibrationMonitor, CalibrationSummary, LossMonitor, LossSummary};
pub use monitors::{MonitorSet, MonitorSummary};
