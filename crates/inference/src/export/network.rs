//! Networks: encodings of numbers, embeddings with their placing of ids, and the layers, in single precision as ours or
//! by 8-bit integers.

use super::graph::{Graph, OPSET_BITS};
use super::{Blocks, Sums};
use crate::import::onnx::proto::ElementType;
use crate::kernels::int8::SPAN_MIN;
use crate::network::quantized::Integers;
use crate::network::{Dense, NetworkParts, Numeric, Place, Table};
use std::ops::Range;

/// The sums before the link, scaled, in double precision. `integers` are the layers that multiply integers, in the order
/// of the way; empty where none does.
pub(super) fn sums(graph: &mut Graph, parts: &NetworkParts, integers: &[Option<Integers>], blocks: &Blocks) -> Sums {
    let ones = ones(graph, blocks);
    let first = input_vector(graph, parts, blocks).unwrap_or_else(|| no_columns(graph, blocks));
    let sums = Tower { graph, ones, integers, at: 0 }.run(parts, first);
    let sums = graph.cast(&sums, ElementType::Double);
    let (deviation, mean) = (graph.double(parts.deviation), graph.double(parts.mean));
    let scaled = graph.node("Mul", &[&sums, &deviation]);
    let outputs = parts.output.outputs as usize;
    Sums { name: graph.node("Add", &[&scaled, &mean]), link: parts.link, outputs }
}

/// A column of ones, as many as there are rows.
fn ones(graph: &mut Graph, blocks: &Blocks) -> String {
    let any = match (&blocks.dense, &blocks.slots) {
        (Some(dense), _) => {
            let column = graph.columns(dense, &[0]);
            graph.node("IsNaN", &[&column])
        }
        (None, slots) => {
            let column = graph.columns(slots.as_deref().unwrap_or_default(), &[0]);
            graph.node("Equal", &[&column, &column])
        }
    };
    let one = graph.float(1.0);
    graph.node("Where", &[&any, &one, &one])
}

/// The input vector of a network whose inputs have all been pruned.
fn no_columns(graph: &mut Graph, blocks: &Blocks) -> String {
    let block = blocks.dense.as_ref().or(blocks.slots.as_ref()).cloned().unwrap_or_default();
    let columns = graph.columns(&block, &[]);
    graph.cast(&columns, ElementType::Float)
}

fn input_vector(graph: &mut Graph, parts: &NetworkParts, blocks: &Blocks) -> Option<String> {
    let mut pieces = Vec::new();
    let mut at = 0;
    if let Some(dense) = &blocks.dense {
        let missing = graph.node("IsNaN", &[dense]);
        let zero = graph.float(0.0);
        let values = graph.node("Where", &[&missing, &zero, dense]);
        let mut entries = Entries::default();
        for (column, numeric) in parts.numeric.iter().enumerate() {
            entries.add(column, numeric, at);
            at += numeric.width();
        }
        entries.pieces(graph, &values, &mut pieces);
    }
    for (slot, table) in parts.slots.iter().enumerate() {
        let (Some(table), Some(slots)) = (table, &blocks.slots) else { continue };
        let table = &parts.tables[*table as usize];
        let id = graph.column(slots, slot);
        let width = table.dimension as usize;
        pieces.push((embedding(graph, table, &id), (at..at + width).collect()));
        at += width;
    }
    graph.arrange(&pieces)
}

/// The input vector's entries by kind, so that each kind is a handful of nodes for any number of columns.
#[derive(Default)]
struct Entries {
    plain: Vec<(usize, usize)>,
    /// Column, place, lower edge, slope, and the range that the share is kept in.
    linear: Vec<(usize, usize, [f32; 4])>,
    /// Column, place, frequency, and the part of a turn that is added.
    periodic: Vec<(usize, usize, f64, f64)>,
}

impl Entries {
    fn add(&mut self, column: usize, numeric: &Numeric, at: usize) {
        match numeric {
            Numeric::Unused => {}
            Numeric::Plain => self.plain.push((column, at)),
            Numeric::PiecewiseLinear { edges } => {
                let last = edges.len() - 2;
                for (place, pair) in edges.windows(2).enumerate() {
                    // The outer intervals go on where the value is outside.
                    let low = if place == 0 { f32::NEG_INFINITY } else { 0.0 };
                    let high = if place == last { f32::INFINITY } else { 1.0 };
                    let slope = 1.0 / (pair[1] - pair[0]);
                    self.linear.push((column, at + place, [pair[0], slope, low, high]));
                }
            }
            Numeric::Periodic { frequencies } => {
                // A cosine is a sine a quarter of a turn on.
                let waves = [0.0, 0.25].into_iter().flat_map(|turn| frequencies.iter().map(move |c| (*c, turn)));
                let places = waves.enumerate().map(|(place, (c, turn))| (column, at + place, f64::from(c), turn));
                self.periodic.extend(places);
            }
        }
    }

