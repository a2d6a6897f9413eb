//! A streamed fit under way: which pass of which part it is in, and what it must remember to go on after a stop.

use super::chunks::{CHUNK_ROWS, Selection, each_chunk};
use super::survey::Part;
use super::{Job, watch};
use crate::error::LearnError;
use crate::fit::{Phase, Stopping, loss};
use crate::linear::{DIVERGED, Learner, PATIENCE, Reader, Rows, shuffled};
use inference::{LinearModel, Model};
use std::ops::Range;

/// What is being learned, from which parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Train rows, with early stopping.
    Fit = 0,
    /// Train and validation rows, from the beginning.
    Refit = 1,
    /// All rows, from the beginning.
    RefitAll = 2,
}

impl Stage {
    fn parts(self) -> &'static [Part] {
        &[Part::Train, Part::Validation, Part::Test][..=self as usize]
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
    /// What each lane of the present pass has still to read; none at its start.
    rest: Option<Vec<Range<u64>>>,
    /// Of the validation rows' sample.
    pub best: Stopping,
    least: f64,
    /// In the first stage, the learner as it was at its best. After that, as it is to be measured.
    kept: Vec<u8>,
}

impl Course {
    /// At the start, or where a run that was cut off kept its state last.
    pub fn begin(job: &Job<'_>) -> Result<Course, LearnError> {
        let new = || Course {
            learner: job.learner(Stage::Fit.parts()),
            stage: Stage::Fit,
            passes: 0,
            chunks: 0,
            rest: None,
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

    /// Passes over the train rows until the loss on the validation rows stops falling.
    pub fn fit(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        let epochs = job.request.spec.learner.linear.epochs.max(1);
        let mut scores = Vec::new();
        while self.stage == Stage::Fit && self.passes < epochs && self.passes - self.best.rounds < PATIENCE {
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
        if self.best.rounds == 0 { Err(DIVERGED) } else { Ok(()) }
    }

    /// The same number of epochs on train and validation rows. Beyond [`REFIT_ROWS_MAX`] rows the learner is taken as it
    /// was at its best, unless no test rows wait.
    pub fn refit(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        if self.stage == Stage::Fit && job.refits() {
            self.enter(job, Stage::Refit);
        }
        if self.stage == Stage::Refit {
            self.all_passes(job)?;
            self.kept = self.learner.state();
        }
        Ok(())
    }

    /// The same number of epochs on all rows.
    pub fn refit_all(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        if self.stage != Stage::RefitAll {
            self.enter(job, Stage::RefitAll);
        }
        self.all_passes(job)?;
        self.kept = self.learner.state();
        Ok(())
    }

    /// The model of the last stage that is over. While that on all rows is under way, it is the one before.
    pub fn model(&self, job: &Job<'_>) -> Result<LinearModel, LearnError> {
        let mut learner = job.learner(self.stage.parts());
        learner.restore(&mut Reader(&self.kept)).ok_or(DIVERGED)?;
        let model = learner.model(job.pipeline.layout())?;
        let keep = job.request.spec.learner.linear.keep_state;
        Ok(if keep { model.with_learner_state(self.kept.clone()) } else { model })
    }

    fn enter(&mut self, job: &Job<'_>, stage: Stage) {
        self.learner = job.learner(stage.parts());
        (self.stage, self.passes, self.chunks, self.rest) = (stage, 0, 0, None);
    }

    fn all_passes(&mut self, job: &Job<'_>) -> Result<(), LearnError> {
        while self.passes < self.best.rounds {
            self.pass(job, self.best.rounds)?;
        }
        Ok(())
    }

    fn chunks_of(&self, job: &Job<'_>) -> u64 {
        job.rows(self.stage.parts()).div_ceil(CHUNK_ROWS as u64)
    }

    /// The rest of a pass.
    fn pass(&mut self, job: &Job<'_>, passes: u32) -> Result<(), LearnError> {
        let (parts, chunks) = (self.stage.parts(), self.chunks_of(job));
        let wanted = |row| job.count.within(parts, row);
        let lanes = self.rest.take().unwrap_or_else(|| job.lanes(parts));
        let selection = Selection { lanes, wanted: &wanted };
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
            self.rest = Some(chunk.next);
            let done = u64::from(self.passes) * chunks + self.chunks;
            progress.step(done, u64::from(passes) * chunks, None);
            kept.keep(&|| self.state())
        })?;
        self.passes += 1;
        (self.chunks, self.rest) = (0, None);
        Ok(())
    }

    fn state(&self) -> Vec<u8> {
        let mut bytes = vec![self.stage as u8, u8::from(self.rest.is_some())];
        bytes.extend(self.passes.to_le_bytes());
        let (best, rest) = (self.best.to_bytes(), self.rest.as_deref().unwrap_or_default());
        let lengths = [best.len() as u64, self.kept.len() as u64, rest.len() as u64];
        for part in [self.chunks, self.least.to_bits()].into_iter().chain(lengths) {
            bytes.extend(part.to_le_bytes());
        }
        for lane in rest {
            bytes.extend(lane.start.to_le_bytes());
            bytes.extend(lane.end.to_le_bytes());
        }
        bytes.extend(best);
        bytes.extend(&self.kept);
        bytes.extend(self.learner.state());
        bytes
    }

    fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let mut reader = Reader(bytes);
        let [stage, under_way] = reader.take()?;
        self.stage = *[Stage::Fit, Stage::Refit, Stage::RefitAll].get(usize::from(stage))?;
        self.passes = reader.u32()?;
        self.chunks = reader.u64()?;
        self.least = reader.f64()?;
        let (best, kept, lanes) = (reader.u64()? as usize, reader.u64()? as usize, reader.u64()?);
        let rest = (0..lanes).map(|_| Some(reader.u64()?..reader.u64()?)).collect::<Option<Vec<_>>>()?;
        self.rest = (under_way == 1).then_some(rest);
        let (best, rest) = reader.0.split_at_checked(best)?;
        let (kept, rest) = rest.split_at_checked(kept)?;
        self.best = Stopping::from_bytes(best)?;
        self.kept = kept.to_vec();
        self.learner.restore(&mut Reader(rest))
    }
}
