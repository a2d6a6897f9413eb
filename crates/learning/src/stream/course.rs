//! A streamed fit under way: which pass of which part it is in, and what it must remember to go on after a stop.

use super::chunks::{CHUNK_ROWS, each_chunk};
use super::reading::Cursor;
use super::survey::Part;
use super::{Job, watch};
use crate::error::LearnError;
use crate::fit::{Phase, Stopping, loss};
use crate::linear::{DIVERGED, Learner, PATIENCE, Reader, Rows, shuffled};
use inference::{LinearModel, Model};

/// What is being learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Train = 0,
    Validation = 1,
    Test = 2,
}

impl Stage {
    fn part(self) -> Part {
        [Part::Train, Part::Validation, Part::Test][self as usize]
    }

    fn phase(self) -> Phase {
        [Phase::Fit, Phase::Refit, Phase::RefitAll][self as usize]
    }
}

pub(super) struct Course {
    learner: Learner,
    stage: Stage,
    /// Passes of the stage that are done.
    passes: u32,
    /// Chunks done of the present pass.
    chunks: u64,
    /// Where the present pass goes on; none at its start.
    at: Option<Cursor>,
    /// Of the validation rows' sample.
    pub best: Stopping,
    least: f64,
    /// While train rows are learned: the learner as it was at its best. After that: as it is to be measured.
    kept: Vec<u8>,
}

impl Course {
    /// At the start, or where a run that was cut off kept its state last.
    pub fn begin(job: &Job<'_>) -> Result<Course, LearnError> {
        let new = || Course {
            learner: job.learner(),
            stage: Stage::Train,
            passes: 0,
            chunks: 0,
            at: None,
            best: Stopping { rounds: 0, scores: Vec::new(), notes: Vec::new() },
            least: f64::INFINITY,
            kept: Vec::new(),
        };
        let mut course = new();
        if let Some(kept) = watch(job.request, Phase::Fit).resume()
            && course.restore(&kept).is_none()
        {
            course = new();
        }
        Ok(course)
    }

    /// Passes over the train rows until the loss on the validation rows stops falling; the learner is then as it was at
    /// its best.
    pub fn fit(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        let epochs = job.request.spec.learner.linear.epochs.max(1);
        let mut scores = Vec::new();
        while self.stage == Stage::Train && self.passes < epochs && self.passes - self.best.rounds < PATIENCE {
            self.pass(job, epochs)?;
            self.learner.model(job.pipeline.layout())?.predict(&job.validation, &mut scores)?;
            let now = loss(job.goal.task, &scores, &job.survey.validation.target);
            if now < self.least {
                self.least = now;
                self.best = Stopping { rounds: self.passes, scores: scores.clone(), notes: Vec::new() };
                self.kept = self.learner.state();
            }
            let chunks = self.chunks_of(job);
            watch(job.request, Phase::Fit).step(u64::from(self.passes) * chunks, u64::from(epochs) * chunks, Some(now));
        }
        if self.stage == Stage::Train {
            if self.best.rounds == 0 || self.learner.restore(&mut Reader(&self.kept)).is_none() {
                return Err(DIVERGED);
            }
            self.enter(Stage::Validation);
        }
        Ok(())
    }

    /// As many passes over the validation rows as epochs were kept.
    pub fn go_on_with_validation(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        if self.stage == Stage::Validation {
            self.all_passes(job)?;
            self.kept = self.learner.state();
            self.enter(Stage::Test);
        }
        Ok(())
    }

    pub fn go_on_with_test(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        self.all_passes(job)
    }

    /// The model that the test rows judge: it has not learned from them.
    pub fn measured(&self, job: &Job<'_>) -> Result<LinearModel, LearnError> {
        let mut learner = job.learner();
        learner.restore(&mut Reader(&self.kept)).ok_or(DIVERGED)?;
        learner.model(job.pipeline.layout())
    }

    pub fn model(&self, job: &Job<'_>) -> Result<LinearModel, LearnError> {
        let model = self.learner.model(job.pipeline.layout())?;
        let keep = job.request.spec.learner.linear.keep_state;
        Ok(if keep { model.with_learner_state(self.learner.state()) } else { model })
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.passes, self.chunks, self.at) = (stage, 0, 0, None);
    }

    fn all_passes(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        while self.passes < self.best.rounds {
            self.pass(job, self.best.rounds)?;
        }
        Ok(())
    }

    fn chunks_of(&self, job: &Job<'_>) -> u64 {
        job.count.of(self.stage.part()).div_ceil(CHUNK_ROWS as u64)
    }

    /// The rest of a pass.
    fn pass(&mut self, job: &Job<'_>, passes: u32) -> Result<(), LearnError> {
        let (part, chunks) = (self.stage.part(), self.chunks_of(job));
        let wanted = |at| job.count.part(at) == part;
        let mut selection = job.selection(part, &wanted);
        selection.from = self.at.unwrap_or(selection.from);
        let (progress, kept) = (watch(job.request, self.stage.phase()), watch(job.request, Phase::Fit));
        // One thread learns while the others transform: it is some ten times faster than one of them.
        let threads = rayon::current_num_threads().div_ceil(8);
        each_chunk(job.request, &selection, &job.pipeline, &job.survey.weigher, &mut |chunk| {
            let step = (self.stage as u64) << 56 | u64::from(self.passes) << 32 | self.chunks;
            let order = shuffled(chunk.target.len(), job.request.seed, step);
            let outcome = self.learner.scale().outcome(&chunk.target);
            let rows = Rows { inputs: &chunk.inputs, outcome: &outcome, weights: chunk.weights.as_deref() };
            self.learner.learn(rows, &order, 0, threads, &mut |_| Ok(()))?;
            self.chunks += 1;
            self.at = Some(chunk.next);
            let done = u64::from(self.passes) * chunks + self.chunks;
            progress.step(done, u64::from(passes) * chunks, None);
            kept.keep(&|| self.state())
        })?;
        self.passes += 1;
        (self.chunks, self.at) = (0, None);
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        let mut bytes = vec![self.stage as u8, u8::from(self.at.is_some())];
        bytes.extend(self.passes.to_le_bytes());
        let at = self.at.unwrap_or_default();
        let best = self.best.to_bytes();
        for part in [self.chunks, at.row, at.rank, self.least.to_bits(), best.len() as u64, self.kept.len() as u64] {
            bytes.extend(part.to_le_bytes());
        }
        bytes.extend(best);
        bytes.extend(&self.kept);
        bytes.extend(self.learner.state());
        bytes
    }

    fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let mut reader = Reader(bytes);
        let [stage, placed] = reader.take()?;
        self.stage = *[Stage::Train, Stage::Validation, Stage::Test].get(usize::from(stage))?;
        self.passes = reader.u32()?;
        self.chunks = reader.u64()?;
        let at = Cursor { row: reader.u64()?, rank: reader.u64()? };
        self.at = (placed == 1).then_some(at);
        self.least = reader.f64()?;
        let (best, kept) = (reader.u64()? as usize, reader.u64()? as usize);
        let (best, rest) = reader.0.split_at_checked(best)?;
        let (kept, rest) = rest.split_at_checked(kept)?;
        self.best = Stopping::from_bytes(best)?;
        self.kept = kept.to_vec();
        self.learner.restore(&mut Reader(rest))
    }
}
