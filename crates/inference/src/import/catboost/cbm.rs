//! CatBoost's binary format: "CBM1", a length, and a FlatBuffer of that length whose fields CatBoost's `model.fbs` and
//! `features.fbs` number.

use super::flat::Table;
use super::{Float, Node, Nodes, Parts, Trees, refuse};
use crate::forest::{NanAs, ObliviousTree};
use crate::import::{Format, ImportError, Imported};
use serde_json::Value;

const FORMAT: Format = Format::CatboostCbm;

/// Fields of `TModelCore`.
mod head {
    pub const VERSION: usize = 0;
    pub const TREES: usize = 1;
    pub const INFO: usize = 2;
}

/// Fields of `TModelTrees`.
mod trees {
    pub const OUTPUTS: usize = 0;
    pub const SPLITS: usize = 1;
    pub const SIZES: usize = 2;
    pub const STARTS: usize = 3;
    pub const CATEGORICAL: usize = 4;
    pub const FLOATS: usize = 5;
    pub const ONE_HOT: usize = 6;
    pub const CTR: usize = 7;
    pub const LEAVES: usize = 8;
    pub const STEPS: usize = 10;
    pub const LEAF_OF_NODE: usize = 11;
    pub const TEXT: usize = 12;
    pub const ESTIMATED: usize = 13;
    pub const SCALE: usize = 14;
    pub const BIAS: usize = 15;
    pub const BIASES: usize = 16;
    pub const EMBEDDINGS: usize = 18;
}

/// Fields of `TFloatFeature`.
mod float {
    pub const FLAT: usize = 2;
    pub const BORDERS: usize = 3;
    pub const NAME: usize = 4;
    pub const NAN: usize = 5;
}

fn damaged(place: impl Into<String>, what: impl Into<String>) -> ImportError {
    ImportError::damaged(FORMAT, place, what)
}

pub fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    let length =
        bytes.get(4..8).map(|length| u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize);
    let buffer = length.and_then(|length| bytes.get(8..length.checked_add(8)?));
    let model = Table::root(buffer.ok_or_else(|| damaged("its beginning", "it is shorter than it announces"))?)?;
    if model.text(head::VERSION)? != Some("FlabuffersModel_v1") {
        return Err(damaged("its beginning", "it is not of the version FlabuffersModel_v1"));
    }
    let table = model.table(head::TREES)?.ok_or_else(|| damaged("the model", "it has no trees"))?;
    for (field, what) in [
        (trees::CATEGORICAL, "categorical features"),
        (trees::ONE_HOT, "one-hot features"),
        (trees::CTR, "statistics of categories (ctr)"),
        (trees::TEXT, "text features"),
        (trees::ESTIMATED, "estimated features"),
        (trees::EMBEDDINGS, "embedding features"),
    ] {
        if !table.tables(field)?.is_empty() {
            return Err(refuse(FORMAT, what));
        }
    }
    let mut floats = Vec::new();
    // All borders, feature by feature, are numbered.
    let mut borders: Vec<(usize, f32)> = Vec::new();
    for (number, feature) in table.tables(trees::FLOATS)?.into_iter().enumerate() {
        let its = feature.vector::<4>(float::BORDERS)?;
        // Features that share one list in the file would take more memory than the file has bytes.
        if borders.len() + its.len() > bytes.len() {
            return Err(damaged("the features", "they have more borders than the file has bytes"));
        }
        borders.extend(its.into_iter().map(|border| (number, f32::from_le_bytes(border))));
        floats.push(read_float(&feature)?);
    }
    let outputs = usize::try_from(table.int(trees::OUTPUTS, 0)?).unwrap_or(0).max(1);
    let read = read_trees(&table, &borders, outputs)?;
    let biases = table.vector::<8>(trees::BIASES)?;
    let bias = if biases.is_empty() {
        vec![table.double(trees::BIAS, 0.0)?; outputs.min(1 << 16)]
    } else {
        biases.into_iter().map(f64::from_le_bytes).collect()
    };
    let scale = table.double(trees::SCALE, 1.0)?;
    let (mut params, mut class_params) = (Value::Null, Value::Null);
    for pair in model.tables(head::INFO)? {
        let target = match pair.text(0)? {
            Some("params") => &mut params,
            Some("class_params") => &mut class_params,
            _ => continue,
        };
        *target = pair.text(1)?.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    }
    Parts { format: FORMAT, floats, outputs, trees: read, scale, bias, params, class_params }.import()
}

fn read_float(feature: &Table) -> Result<Float, ImportError> {
    let flat = usize::try_from(feature.int(float::FLAT, -1)?).map_err(|_| damaged("a feature", "it has no column"))?;
    let nan = match feature.byte(float::NAN, 0)? {
        0 | 1 => NanAs::Lowest,
        2 => NanAs::Highest,
        other => return Err(damaged("a feature", format!("{other} is no treatment of NaN"))),
    };
    Ok(Float { flat, name: feature.text(float::NAME)?.unwrap_or("").to_owned(), nan })
}

