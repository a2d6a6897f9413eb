//! The learner: weights of dense columns, bias and table for each output, and passes of mini-batches over rows.
//!
//! A mini-batch has two phases. First each thread takes some of its rows and writes their gradients, all at the weights
//! of the mini-batch's start. Then each thread takes some of the weights, whatever rows they belong to, adds the
//! gradients up in the rows' order, and settles them. Both are the same numbers on any number of threads.

use super::cells::{Cell, Rule, TableRule, Wide};
use super::float::{logistic, softmax};
use super::team::{Gate, share};
use crate::error::LearnError;
use crate::fit::Goal;
use inference::{LinearModel, LinearParts, Link};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32};
use vocabulary::Inputs;
use vocabulary::inputs::Layout;
use vocabulary::model::{LinearMethod, LinearSpec, Task};

pub(crate) const DIVERGED: LearnError = LearnError::Diverged { parameter: "learner.linear.alpha" };

/// Mini-batches after which all threads meet, so that state can be kept: at most some milliseconds.
const MEET_EVERY: usize = 64;

/// Threads at most: beyond it they wait for each other more than they work.
const MEMBERS_MAX: usize = 16;

/// A thread's work in a mini-batch, in weights touched, below which waiting for others costs more than it saves. At a
/// nanosecond and a half each, 512 take as long as two gates between neighbouring cores.
const MEMBER_WORK_MIN: usize = 512;

/// A regression's target is brought to mean 0 and standard deviation 1, so that the same rates fit any unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub mean: f64,
    pub deviation: f64,
}

impl Scale {
    pub(crate) const NONE: Scale = Scale { mean: 0.0, deviation: 1.0 };

    pub(crate) fn of(task: Task, target: &[f64]) -> Scale {
        if task != Task::Regression {
            return Scale::NONE;
        }
        let count = target.len().max(1) as f64;
        let mean = target.iter().sum::<f64>() / count;
        let variance = target.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / count;
        Scale { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
    }

    /// The target as the learner sees it.
    pub(crate) fn outcome(self, target: &[f64]) -> Vec<f32> {
        target.iter().map(|y| ((y - self.mean) / self.deviation) as f32).collect()
    }
}

/// Rows to learn from.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub inputs: &'a Inputs,
    /// As [`Scale::outcome`] gives it.
    pub outcome: &'a [f32],
    pub weights: Option<&'a [f32]>,
}

pub(crate) struct Learner {
    pub(super) goal: Goal,
    pub(super) scale: Scale,
    pub(super) rule: Rule,
    pub(super) batch_rows: usize,
    /// Columns of a row: dense ones, then the bias. The outputs of a column follow one another.
    pub(super) wide: Vec<Wide>,
    /// The outputs of a place follow one another.
    pub(super) table: Vec<Cell>,
    /// Mini-batches learned.
    pub(super) clock: AtomicU32,
}

/// What the threads of a pass share.
struct Shared<'a> {
    rows: Rows<'a>,
    order: &'a [u32],
    members: usize,
    gate: Gate,
    stop: AtomicBool,
    /// Row-major, of the rows of one mini-batch.
    gradients: Vec<AtomicU32>,
}

/// One thread of a pass, and what it keeps between mini-batches to spare allocations.
struct Member {
    /// Its place among the members.
    place: usize,
    /// Weights of the dense columns and the bias.
    wide: Vec<f32>,
    /// Sums of its rows, then scores.
    scores: Vec<f32>,
    /// Sums of gradients and of their squares over the rows, of its columns.
    gradients: Vec<f32>,
    squares: Vec<f32>,
    /// Places of the table that it has to settle.
    touched: Vec<u32>,
}

