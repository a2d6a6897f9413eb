//! A network while it learns: one step from a batch of rows. A batch is cut into parts whose number does not depend on
//! threads; each part's gradient is computed by itself, and they are added in order. Knows neither epochs nor files.

use super::embeddings::{BatchSlopes, Embeddings};
use super::noise::{EVERY, Noise, squared_length};
use super::optimizer::{Adam, TASK, rate};
use super::plan::{NOTHING, Plan, plan};
use super::sparse;
use crate::error::LearnError;
use crate::fit::{Goal, Sample};
use crate::keyed::{Purpose, bits};
use inference::elementary::{ln, logistic, logit, softmax};
use inference::network::encode::Encoder;
use inference::network::tower::{Direction, LayerPlace, Slopes, Tower, Trace};
use inference::network::{Dense, Hidden, NetworkParts, Table};
use inference::{Link, NetworkModel};
use rayon::prelude::*;
use vocabulary::inputs::Layout;
use vocabulary::model::{NetworkSpec, Task};

/// Rows whose input vectors one task adds up for the baseline.
const BASELINE_ROWS: usize = 4096;

pub(super) struct Learner<'a> {
    pub spec: &'a NetworkSpec,
    pub goal: Goal,
    pub plan: Plan,
    seed: u64,
    scale: Scale,
    encoders: Vec<Encoder>,
    /// Where each slot's block begins in the gradients of a row's embeddings.
    offsets: Vec<usize>,
    /// All layers' numbers, in the order of the shape's places.
    pub weights: Vec<f32>,
    pub adam: Adam,
    pub tables: Vec<Embeddings>,
    pub noise: Noise,
    tower: Tower,
    parts: Vec<Part>,
    gradient: Vec<f32>,
}

/// A regression's target is brought to mean 0 and standard deviation 1, so that the same rates fit any unit.
struct Scale {
    mean: f64,
    deviation: f64,
}

/// A part of a batch: memory for its pass, and what it leaves.
#[derive(Clone, Default)]
struct Part {
    inputs: Vec<f32>,
    trace: Trace,
    slopes: Vec<f32>,
    gradient: Vec<f32>,
    embeddings: Vec<f32>,
}

/// A batch: places of rows in the sample, in the epoch's order.
pub(super) struct Batch<'a> {
    pub rows: &'a [u32],
    pub epoch: u32,
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
}