fn read_trees(table: &Table, borders: &[(usize, f32)], outputs: usize) -> Result<Trees, ImportError> {
    let ints = |field| Ok(table.vector::<4>(field)?.into_iter().map(i32::from_le_bytes).collect::<Vec<i32>>());
    let numbers = |field| -> Result<Vec<usize>, ImportError> {
        let ints: Result<Vec<i32>, ImportError> = ints(field);
        ints?
            .into_iter()
            .map(|int| usize::try_from(int).map_err(|_| damaged("the trees", "a number is below zero")))
            .collect()
    };
    let splits: Result<Vec<(usize, f32)>, ImportError> = numbers(trees::SPLITS)?
        .into_iter()
        .map(|split| {
            borders.get(split).copied().ok_or_else(|| damaged("the trees", format!("split {split} is unknown")))
        })
        .collect();
    let (splits, sizes) = (splits?, numbers(trees::SIZES)?);
    let values: Vec<f64> = table.vector::<8>(trees::LEAVES)?.into_iter().map(f64::from_le_bytes).collect();
    let steps = table.vector::<4>(trees::STEPS)?;
    if steps.is_empty() {
        return oblivious(&splits, &sizes, &values, outputs);
    }
    let leaves = table.vector::<4>(trees::LEAF_OF_NODE)?;
    // A node has two leaves at most, each with values of its own.
    if steps.len().checked_mul(outputs).is_none_or(|most| most > values.len().saturating_mul(2)) {
        return Err(damaged("the trees", "they have fewer leaves than nodes"));
    }
    let source = Steps { splits, steps, leaves, values, outputs };
    let starts = numbers(trees::STARTS)?;
    if starts.len() != sizes.len() {
        return Err(damaged("the trees", "their sizes and beginnings differ in number"));
    }
    if sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size)).is_none_or(|sum| sum > source.steps.len()) {
        return Err(damaged("the trees", "they have more nodes than the file holds"));
    }
    let free: Result<Vec<Nodes>, ImportError> =
        starts.into_iter().zip(sizes).enumerate().map(|(at, (start, size))| source.tree(at, start, size)).collect();
    Ok(Trees::Free(free?))
}

fn oblivious(splits: &[(usize, f32)], sizes: &[usize], values: &[f64], outputs: usize) -> Result<Trees, ImportError> {
    let (mut split, mut value) = (0usize, 0usize);
    let mut trees = Vec::with_capacity(sizes.len());
    for (at, size) in sizes.iter().enumerate() {
        let leaves = u32::try_from(*size).ok().and_then(|size| 1usize.checked_shl(size)?.checked_mul(outputs));
        let its_splits = split.checked_add(*size).and_then(|end| splits.get(split..end));
        let its_values = leaves.and_then(|leaves| values.get(value..value.checked_add(leaves)?));
        let (Some(its_splits), Some(its_values)) = (its_splits, its_values) else {
            return Err(damaged(format!("tree {at}"), "its splits or leaves are not all there"));
        };
        trees.push(ObliviousTree { splits: its_splits.to_vec(), values: its_values.to_vec() });
        (split, value) = (split + size, value + its_values.len());
    }
    Ok(Trees::Oblivious(trees))
}

/// Trees whose nodes say by how many nodes to step ahead; a step of 0 ends the walk.
struct Steps {
    splits: Vec<(usize, f32)>,
    steps: Vec<[u8; 4]>,
    leaves: Vec<[u8; 4]>,
    values: Vec<f64>,
    outputs: usize,
}

impl Steps {
    fn tree(&self, at: usize, start: usize, size: usize) -> Result<Nodes, ImportError> {
        let missing = || damaged(format!("tree {at}"), "its nodes are not all there");
        let end = start.checked_add(size).ok_or_else(missing)?;
        let steps = self.steps.get(start..end).ok_or_else(missing)?;
        let splits = self.splits.get(start..end).ok_or_else(missing)?;
        // A side that steps nowhere ends at this node's leaf; such leaves come behind the nodes.
        let mut nodes = Nodes::with_capacity(size);
        let mut ends = Nodes::new();
        for (node, (step, (float, border))) in steps.iter().zip(splits).enumerate() {
            let low = usize::from(u16::from_le_bytes([step[0], step[1]]));
            let high = usize::from(u16::from_le_bytes([step[2], step[3]]));
            if low == 0 && high == 0 {
                nodes.push(Node::Leaf(self.leaf(at, start + node)?));
                continue;
            }
            let mut child = |step: usize| -> Result<usize, ImportError> {
                if step > 0 {
                    return Ok(node + step);
                }
                ends.push(Node::Leaf(self.leaf(at, start + node)?));
                Ok(size + ends.len() - 1)
            };
            let (low, high) = (child(low)?, child(high)?);
            nodes.push(Node::Split { float: *float, border: *border, low, high });
        }
        nodes.extend(ends);
        Ok(nodes)
    }

    fn leaf(&self, at: usize, node: usize) -> Result<Vec<f64>, ImportError> {
        let first = self.leaves.get(node).map(|leaf| u32::from_le_bytes(*leaf) as usize);
        let values = first.and_then(|first| self.values.get(first..first.checked_add(self.outputs)?));
        values.map(<[f64]>::to_vec).ok_or_else(|| damaged(format!("tree {at}"), "a leaf has no value"))
    }
}