impl Learner {
    /// `pass_rows` is how many rows a pass has: what a penalty of AdaGrad is spread over.
    pub(crate) fn new(spec: &LinearSpec, goal: Goal, layout: &Layout, scale: Scale, pass_rows: usize) -> Learner {
        let places = if layout.slots.is_empty() { 0 } else { 1 << layout.table_bits };
        let batch_rows = batch_rows(spec, pass_rows);
        let cells = (layout.dense.len() + 1) * goal.outputs;
        Learner {
            goal,
            scale,
            rule: Rule::new(spec, pass_rows.div_ceil(batch_rows)),
            batch_rows,
            wide: std::iter::repeat_with(Wide::default).take(cells).collect(),
            table: std::iter::repeat_with(Cell::default).take(places * goal.outputs).collect(),
            clock: AtomicU32::new(0),
        }
    }

    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    /// Learns from the rows of `order`, in mini-batches in its order, from that of place `first` on. Every so often
    /// `boundary` is called with the number of mini-batches done; its error ends the pass there. `Inputs` must be of the
    /// layout: see [`check`].
    pub(crate) fn learn(
        &self,
        rows: Rows<'_>,
        order: &[u32],
        first: usize,
        threads: usize,
        boundary: &mut dyn FnMut(usize) -> Result<(), LearnError>,
    ) -> Result<(), LearnError> {
        let width = rows.inputs.slot_width + rows.inputs.dense_width + 1;
        let work = self.batch_rows * width * self.goal.outputs;
        let members = threads.clamp(1, MEMBERS_MAX).min((work / MEMBER_WORK_MIN).max(1));
        let gradients = std::iter::repeat_with(AtomicU32::default).take(self.batch_rows * self.goal.outputs).collect();
        let shared = Shared { rows, order, members, gate: Gate::new(members), stop: AtomicBool::new(false), gradients };
        let clock = self.clock.load(Relaxed).wrapping_sub(first as u32);
        let mut result = Ok(());
        std::thread::scope(|scope| {
            let shared = &shared;
            for place in 1..members {
                scope.spawn(move || self.member(shared, place, first, clock, &mut |_| true));
            }
            self.member(shared, 0, first, clock, &mut |done| {
                self.clock.store(clock.wrapping_add(done as u32), Relaxed);
                result = boundary(done);
                result.is_ok()
            });
        });
        result
    }

    /// What each thread does. All meet at every gate; `meet` tells whether to go on.
    fn member(&self, shared: &Shared<'_>, place: usize, first: usize, clock: u32, meet: &mut dyn FnMut(usize) -> bool) {
        let mut member = Member::new(place, shared, self);
        let mini_batches = shared.order.chunks(self.batch_rows).enumerate();
        let last = shared.order.len().div_ceil(self.batch_rows);
        for (at, order) in mini_batches.skip(first) {
            let done = at + 1;
            self.gradients(shared, &mut member, order);
            shared.gate.wait();
            self.update(shared, &mut member, order, clock.wrapping_add(done as u32));
            shared.gate.wait();
            if done.is_multiple_of(MEET_EVERY) || done == last {
                if !meet(done) {
                    shared.stop.store(true, Relaxed);
                }
                shared.gate.wait();
                if shared.stop.load(Relaxed) {
                    return;
                }
            }
        }
    }

    /// Phase 1: the gradients of this member's rows.
    fn gradients(&self, shared: &Shared<'_>, member: &mut Member, order: &[u32]) {
        let outputs = self.goal.outputs;
        let own = share(order.len(), member.place, shared.members);
        let own_rows = &order[own.clone()];
        member.wide.iter_mut().zip(&self.wide).for_each(|(weight, cell)| *weight = cell.weight());
        self.scores(shared.rows.inputs, &member.wide, own_rows, &mut member.scores);
        let gradients = shared.gradients[own.start * outputs..own.end * outputs].chunks_exact(outputs);
        for ((row, scores), gradients) in own_rows.iter().zip(member.scores.chunks_exact(outputs)).zip(gradients) {
            let row = *row as usize;
            let outcome = shared.rows.outcome[row];
            let weight = shared.rows.weights.map_or(1.0, |weights| weights[row]);
            for (class, (score, gradient)) in scores.iter().zip(gradients).enumerate() {
                gradient.store((weight * (score - self.truth(outcome, class))).to_bits(), Relaxed);
            }
        }
    }

    /// What the score of an output should have been.
    #[inline]
    pub(super) fn truth(&self, outcome: f32, class: usize) -> f32 {
        match self.goal.task {
            Task::Multiclass => f32::from(u8::from(class == outcome as usize)),
            Task::Binary | Task::Regression => outcome,
        }
    }

