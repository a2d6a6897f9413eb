//! What a network is made of, plain and readable: whoever quantizes, prunes, grows or exports one begins here. Knows
//! neither how it is evaluated nor how it was trained.

use crate::model::{Link, ModelError};
use vocabulary::inputs::Layout;

/// Numbers of one embedding table at most: 2^28 are 1 GiB.
pub const TABLE_NUMBERS_MAX: usize = 1 << 28;

/// Numbers of one embedding row at most: wider ones would cost more than they say (a judgement).
pub const DIMENSION_MAX: usize = 512;

/// Inputs, or units, of a layer at most (a judgement; a weight matrix of that size would be 4 GiB).
pub const WIDTH_MAX: usize = 1 << 15;

/// A row's way: each dense value is encoded and each slot looked up; these blocks side by side, dense columns before
/// slots, are the input vector x0. Cross layers, then hidden layers, then the output layer follow.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkParts {
    pub link: Link,
    /// How each dense column of the layout becomes numbers. A missing value (NaN) counts as 0, which is the mean: the
    /// pipeline standardises, and marks what was missing in a column of its own.
    pub numeric: Vec<Numeric>,
    /// Embedding tables.
    pub tables: Vec<Table>,
    /// The table that each slot of the layout reads; none for one that nothing reads any more.
    pub slots: Vec<Option<u32>>,
    /// DCN-v2 (Wang et al. 2021): x' = x0 * (x W + b) + x, with W of inputs x inputs.
    pub cross: Vec<Dense>,
    pub hidden: Vec<Hidden>,
    /// From the last hidden layer (or x) to one sum for each output.
    pub output: Dense,
    /// The answer's sum is `output * deviation + mean`; (0, 1) for a classification.
    pub mean: f64,
    pub deviation: f64,
    /// Mean of the input vector over the rows learned from: where reasons start from.
    pub baseline: Vec<f32>,
}

/// From one dense value to a block of inputs (Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep
/// Learning", NeurIPS 2022).
#[derive(Clone, Debug, PartialEq)]
pub enum Numeric {
    /// Nothing reads the column; a block of no inputs.
    Unused,
    /// The value itself.
    Plain,
    /// One input for each interval between neighbours of the ascending `edges`: 0 below it, 1 above it, the share
    /// passed inside. The first goes on below 0 and the last above 1, so that values outside still differ.
    PiecewiseLinear { edges: Vec<f32> },
    /// sin(2 pi c x) and cos(2 pi c x) for each frequency c: all sines, then all cosines.
    Periodic { frequencies: Vec<f32> },
}

impl Numeric {
    /// Inputs of the block.
    pub fn width(&self) -> usize {
        match self {
            Numeric::Unused => 0,
            Numeric::Plain => 1,
            Numeric::PiecewiseLinear { edges } => edges.len().saturating_sub(1),
            Numeric::Periodic { frequencies } => 2 * frequencies.len(),
        }
    }

    fn problem(&self) -> Option<&'static str> {
        match self {
            Numeric::Unused | Numeric::Plain => None,
            Numeric::PiecewiseLinear { edges } => {
                // Differences that overflow or vanish would make infinite or undefined shares.
                let apart = |pair: &[f32]| pair[1] > pair[0] && (1.0 / (pair[1] - pair[0])).is_normal();
                let good = edges.len() >= 2 && edges.iter().all(|e| e.is_finite()) && edges.windows(2).all(apart);
                (!good).then_some("edges that are not two or more, finite and ascending")
            }
            Numeric::Periodic { frequencies } => {
                let good = !frequencies.is_empty() && frequencies.iter().all(|c| c.is_finite());
                (!good).then_some("frequencies that are none or not finite")
            }
        }
    }
}

/// An embedding table: a vector of `dimension` numbers for each id below `ids`.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub ids: u32,
    pub dimension: u32,
    pub place: Place,
    /// Row-major, `place.rows(ids) * dimension`.
    pub weights: Vec<f32>,
}

/// Which stored rows an id's vector is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Each id has a row.
    Direct,
    /// An id reads the row of its hash; ids share rows at random.
    Hashed { rows: u32 },
    /// The row of `id % remainders` times the row of `id / remainders`, number by number: every id has its own vector
    /// (Shi et al., "Compositional Embeddings Using Complementary Partitions", KDD 2020). The remainders' rows are
    /// stored first.
    QuotientRemainder { remainders: u32 },
}

impl Place {
    /// Rows that are stored for `ids` ids.
    pub fn rows(self, ids: u32) -> usize {
        match self {
            Place::Direct => ids as usize,
            Place::Hashed { rows } => rows as usize,
            Place::QuotientRemainder { remainders } => {
                remainders as usize + (ids as usize).div_ceil(remainders.max(1) as usize)
            }
        }
    }

    /// The stored row of an id, and the one it is multiplied by.
    #[inline]
    pub fn of(self, id: u32) -> (usize, Option<usize>) {
        match self {
            Place::Direct => (id as usize, None),
            Place::Hashed { rows } => {
                // The finaliser of MurmurHash3 (Appleby, public domain), then the upper part of a product.
                let mut hash = id;
                hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
                hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
                hash ^= hash >> 16;
                (((u64::from(hash) * u64::from(rows)) >> 32) as usize, None)
            }
            Place::QuotientRemainder { remainders } => {
                ((id % remainders) as usize, Some((remainders + id / remainders) as usize))
            }
        }
    }
}

/// An affine map: `inputs` numbers to `outputs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    pub inputs: u32,
    pub outputs: u32,
    /// Row-major, `inputs * outputs`: the weights of one input lie together.
    pub weights: Vec<f32>,
    /// One for each output.
    pub bias: Vec<f32>,
}