impl<'a> Learner<'a> {
    /// Begins with random numbers, or with those of `start`.
    pub fn new(
        spec: &'a NetworkSpec,
        goal: Goal,
        layout: &Layout,
        sample: &Sample,
        seed: u64,
        start: Option<&NetworkParts>,
    ) -> Result<Learner<'a>, LearnError> {
        let plan = start.map_or_else(|| plan(spec, goal, layout, sample, seed), |start| Ok(Plan::of(start)))?;
        let scale = match start {
            Some(start) => Scale { mean: start.mean, deviation: start.deviation },
            None => Scale::of(goal.task, &sample.target),
        };
        let weights = start.map_or_else(|| initial(&plan, goal, sample, seed), NetworkParts::weights);
        let mut learner = Learner::with(spec, goal, plan, scale, weights, seed);
        for (table, start) in learner.tables.iter_mut().zip(start.iter().flat_map(|start| &start.tables)) {
            table.weights.adopt(&start.weights);
        }
        Ok(learner)
    }

    /// Goes on from a network that has learned, of whatever shape it is.
    pub fn going_on(spec: &'a NetworkSpec, parts: &NetworkParts, seed: u64) -> Learner<'a> {
        let task = match parts.link {
            Link::Identity => Task::Regression,
            Link::Logistic => Task::Binary,
            Link::Softmax => Task::Multiclass,
        };
        let goal = Goal { task, outputs: parts.output.outputs as usize };
        let scale = Scale { mean: parts.mean, deviation: parts.deviation };
        let mut learner = Learner::with(spec, goal, Plan::of(parts), scale, parts.weights(), seed);
        for (table, known) in learner.tables.iter_mut().zip(&parts.tables) {
            table.weights.adopt(&known.weights);
        }
        learner
    }

    fn with(spec: &'a NetworkSpec, goal: Goal, plan: Plan, scale: Scale, weights: Vec<f32>, seed: u64) -> Learner<'a> {
        let widths = plan.slots.iter().map(|table| plan.tables[*table].dimension);
        let offsets = widths.scan(0, |at, width| Some(std::mem::replace(at, *at + width))).collect();
        let readers = |table: usize| (0..plan.slots.len()).filter(|slot| plan.slots[*slot] == table).collect();
        let tables: Vec<Embeddings> = plan
            .tables
            .iter()
            .enumerate()
            .map(|(at, table)| Embeddings::new(*table, readers(at), spec.embedding_storage))
            .collect();
        Learner {
            spec,
            goal,
            seed,
            scale,
            encoders: plan.numeric.iter().map(Encoder::new).collect(),
            offsets,
            adam: Adam::new(weights.len()),
            tables,
            noise: Noise::default(),
            tower: Tower::new(plan.shape.clone(), Direction::Both { inputs_from: plan.numeric_width }),
            parts: Vec::new(),
            gradient: vec![0.0; weights.len()],
            weights,
            plan,
        }
    }

    /// Rows of a part: the least that keeps the kernels busy, more where batches are large. It depends on the declaration
    /// alone.
    fn part_rows(&self) -> usize {
        (self.spec.batch_rows as usize / 8).clamp(64, 256)
    }

    pub fn step(&mut self, sample: &Sample, batch: &Batch) {
        let size = self.part_rows();
        let count = batch.rows.len().div_ceil(size);
        let mut parts = std::mem::take(&mut self.parts);
        parts.resize(count.max(parts.len()), Part::default());
        self.tower.load(&self.weights);
        let used = &mut parts[..count];
        used.par_iter_mut()
            .zip(batch.rows.par_chunks(size))
            .for_each(|(part, rows)| self.pass(sample, batch, rows, part));
        self.add_up(used);
        self.measure(used, batch, size);
        self.step_embeddings(sample, batch, used, size);
        self.parts = parts;
        let rate = rate(self.spec, batch.epoch, batch.step, batch.steps);
        self.adam.step(&mut self.weights, &self.gradient, rate);
        self.decay(rate);
        sparse::shrink(self.spec, &self.plan, &mut self.weights, rate);
    }

    /// Forward and backward for the rows of one part.
    fn pass(&self, sample: &Sample, batch: &Batch, rows: &[u32], part: &mut Part) {
        let Part { inputs, trace, slopes, gradient, embeddings } = part;
        let shape = &self.plan.shape;
        inputs.resize(rows.len() * shape.inputs, 0.0);
        for (row, out) in rows.iter().zip(inputs.chunks_exact_mut(shape.inputs.max(1))) {
            self.encode(sample, *row as usize, out);
        }
        let dropout = self.spec.dropout;
        let kept = (1.0 / (1.0 - dropout)) as f32;
        let silence = |layer: usize, row: usize, units: &mut [f32]| {
            let step = u64::from(batch.epoch) << 8 | layer as u64;
            silence(
                dropout,
                kept,
                |block| bits(self.seed, Purpose::Dropout, step, u64::from(rows[row]) << 16 | block),
                units,
            );
        };
        if dropout > 0.0 {
            self.tower.forward(inputs, rows.len(), trace, Some(&silence));
        } else {
            self.tower.forward(inputs, rows.len(), trace, None);
        }
        self.slopes(sample, batch, rows, &trace.outputs, slopes);
        gradient.resize(self.weights.len(), 0.0);
        self.tower.backward(
            inputs,
            rows.len(),
            trace,
            Slopes { sums: slopes, scale: kept },
            Some(gradient),
            embeddings,
        );
    }

    fn encode(&self, sample: &Sample, row: usize, out: &mut [f32]) {
        let mut at = 0;
        for (value, encoder) in sample.inputs.dense_row(row).iter().zip(&self.encoders) {
            let end = at + encoder.width();
            encoder.encode(*value, &mut out[at..end]);
            at = end;
        }
        for (id, table) in sample.inputs.slot_row(row).iter().zip(&self.plan.slots) {
            let table = &self.tables[*table];
            let end = at + table.plan.dimension;
            table.read(*id, &mut out[at..end]);
            at = end;
        }
    }

    /// Gradients of the mean loss by the outputs' sums: log loss, or half of the squared error.
    fn slopes(&self, sample: &Sample, batch: &Batch, rows: &[u32], sums: &[f32], out: &mut Vec<f32>) {
        out.clear();
        let outputs = self.plan.shape.outputs;
        let mut shares = vec![0.0; outputs];
        for (row, sums) in rows.iter().zip(sums.chunks_exact(outputs)) {
            let row = *row as usize;
            let weight =
                sample.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row])) / batch.rows.len() as f64;
            let target = sample.target[row];
            match self.goal.task {
                Task::Binary => out.push((weight * (logistic(f64::from(sums[0])) - target)) as f32),
                Task::Regression => {
                    let target = (target - self.scale.mean) / self.scale.deviation;
                    out.push((weight * (f64::from(sums[0]) - target)) as f32);
                }
                Task::Multiclass => {
                    shares.iter_mut().zip(sums).for_each(|(share, sum)| *share = f64::from(*sum));
                    softmax(&mut shares);
                    shares[target as usize] -= 1.0;
                    out.extend(shares.iter().map(|slope| (weight * slope) as f32));
                }
            }
        }
    }

    /// The batch's gradient: the parts' in order.
    fn add_up(&mut self, parts: &[Part]) {
        self.gradient.par_chunks_mut(TASK).enumerate().for_each(|(task, sums)| {
            let range = task * TASK..task * TASK + sums.len();
            sums.copy_from_slice(&parts[0].gradient[range.clone()]);
            for part in &parts[1..] {
                sums.iter_mut().zip(&part.gradient[range.clone()]).for_each(|(sum, slope)| *sum += slope);
            }
        });
    }

    fn measure(&mut self, parts: &[Part], batch: &Batch, size: usize) {
        let rows = batch.rows.len();
        if !batch.step.is_multiple_of(EVERY) || rows < 2 * size || !rows.is_multiple_of(size) {
            return;
        }
        // A part's gradient is its share of the batch's mean; its own mean is that times the number of parts.
        let count = parts.len() as f64;
        let lengths: Vec<f64> = parts.par_iter().map(|part| squared_length(&part.gradient)).collect();
        let small = lengths.iter().sum::<f64>() / count * count * count;
        self.noise.add(small, size, squared_length(&self.gradient), rows);
    }

    fn step_embeddings(&mut self, sample: &Sample, batch: &Batch, parts: &[Part], size: usize) {
        let (slot_width, inputs) = (sample.inputs.slot_width, &sample.inputs);
        let width = self.plan.shape.inputs - self.plan.numeric_width;
        let ids: Vec<u32> = batch.rows.iter().flat_map(|row| inputs.slot_row(*row as usize)).copied().collect();
        let slopes = |row: usize| &parts[row / size].embeddings[row % size * width..][..width];
        let slopes = BatchSlopes { ids: &ids, slot_width, offsets: &self.offsets, slopes: &slopes };
        let rate = self.spec.embedding_rate as f32;
        let step = u64::from(batch.epoch) << 32 | batch.step as u64;
        let seed = self.seed;
        self.tables.par_iter_mut().enumerate().for_each(|(at, table)| {
            let place = |row: usize, block: u64| (at as u64) << 48 | (row as u64) << 8 | block;
            table.step(&slopes, rate, |row, block| bits(seed, Purpose::Rounding, step, place(row, block)));
        });
    }

    /// Decoupled weight decay (Loshchilov and Hutter, ICLR 2019), of matrices alone.
    fn decay(&mut self, rate: f64) {
        if self.spec.weight_decay == 0.0 {
            return;
        }
        let factor = (1.0 - rate * self.spec.weight_decay) as f32;
        for LayerPlace { weights, .. } in self.plan.shape.places() {
            self.weights[weights].iter_mut().for_each(|weight| *weight *= factor);
        }
    }

    /// The network so far, with a baseline of zeros.
    pub fn parts(&self) -> NetworkParts {
        let mut layers = self.plan.shape.places().into_iter().map(|place| Dense {
            inputs: place.inputs as u32,
            outputs: place.outputs as u32,
            weights: self.weights[place.weights].to_vec(),
            bias: self.weights[place.bias].to_vec(),
        });
        let table = |table: &Embeddings| Table {
            ids: table.plan.ids,
            dimension: table.plan.dimension as u32,
            place: table.plan.place,
            weights: table.weights.to_f32(),
        };
        // The table of nothing is the last, so that the places of others stay.
        let read_table = |table: &usize| Some(*table as u32).filter(|_| self.plan.tables[*table] != NOTHING);
        let cross: Vec<Dense> = layers.by_ref().take(self.plan.shape.cross).collect();
        let mut rest: Vec<Dense> = layers.collect();
        let output = rest.split_off(self.plan.shape.hidden.len()).swap_remove(0);
        let hidden = rest.into_iter().zip(&self.plan.shape.hidden);
        NetworkParts {
            link: Link::of(self.goal.task),
            numeric: self.plan.numeric.clone(),
            tables: self.tables.iter().filter(|table| table.plan != NOTHING).map(table).collect(),
            slots: self.plan.slots.iter().map(read_table).collect(),
            cross,
            hidden: hidden.map(|(dense, units)| Hidden { dense, residual: units.residual }).collect(),
            output,
            mean: self.scale.mean,
            deviation: self.scale.deviation,
            baseline: vec![0.0; self.plan.shape.inputs],
        }
    }

    /// The network, with the mean input vector of the sample; what became zero by sparse groups is removed.
    pub fn finished(&self, layout: &Layout, sample: &Sample) -> Result<NetworkModel, LearnError> {
        let mut parts = NetworkParts { baseline: self.baseline(sample), ..self.parts() };
        if sparse::wanted(self.spec) {
            parts.shrink();
        }
        NetworkModel::new(parts, layout.clone()).map_err(|_| super::DIVERGED)
    }

    fn baseline(&self, sample: &Sample) -> Vec<f32> {
        let (rows, width) = (sample.inputs.rows, self.plan.shape.inputs);
        let sums = |task: usize| {
            let (mut sums, mut vector) = (vec![0.0f64; width], vec![0.0; width]);
            for row in task * BASELINE_ROWS..rows.min((task + 1) * BASELINE_ROWS) {
                self.encode(sample, row, &mut vector);
                sums.iter_mut().zip(&vector).for_each(|(sum, value)| *sum += f64::from(*value));
            }
            sums
        };
        let tasks: Vec<Vec<f64>> = (0..rows.div_ceil(BASELINE_ROWS)).into_par_iter().map(sums).collect();
        let sum = |at: usize| tasks.iter().map(|sums| sums[at]).sum::<f64>();
        (0..width).map(|at| (sum(at) / rows.max(1) as f64) as f32).collect()
    }
}