    /// Replaces the content of `scores` by the scores of some rows, in the learner's own unit. `wide` holds the weights of
    /// the columns.
    pub(super) fn scores(&self, inputs: &Inputs, wide: &[f32], rows: &[u32], scores: &mut Vec<f32>) {
        scores.clear();
        if self.goal.outputs == 1 {
            for row in rows {
                scores.push(self.sum(inputs, wide, *row as usize));
            }
        } else {
            for row in rows {
                self.sums(inputs, wide, *row as usize, scores);
            }
        }
        match self.goal.task {
            Task::Binary => scores.iter_mut().for_each(|sum| *sum = logistic(*sum)),
            Task::Regression => {}
            Task::Multiclass => scores.chunks_exact_mut(self.goal.outputs).for_each(softmax),
        }
    }

    /// A row's sum of weights, of a model with one output.
    #[inline]
    fn sum(&self, inputs: &Inputs, wide: &[f32], row: usize) -> f32 {
        let dense = inputs.dense_row(row);
        let mut sum = wide[dense.len()];
        for (value, weight) in dense.iter().zip(wide) {
            sum += present(*value) * weight;
        }
        for slot in inputs.slot_row(row) {
            sum += self.table[*slot as usize].weight();
        }
        sum
    }

    /// Appends a row's sums of weights, of a model with several outputs.
    fn sums(&self, inputs: &Inputs, wide: &[f32], row: usize, scores: &mut Vec<f32>) {
        let outputs = self.goal.outputs;
        let dense = inputs.dense_row(row);
        let from = scores.len();
        scores.extend_from_slice(&wide[dense.len() * outputs..]);
        let sums = &mut scores[from..];
        for (value, weights) in dense.iter().zip(wide.chunks_exact(outputs)) {
            let value = present(*value);
            sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
        }
        for slot in inputs.slot_row(row) {
            let cells = &self.table[*slot as usize * outputs..][..outputs];
            sums.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell.weight());
        }
    }

    /// Phase 2: the weights that this member owns.
    fn update(&self, shared: &Shared<'_>, member: &mut Member, order: &[u32], clock: u32) {
        let (inputs, outputs) = (shared.rows.inputs, self.goal.outputs);
        let columns = share(inputs.dense_width + 1, member.place, shared.members);
        let dense = columns.start..columns.end.min(inputs.dense_width);
        let bias = columns.end > inputs.dense_width;
        let places = share(self.table.len() / outputs, member.place, shared.members);
        let (first, count) = (places.start as u32, places.len() as u32);
        member.gradients.fill(0.0);
        member.squares.fill(0.0);
        let mut touched = 0;
        for (row, gradients) in order.iter().zip(shared.gradients.chunks_exact(outputs)) {
            let row = *row as usize;
            let values = &inputs.dense_row(row)[dense.clone()];
            if outputs == 1 {
                let gradient = f32::from_bits(gradients[0].load(Relaxed));
                member.add(values, bias, gradient);
                let square = gradient * gradient;
                for slot in inputs.slot_row(row) {
                    if slot.wrapping_sub(first) < count {
                        member.touched[touched] = *slot;
                        touched += self.table[*slot as usize].add(gradient, square);
                    }
                }
            } else {
                member.add_several(values, bias, gradients);
                for slot in inputs.slot_row(row) {
                    if slot.wrapping_sub(first) < count {
                        member.touched[touched] = *slot;
                        let cells = &self.table[*slot as usize * outputs..][..outputs];
                        let mut new = 0;
                        for (cell, gradient) in cells.iter().zip(gradients) {
                            let gradient = f32::from_bits(gradient.load(Relaxed));
                            new = cell.add(gradient, gradient * gradient);
                        }
                        touched += new;
                    }
                }
            }
        }
        self.settle(member, &columns, &member.touched[..touched], clock);
    }

    fn settle(&self, member: &Member, columns: &std::ops::Range<usize>, touched: &[u32], clock: u32) {
        let outputs = self.goal.outputs;
        let totals = member.gradients.iter().zip(&member.squares);
        let cells = self.wide[columns.start * outputs..columns.end * outputs].iter().zip(totals).enumerate();
        for (at, (cell, (gradient, squares))) in cells {
            let bias = columns.start * outputs + at >= self.wide.len() - outputs;
            let rule = if bias { self.rule.free() } else { self.rule };
            cell.settle(&rule, *gradient, *squares);
        }
        let rule = TableRule::new(self.rule);
        for place in touched {
            for cell in &self.table[*place as usize * outputs..][..outputs] {
                match self.rule.method {
                    LinearMethod::Ftrl => cell.settle_ftrl(&rule),
                    LinearMethod::Adagrad => cell.settle_adagrad(&rule, clock),
                }
            }
        }
    }

    /// The weights so far, in the target's own unit.
    pub(crate) fn model(&self, layout: &Layout) -> Result<LinearModel, LearnError> {
        let Scale { mean, deviation } = self.scale;
        let (dense, bias) = self.wide.split_at(self.wide.len() - self.goal.outputs);
        let wide = |cell: &Wide| deviation * f64::from(cell.weight());
        let parts = LinearParts {
            link: Link::of(self.goal.task),
            bias: bias.iter().map(|cell| mean + wide(cell)).collect(),
            dense: dense.iter().map(wide).collect(),
            table: self.table.iter().map(|cell| (deviation * f64::from(cell.weight())) as f32).collect(),
        };
        LinearModel::new(parts, layout.clone()).map_err(|_| DIVERGED)
    }
}