/// A layer of rectified units: max(0, x W + b), to which a residual layer adds x.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    pub dense: Dense,
    pub residual: bool,
}

impl NetworkParts {
    /// Inputs of each block: dense columns, then slots.
    pub fn blocks(&self) -> Vec<usize> {
        let slot = |table: &Option<u32>| {
            table.and_then(|table| self.tables.get(table as usize)).map_or(0, |table| table.dimension as usize)
        };
        self.numeric.iter().map(Numeric::width).chain(self.slots.iter().map(slot)).collect()
    }

    /// Length of the input vector.
    pub fn width(&self) -> usize {
        self.blocks().iter().sum()
    }

    /// Weights, biases and embedding numbers.
    pub fn numbers(&self) -> usize {
        let dense = |dense: &Dense| dense.weights.len() + dense.bias.len();
        let layers = self.cross.iter().chain(self.hidden.iter().map(|layer| &layer.dense)).chain([&self.output]);
        layers.map(dense).sum::<usize>() + self.tables.iter().map(|table| table.weights.len()).sum::<usize>()
    }

    /// Checks every shape against the layout, and that all numbers are finite.
    pub fn check(&self, layout: &Layout) -> Result<(), ModelError> {
        self.check_inputs(layout)?;
        let width = self.width();
        if self.baseline.len() != width {
            return wrong(format!("a baseline of {} numbers for {width} inputs", self.baseline.len()));
        }
        if width > WIDTH_MAX {
            return wrong(format!(
                "{width} inputs; {WIDTH_MAX} are the most, lower learner.network.bins or embedding_width"
            ));
        }
        for dense in &self.cross {
            check_dense("cross", dense, width, Some(width))?;
        }
        let mut inputs = width;
        for layer in &self.hidden {
            check_dense("hidden", &layer.dense, inputs, layer.residual.then_some(inputs))?;
            inputs = layer.dense.outputs as usize;
        }
        check_dense("output", &self.output, inputs, None)?;
        if self.output.outputs != 1 && self.link != Link::Softmax {
            return wrong(format!("{} outputs under a link of one", self.output.outputs));
        }
        let finite = self.mean.is_finite()
            && self.deviation.is_finite()
            && self.deviation > 0.0
            && self.baseline.iter().all(|value| value.is_finite());
        if finite { Ok(()) } else { wrong("scale or baseline is not finite".to_owned()) }
    }

    fn check_inputs(&self, layout: &Layout) -> Result<(), ModelError> {
        if (self.numeric.len(), self.slots.len()) != (layout.dense.len(), layout.slots.len()) {
            return wrong(format!(
                "{} encodings and {} slots for {} dense columns and {} slots",
                self.numeric.len(),
                self.slots.len(),
                layout.dense.len(),
                layout.slots.len()
            ));
        }
        if let Some((column, problem)) =
            self.numeric.iter().zip(&layout.dense).find_map(|(n, c)| Some((c, n.problem()?)))
        {
            return wrong(format!("column \"{}\" has {problem}", column.name));
        }
        for table in &self.tables {
            let (rows, dimension) = (table.place.rows(table.ids), table.dimension as usize);
            let empty = matches!(table.place, Place::Hashed { rows: 0 } | Place::QuotientRemainder { remainders: 0 });
            if empty || rows.saturating_mul(dimension) > TABLE_NUMBERS_MAX || dimension > DIMENSION_MAX {
                return wrong(format!("a table of {rows} rows of {dimension} numbers"));
            }
            if table.weights.len() != rows * dimension {
                return wrong(format!("{} numbers in a table of {rows} rows of {dimension}", table.weights.len()));
            }
            if !table.weights.iter().all(|weight| weight.is_finite()) {
                return wrong("an embedding is not finite; lower learner.network.embedding_rate".to_owned());
            }
        }
        for (slot, table) in self.slots.iter().enumerate() {
            let Some(table) = table else { continue };
            let ids = slot_ids(layout, slot)?;
            match self.tables.get(*table as usize) {
                None => return wrong(format!("slot {slot} reads table {table} of {}", self.tables.len())),
                Some(known) if known.ids != ids => {
                    return wrong(format!("slot {slot} gives {ids} ids, its table is for {}", known.ids));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Ids that a slot of the layout can give.
pub fn slot_ids(layout: &Layout, slot: usize) -> Result<u32, ModelError> {
    if layout.tables.is_empty() {
        return match 1u32.checked_shl(u32::from(layout.table_bits)) {
            Some(ids) => Ok(ids),
            None => wrong(format!("a table of {} bits", layout.table_bits)),
        };
    }
    match layout.tables.get(slot) {
        Some(ids) => Ok(*ids),
        None => wrong(format!("{} tables for {} slots", layout.tables.len(), layout.slots.len())),
    }
}

fn check_dense(name: &str, dense: &Dense, inputs: usize, outputs: Option<usize>) -> Result<(), ModelError> {
    let found = (dense.inputs as usize, dense.outputs as usize);
    if found.0 != inputs || outputs.is_some_and(|outputs| outputs != found.1) || found.1 > WIDTH_MAX {
        return wrong(format!("a {name} layer from {} to {} after {inputs} numbers", found.0, found.1));
    }
    if dense.weights.len() != found.0 * found.1 || dense.bias.len() != found.1 {
        return wrong(format!("a {name} layer with {} weights and {} biases", dense.weights.len(), dense.bias.len()));
    }
    if dense.weights.iter().chain(&dense.bias).all(|weight| weight.is_finite()) {
        Ok(())
    } else {
        wrong(format!("a weight of a {name} layer is not finite; lower learner.network.learning_rate"))
    }
}

fn wrong<T>(what: String) -> Result<T, ModelError> {
    Err(ModelError::Parts { kind: super::NetworkModel::KIND, what })
}