/// Sets a share of the units to zero and scales the others; four units by each draw of 64 bits.
fn silence(share: f64, kept: f32, draw: impl Fn(u64) -> u64, units: &mut [f32]) {
    let limit = (share * 65_536.0) as u64;
    for (block, units) in units.chunks_mut(4).enumerate() {
        let drawn = draw(block as u64);
        for (at, unit) in units.iter_mut().enumerate() {
            *unit = if drawn >> (16 * at) & 0xffff < limit { 0.0 } else { *unit * kept };
        }
    }
}

/// Uniform between +-sqrt(6 / inputs) before rectified units (He et al., ICCV 2015), +-sqrt(3 / inputs) before the
/// outputs, whose bias is what a model of no inputs would say; zero in cross layers, which then pass their inputs on.
pub(super) fn initial(plan: &Plan, goal: Goal, sample: &Sample, seed: u64) -> Vec<f32> {
    let places = plan.shape.places();
    let mut weights = vec![0.0; plan.shape.len()];
    for (layer, place) in places.iter().enumerate().skip(plan.shape.cross) {
        let spread = if layer + 1 == places.len() { 3.0 } else { 6.0 };
        let size = (spread / place.inputs.max(1) as f64).sqrt();
        for (at, weight) in weights[place.weights.clone()].iter_mut().enumerate() {
            let drawn = bits(seed, Purpose::NetworkWeights, layer as u64, at as u64) >> 11;
            *weight = (size * (drawn as f64 / (1u64 << 52) as f64 - 1.0)) as f32;
        }
    }
    let rows = sample.target.len().max(1) as f64;
    let bias = &mut weights[places[places.len() - 1].bias.clone()];
    match goal.task {
        Task::Regression => {}
        Task::Binary => bias[0] = logit((sample.target.iter().sum::<f64>() / rows).clamp(1e-4, 1.0 - 1e-4)) as f32,
        Task::Multiclass => {
            let mut counts = vec![1.0; goal.outputs];
            sample.target.iter().for_each(|class| counts[*class as usize] += 1.0);
            bias.iter_mut().zip(counts).for_each(|(bias, count)| *bias = ln(count / rows) as f32);
        }
    }
    weights
}

impl Scale {
    fn of(task: Task, target: &[f64]) -> Scale {
        if task != Task::Regression {
            return Scale { mean: 0.0, deviation: 1.0 };
        }
        let count = target.len().max(1) as f64;
        let mean = target.iter().sum::<f64>() / count;
        let variance = target.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / count;
        Scale { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
    }
}