    fn pieces(&self, graph: &mut Graph, values: &str, pieces: &mut Vec<(String, Vec<usize>)>) {
        if !self.plain.is_empty() {
            let columns: Vec<usize> = self.plain.iter().map(|(column, _)| *column).collect();
            pieces.push((graph.columns(values, &columns), self.plain.iter().map(|(_, at)| *at).collect()));
        }
        if !self.linear.is_empty() {
            pieces.push((self.linear(graph, values), self.linear.iter().map(|(_, at, _)| *at).collect()));
        }
        if !self.periodic.is_empty() {
            pieces.push((self.periodic(graph, values), self.periodic.iter().map(|(_, at, ..)| *at).collect()));
        }
    }

    fn linear(&self, graph: &mut Graph, values: &str) -> String {
        let columns: Vec<usize> = self.linear.iter().map(|(column, ..)| *column).collect();
        let mut value = graph.columns(values, &columns);
        for (place, operator) in ["Sub", "Mul", "Max", "Min"].into_iter().enumerate() {
            let constant: Vec<f32> = self.linear.iter().map(|(_, _, numbers)| numbers[place]).collect();
            let constant = graph.floats(&[1, constant.len()], &constant);
            value = graph.node(operator, &[&value, &constant]);
        }
        value
    }

    fn periodic(&self, graph: &mut Graph, values: &str) -> String {
        let columns: Vec<usize> = self.periodic.iter().map(|(column, ..)| *column).collect();
        let value = graph.columns(values, &columns);
        let value = graph.cast(&value, ElementType::Double);
        let frequencies: Vec<f64> = self.periodic.iter().map(|(_, _, c, _)| *c).collect();
        let begins: Vec<f64> = self.periodic.iter().map(|(.., turn)| *turn).collect();
        let frequencies = graph.doubles(&[1, begins.len()], &frequencies);
        let begins = graph.doubles(&[1, begins.len()], &begins);
        let turns = graph.node("Mul", &[&value, &frequencies]);
        // What is left of a turn, exactly, however large the number.
        let whole = graph.node("Round", &[&turns]);
        let part = graph.node("Sub", &[&turns, &whole]);
        let part = graph.node("Add", &[&part, &begins]);
        let circle = graph.double(std::f64::consts::TAU);
        let angle = graph.node("Mul", &[&part, &circle]);
        let wave = graph.node("Sin", &[&angle]);
        graph.cast(&wave, ElementType::Float)
    }
}

fn embedding(graph: &mut Graph, table: &Table, id: &str) -> String {
    let width = table.dimension as usize;
    let weights = graph.floats(&[table.place.rows(table.ids), width], &table.weights);
    match table.place {
        Place::Direct => graph.gather(&weights, id),
        Place::Hashed { rows } => {
            let row = hashed(graph, id, rows);
            graph.gather(&weights, &row)
        }
        Place::QuotientRemainder { remainders } => {
            let count = graph.int(i64::from(remainders));
            let remainder = graph.node("Mod", &[id, &count]);
            let quotient = graph.node("Div", &[id, &count]);
            let second = graph.node("Add", &[&quotient, &count]);
            let (first, second) = (graph.gather(&weights, &remainder), graph.gather(&weights, &second));
            graph.node("Mul", &[&first, &second])
        }
    }
}

/// The row of [`Place::Hashed`], in 64-bit integers that never overflow.
fn hashed(graph: &mut Graph, id: &str, rows: u32) -> String {
    graph.needs_opset(OPSET_BITS);
    let first = mixed(graph, id, 16);
    let first = multiplied(graph, &first, 0x85eb_ca6b);
    let second = mixed(graph, &first, 13);
    let second = multiplied(graph, &second, 0xc2b2_ae35);
    let hash = mixed(graph, &second, 16);
    // Below 2^32 each; the product's upper half. A table has at most 2^28 rows.
    let rows = graph.int(i64::from(rows));
    let product = graph.node("Mul", &[&hash, &rows]);
    let word = graph.int(1 << 32);
    graph.node("Div", &[&product, &word])
}