impl Member {
    fn new(place: usize, shared: &Shared<'_>, learner: &Learner) -> Member {
        let width = shared.rows.inputs.slot_width * learner.batch_rows;
        Member {
            place,
            wide: vec![0.0; learner.wide.len()],
            scores: Vec::with_capacity(learner.batch_rows * learner.goal.outputs),
            gradients: vec![0.0; learner.wide.len()],
            squares: vec![0.0; learner.wide.len()],
            // One more: the place after the last is written before it is known whether it counts.
            touched: vec![0; width + 1],
        }
    }

    /// Adds a row's part of the gradient of each column, of a model with one output.
    #[inline]
    fn add(&mut self, values: &[f32], bias: bool, gradient: f32) {
        let totals = self.gradients.iter_mut().zip(&mut self.squares);
        for ((sum, squares), value) in totals.zip(values) {
            let part = present(*value) * gradient;
            *sum += part;
            *squares += part * part;
        }
        if bias {
            self.gradients[values.len()] += gradient;
            self.squares[values.len()] += gradient * gradient;
        }
    }

    fn add_several(&mut self, values: &[f32], bias: bool, gradients: &[AtomicU32]) {
        let totals =
            self.gradients.chunks_exact_mut(gradients.len()).zip(self.squares.chunks_exact_mut(gradients.len()));
        let values = values.iter().map(|value| present(*value)).chain(bias.then_some(1.0));
        for ((sums, squares), value) in totals.zip(values) {
            for ((sum, squares), gradient) in sums.iter_mut().zip(squares).zip(gradients) {
                let part = value * f32::from_bits(gradient.load(Relaxed));
                *sum += part;
                *squares += part * part;
            }
        }
    }
}

/// Rows of a mini-batch. On three million flights the log loss is the same from 1 to 4096 rows and .0001 higher at
/// 8192, as long as a pass has a thousand mini-batches; on fewer than 30,000 rows 256 learn better than 1. From 2000
/// rows on threads work longer than they wait.
fn batch_rows(spec: &LinearSpec, pass_rows: usize) -> usize {
    match spec.batch_rows {
        0 => (pass_rows / 1000).clamp(256, 4096),
        rows => rows as usize,
    }
}

/// A missing value adds nothing.
#[inline]
fn present(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value }
}

/// Makes sure that no slot lies outside the table.
pub(crate) fn check(inputs: &Inputs, layout: &Layout) -> Result<(), LearnError> {
    let outside = inputs.slots.iter().copied().max().is_some_and(|most| u64::from(most) >> layout.table_bits > 0);
    if outside || inputs.slot_width != layout.slots.len() || inputs.dense_width != layout.dense.len() {
        let what = "slots or columns are not of the pipeline's layout".to_owned();
        return Err(inference::ModelError::Inputs { kind: LinearModel::KIND, what }.into());
    }
    Ok(())
}
