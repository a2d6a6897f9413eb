//! Networks: encodings of numbers, embeddings with their placing of ids, and the layers, in single precision as ours.

use super::graph::{Graph, OPSET_BITS};
use super::{Blocks, Sums};
use crate::import::onnx::proto::ElementType;
use crate::network::{Dense, NetworkModel, NetworkParts, Numeric, Place, Table};

/// The sums before the link, scaled, in double precision.
pub(super) fn sums(graph: &mut Graph, model: &NetworkModel, blocks: &Blocks) -> Sums {
    let parts = model.parts();
    let outputs = parts.output.outputs as usize;
    let first = input_vector(graph, parts, blocks).unwrap_or_else(|| no_columns(graph, blocks));
    let last = tower(graph, parts, first);
    let sums = affine(graph, &parts.output, &last);
    let sums = graph.cast(&sums, ElementType::Double);
    let (deviation, mean) = (graph.double(parts.deviation), graph.double(parts.mean));
    let scaled = graph.node("Mul", &[&sums, &deviation]);
    Sums { name: graph.node("Add", &[&scaled, &mean]), link: parts.link, outputs }
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

fn tower(graph: &mut Graph, parts: &NetworkParts, first: String) -> String {
    let mut value = first.clone();
    for dense in &parts.cross {
        let factor = affine(graph, dense, &value);
        let crossed = graph.node("Mul", &[&first, &factor]);
        value = graph.node("Add", &[&crossed, &value]);
    }
    for layer in &parts.hidden {
        let sums = affine(graph, &layer.dense, &value);
        let active = graph.node("Relu", &[&sums]);
        value = if layer.residual { graph.node("Add", &[&active, &value]) } else { active };
    }
    value
}

fn affine(graph: &mut Graph, dense: &Dense, value: &str) -> String {
    let (inputs, outputs) = (dense.inputs as usize, dense.outputs as usize);
    let weights = graph.floats(&[inputs, outputs], &dense.weights);
    let bias = graph.floats(&[outputs], &dense.bias);
    graph.node("Gemm", &[value, &weights, &bias])
}