/// `hash ^ (hash >> bits)`.
fn mixed(graph: &mut Graph, hash: &str, bits: u32) -> String {
    let by = graph.int(1 << bits);
    let shifted = graph.node("Div", &[hash, &by]);
    graph.node("BitwiseXor", &[hash, &shifted])
}

/// `hash * factor` modulo 2^32, by halves of the hash.
fn multiplied(graph: &mut Graph, hash: &str, factor: i64) -> String {
    let (half, word, factor) = (graph.int(1 << 16), graph.int(1 << 32), graph.int(factor));
    let high = graph.node("Div", &[hash, &half]);
    let low = graph.node("Mod", &[hash, &half]);
    let high = graph.node("Mul", &[&high, &factor]);
    let high = graph.node("Mod", &[&high, &half]);
    let high = graph.node("Mul", &[&high, &half]);
    let low = graph.node("Mul", &[&low, &factor]);
    let sum = graph.node("Add", &[&high, &low]);
    graph.node("Mod", &[&sum, &word])
}

/// The layers in the making.
struct Tower<'a> {
    graph: &'a mut Graph,
    ones: String,
    integers: &'a [Option<Integers>],
    /// The layer that comes next.
    at: usize,
}

impl Tower<'_> {
    fn run(mut self, parts: &NetworkParts, first: String) -> String {
        let mut value = first.clone();
        for dense in &parts.cross {
            let factor = self.affine(dense, &value);
            let crossed = self.graph.node("Mul", &[&first, &factor]);
            value = self.graph.node("Add", &[&crossed, &value]);
        }
        for layer in &parts.hidden {
            let sums = self.affine(&layer.dense, &value);
            let active = self.graph.node("Relu", &[&sums]);
            value = if layer.residual { self.graph.node("Add", &[&active, &value]) } else { active };
        }
        self.affine(&parts.output, &value)
    }

    fn affine(&mut self, dense: &Dense, value: &str) -> String {
        let integers = self.integers.get(self.at).and_then(Option::as_ref);
        self.at += 1;
        match integers {
            Some(integers) => self.whole(integers, value),
            None => self.single(dense, value),
        }
    }

    /// Each output as one chain of fused multiply-adds that begins at the bias, as ours: the bias is the weight of a first
    /// input that is 1, and after [`CHAIN`] inputs a new product begins with the sums so far, by a weight of 1 each.
    fn single(&mut self, dense: &Dense, value: &str) -> String {
        let (inputs, outputs) = (dense.inputs as usize, dense.outputs as usize);
        let first = inputs.min(CHAIN - 1);
        let weights = [dense.bias.as_slice(), &dense.weights[..first * outputs]].concat();
        let weights = self.graph.floats(&[first + 1, outputs], &weights);
        let part = if first < inputs { self.part(value, 0..first) } else { value.to_owned() };
        let part = self.graph.beside(&[&self.ones, &part]);
        let sums = self.graph.node("MatMul", &[&part, &weights]);
        if first == inputs {
            return sums;
        }
        let step = CHAIN - GROUP;
        let starts = (first..inputs).step_by(step);
        let blocks: Vec<Range<usize>> = starts.map(|from| from..inputs.min(from + step)).collect();
        let parts: Vec<String> = blocks.iter().map(|block| self.part(value, block.clone())).collect();
        let mut groups = Vec::new();
        for from in (0..outputs).step_by(GROUP) {
            let group = from..outputs.min(from + GROUP);
            let mut sums = self.part(&sums, group.clone());
            for (block, part) in blocks.iter().zip(&parts) {
                sums = self.went_on(dense, &group, block, [&sums, part]);
            }
            groups.push(sums);
        }
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        self.graph.beside(&groups)
    }

    /// Columns of a matrix.
    fn part(&mut self, value: &str, range: Range<usize>) -> String {
        self.graph.columns(value, &range.collect::<Vec<_>>())
    }

    /// The sums of some outputs after a further block of inputs.
    fn went_on(&mut self, dense: &Dense, group: &Range<usize>, block: &Range<usize>, parts: [&str; 2]) -> String {
        let count = group.len();
        let same = (0..count * count).map(|at| if at / count == at % count { 1.0 } else { 0.0 });
        let rows = dense.weights.chunks_exact(dense.outputs as usize).skip(block.start).take(block.len());
        let weights: Vec<f32> = same.chain(rows.flat_map(|row| &row[group.clone()]).copied()).collect();
        let weights = self.graph.floats(&[count + block.len(), count], &weights);
        let value = self.graph.beside(&parts);
        self.graph.node("MatMul", &[&value, &weights])
    }

    /// A layer of 8-bit integers in the steps of [`crate::kernels::int8`]. Whole numbers are multiplied as floating-point
    /// ones, which is exact: integer operators have one scale for all rows of a call.
    fn whole(&mut self, layer: &Integers, value: &str) -> String {
        let (inputs, outputs) = (layer.inputs, layer.scales.len());
        let mut value = value.to_owned();
        if !layer.factors.is_empty() {
            let factors = self.graph.floats(&[1, inputs], &layer.factors);
            value = self.graph.node("Mul", &[&value, &factors]);
        }
        let Steps { scale, inverse, zero } = match layer.range {
            Some(range) => {
                let (scale, inverse, zero) = range.steps();
                let [scale, inverse, zero] = [scale, inverse, zero as f32].map(|figure| self.graph.float(figure));
                Steps { scale, inverse, zero }
            }
            None => self.steps(&value),
        };
        let most = self.graph.float(255.0);
        let low = self.graph.node("Neg", &[&zero]);
        let high = self.graph.node("Sub", &[&most, &zero]);
        let steps = self.graph.node("Mul", &[&value, &inverse]);
        let raised = self.graph.node("Max", &[&steps, &low]);
        let kept = self.graph.node("Min", &[&raised, &high]);
        let whole = self.graph.node("Round", &[&kept]);
        let weights: Vec<f32> = layer.weights.iter().map(|weight| f32::from(*weight)).collect();
        let sums = if inputs <= EXACT_INPUTS {
            let weights = self.graph.floats(&[inputs, outputs], &weights);
            self.graph.node("MatMul", &[&whole, &weights])
        } else {
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let weights = self.graph.doubles(&[inputs, outputs], &weights);
            let whole = self.graph.cast(&whole, ElementType::Double);
            let sums = self.graph.node("MatMul", &[&whole, &weights]);
            self.graph.cast(&sums, ElementType::Float)
        };
        let scales = self.graph.floats(&[1, outputs], &layer.scales);
        let bias = self.graph.floats(&[1, outputs], &layer.bias);
        let scale = self.graph.node("Mul", &[&scale, &scales]);
        let scaled = self.graph.node("Mul", &[&sums, &scale]);
        self.graph.node("Add", &[&scaled, &bias])
    }

    /// Steps by the range of each row's own values.
    fn steps(&mut self, value: &str) -> Steps {
        let graph = &mut *self.graph;
        // From this version on, the axes of these sums are an input.
        graph.needs_opset(OPSET_BITS);
        let axes = graph.ints(&[1], &[1]);
        let [zero, one, most] = [0.0, 1.0, 255.0].map(|figure| graph.float(figure));
        let low = graph.node("ReduceMin", &[value, &axes]);
        let low = graph.node("Min", &[&low, &zero]);
        let high = graph.node("ReduceMax", &[value, &axes]);
        let high = graph.node("Max", &[&high, &zero]);
        let span = graph.node("Sub", &[&high, &low]);
        let least = graph.float(SPAN_MIN);
        let nothing = graph.node("Less", &[&span, &least]);
        let span = graph.node("Where", &[&nothing, &one, &span]);
        let scale = graph.node("Div", &[&span, &most]);
        let below = graph.node("Neg", &[&low]);
        let place = graph.node("Div", &[&below, &scale]);
        let place = graph.node("Round", &[&place]);
        let place = graph.node("Max", &[&place, &zero]);
        let place = graph.node("Min", &[&place, &most]);
        let inverse = graph.node("Div", &[&one, &scale]);
        let [scale, inverse, zero] =
            [&scale, &inverse, &place].map(|figure| graph.node("Where", &[&nothing, &zero, figure]));
        Steps { scale, inverse, zero }
    }
}

/// Inputs that ONNX Runtime's kernels for x86-64 sum in one chain (`MLAS_SGEMM_PACKED_STRIDEK`).
const CHAIN: usize = 256;

/// Outputs whose chains are carried on together; their sums take part in the next product, which costs as much as so
/// many inputs more.
const GROUP: usize = 64;

/// Scale, its inverse, and the place of 0 among the steps.
struct Steps {
    scale: String,
    inverse: String,
    zero: String,
}

/// So many products of whole numbers up to 255 and 127 stay below 2^24, where single precision is exact.
const EXACT_INPUTS: usize = (1 << 24) / (255 * 127);
