//! A linear model over dense columns and hashed slots, by FTRL-proximal or AdaGrad in mini-batches: several passes over
//! the rows, each in an order that the seed chooses. The same bytes on any number of threads.

mod adopt;
mod cells;
mod float;
mod learner;
mod order;
mod start;
mod state;
mod team;

use crate::error::LearnError;
use crate::fit::{Goal, Sample, Stopping, Watch, loss};
use inference::Model;
use vocabulary::inputs::Layout;
use vocabulary::model::LinearSpec;

pub(crate) use learner::{DIVERGED, Learner, Rows, Scale, check};
pub(crate) use order::shuffled;
pub(crate) use start::Start;
pub(crate) use state::Reader;

/// Epochs without improvement on the validation rows after which learning stops.
pub(crate) const PATIENCE: u32 = 2;

/// Fits for `epochs`, watching no validation rows.
pub(crate) fn fit(
    spec: &LinearSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    epochs: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    fit_from(spec, goal, layout, sample, None, epochs, watch)
}

/// As [`fit`], going on from `start` where there is one.
pub(crate) fn fit_from(
    spec: &LinearSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    start: Option<&Start>,
    epochs: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    let mut course = Course::begin(spec, goal, layout, sample, start, watch)?;
    while course.epoch < epochs {
        course.pass(sample, watch)?;
        watch.step(u64::from(course.epoch), u64::from(epochs), None);
    }
    let model = course.learner.model(layout)?;
    Ok(Box::new(if spec.keep_state { model.with_learner_state(course.learner.state()) } else { model }))
}

/// Fits until the loss on the validation rows stops falling.
pub(crate) fn fit_stopping(
    spec: &LinearSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    validation: &Sample,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    fit_stopping_from(spec, goal, layout, sample, validation, None, watch)
}

/// As [`fit_stopping`], going on from `start` where there is one.
pub(crate) fn fit_stopping_from(
    spec: &LinearSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    validation: &Sample,
    start: Option<&Start>,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    let mut course = Course::begin(spec, goal, layout, sample, start, watch)?;
    let mut scores = Vec::new();
    while course.epoch < spec.epochs.max(1) && !course.is_over() {
        course.pass(sample, watch)?;
        course.learner.model(layout)?.predict(&validation.inputs, &mut scores)?;
        let now = loss(goal.task, &scores, &validation.target);
        course.judge(now, &scores);
        watch.step(u64::from(course.epoch), u64::from(spec.epochs), Some(now));
    }
    if course.best.rounds == 0 { Err(DIVERGED) } else { Ok(course.best) }
}

/// A fit under way.
struct Course {
    learner: Learner,
    outcome: Vec<f32>,
    /// Epochs done.
    epoch: u32,
    /// Mini-batches done of the present one.
    batch: usize,
    best: Stopping,
    least: f64,
}

impl Course {
    /// At the start, or where a run that was cut off kept its state last.
    fn begin(
        spec: &LinearSpec,
        goal: Goal,
        layout: &Layout,
        sample: &Sample,
        start: Option<&Start>,
        watch: &Watch,
    ) -> Result<Course, LearnError> {
        check(&sample.inputs, layout)?;
        let new = || {
            let learner = match start {
                Some(start) => start.learner(spec, goal, layout, sample),
                None => Learner::new(spec, goal, layout, Scale::of(goal.task, &sample.target), sample.inputs.rows),
            };
            let best = Stopping { rounds: 0, scores: Vec::new(), notes: Vec::new() };
            let outcome = learner.scale().outcome(&sample.target);
            Course { learner, outcome, epoch: 0, batch: 0, best, least: f64::INFINITY }
        };
        let mut course = new();
        if let Some(kept) = watch.resume()
            && course.restore(&kept).is_none()
        {
            course = new();
        }
        Ok(course)
    }

    /// The rest of an epoch.
    fn pass(&mut self, sample: &Sample, watch: &Watch) -> Result<(), LearnError> {
        let order = shuffled(sample.inputs.rows, watch.seed, u64::from(self.epoch));
        let rows = Rows { inputs: &sample.inputs, outcome: &self.outcome, weights: sample.weights.as_deref() };
        let threads = rayon::current_num_threads();
        let course = &*self;
        let keep = &mut |batch| watch.keep(&|| course.state(batch));
        self.learner.learn(rows, &order, self.batch, threads, keep)?;
        self.epoch += 1;
        self.batch = 0;
        Ok(())
    }

    fn judge(&mut self, now: f64, scores: &[f64]) {
        if now < self.least {
            self.least = now;
            self.best = Stopping { rounds: self.epoch, scores: scores.to_vec(), notes: Vec::new() };
        }
    }

    fn is_over(&self) -> bool {
        self.epoch - self.best.rounds >= PATIENCE
    }

    fn state(&self, batch: usize) -> Vec<u8> {
        let mut bytes = self.epoch.to_le_bytes().to_vec();
        bytes.extend((batch as u64).to_le_bytes());
        bytes.extend(self.least.to_le_bytes());
        let best = self.best.to_bytes();
        bytes.extend((best.len() as u64).to_le_bytes());
        bytes.extend(best);
        bytes.extend(self.learner.state());
        bytes
    }

    fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let mut reader = Reader(bytes);
        self.epoch = reader.u32()?;
        self.batch = reader.u64()? as usize;
        self.least = reader.f64()?;
        let length = reader.u64()? as usize;
        let (best, rest) = reader.0.split_at_checked(length)?;
        self.best = Stopping::from_bytes(best)?;
        self.learner.restore(&mut Reader(rest))
    }
}

#[cfg(test)]
mod tests;
